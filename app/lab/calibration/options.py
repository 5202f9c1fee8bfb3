"""The options of `ponder calibrate`, from which the command and its help are made."""

from pathlib import Path

from pydantic import BaseModel, Field

from app.settings import DEFAULT_MODEL


class CalibrateOptions(BaseModel):
    """Measure what each plan costs and brings on questions with known answers; kill it whenever you like, and start it again."""

    data: Path = Field(
        description="questions: JSON lines with `messages` and an `answer` or a `verifier`; `task` and `bin` go into the report"
    )
    out: Path = Field(description="folder of the result: the pool of answers, and what is made of it")
    model: str = Field(DEFAULT_MODEL, description="base: the embedded model, or a folder")
    adapter: Path | None = Field(None, description="folder of the adapter that answers")
    verifier: Path | None = Field(None, description="folder of an adapter that judges")
    samples: int = Field(16, ge=1, le=64, description="answers to each question, beside a greedy one")
    mended: int = Field(
        7, ge=0, le=63, description="of these, answers that are gone on with where a line is false, beside the greedy one"
    )
    attempts: int = Field(3, ge=1, le=64, description="the most times that each of them may begin or go on; 1: none is mended")
    temperature: float = Field(0.7, gt=0, le=2, description="of sampling")
    max_tokens: int = Field(384, ge=1, description="the most that an answer may have")
    searches: tuple[str, ...] = Field(
        ('beam_search n=4 verifier=equations separator="\\n"',),
        description="searches to run once on each question beside the pool: `strategy name=value …`, separated by commas",
    )
    dry_run: bool = Field(False, description="say how long it will take here, from a few of the questions, and do nothing else")
    concurrency: int = Field(4, ge=1, le=64, description="questions that are asked at a time")
