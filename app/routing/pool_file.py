"""The format of a pool: answers to questions, sampled once, from which every sampling strategy can be replayed.

It is a file of JSON lines. The first line holds the settings of the sampling, and each other line one question with its answers.
Keys that older versions of ponder wrote are still read. `ponder calibrate` fills pools, and so does a server that calibrates live.
"""

from typing import Any

from pydantic import AliasChoices, BaseModel, ConfigDict, Field, field_validator

from app.engine.architecture import Architecture
from strategies.core.thinking import Thinking

POOL = "pool.jsonl"
"""The name of the file in its folder."""

VERSION = 3
"""The version of the format. It is raised when the meaning of a key changes."""

DECIMALS = 4
"""The decimals of log-probabilities, confidences and scores in the file."""


class Value(BaseModel):
    """A line of a file, or a part of one."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class PoolSettings(Value):
    """Everything besides the question that decides which answers are sampled.

    Attributes:
        model: the name of the base model that answers.
        adapter: the hash of the adapter's version, None for the base model alone.
        architecture: as `Architecture.to_dict` writes it, with the adapter's parameters.
        samples: the number of answers to each question at `temperature`. There is one greedy answer besides.
        backtracked: the number of samples that backtrack at false lines. The greedy answer does so too.
        attempts: how often such an answer is begun or continued, at most.
        verifier: the hash of the adapter that scored the samples, None where they have no scores.
        alternatives: the most probable tokens that the confidence in a token is the mean of, 0 where the pool has no confidences.
        is_labelled: whether the answers were graded: the data said what is right, and this was used.
        first_tokens: the number of the greedy answer's first tokens whose margins and entropies are recorded, 0 in older pools.

    """

    version: int = VERSION
    model: str
    adapter: str | None
    architecture: dict[str, Any]
    samples: int
    temperature: float
    max_tokens: int
    backtracked: int = Field(0, validation_alias=AliasChoices("backtracked", "mended"))
    attempts: int = 1
    verifier: str | None = None
    alternatives: int = 0
    is_labelled: bool = True
    first_tokens: int = 0

    @field_validator("architecture")
    @classmethod
    def _read_architecture(cls, value: dict[str, Any]) -> dict[str, Any]:
        """Bring the form of older pools into the present one, so that they can be compared."""
        return Architecture.from_dict(value).to_dict()

    @property
    def flops(self) -> Architecture:
        """The architecture of the model with the adapter that answers, which computes the FLOPs."""
        return Architecture.from_dict(self.architecture)


class Generation(Value):
    """What one branch generated.

    Attributes:
        lengths: the characters of each token.
        logprobs: the log-probability of each token.
        confidences: the confidence in each token (`strategies.voting.confidence`), None for one without alternatives; empty in a pool
            without confidences.
        cached: the number of tokens of its prefix that were in the prefix cache.
        is_right: whether the answer that ends with it is right; False in a pool that is not labelled.

    """

    text: str
    token_ids: tuple[int, ...]
    lengths: tuple[int, ...]
    logprobs: tuple[float, ...]
    confidences: tuple[float | None, ...] = ()
    finish_reason: str
    stop_reason: int | str | None
    cached: int
    is_right: bool


class Continuation(Generation):
    """An attempt after the first one. It was generated to its end, even where it has another false line.

    Attributes:
        kept_tokens: the number of tokens of the answer before it: those kept of earlier attempts, and those inserted.
        inserted: the text that the calculator inserted before it.
        inserted_ids: the tokens of that text.

    """

    kept_tokens: int = Field(validation_alias=AliasChoices("kept_tokens", "said"))
    inserted: str = Field("", validation_alias=AliasChoices("inserted", "given"))
    inserted_ids: tuple[int, ...] = Field((), validation_alias=AliasChoices("inserted_ids", "given_ids"))


class Sample(Generation):
    """One answer.

    Attributes:
        score: the verifier's, 0 to 1; None for a pool without a verifier.
        continuations: later attempts, each of which continues the one before it.
        margins: of the first tokens of a greedy answer: how much more probable each is than the next one (`strategies.voting.confidence`).
        entropies: of the same tokens.

    """

    score: float | None = None
    continuations: tuple[Continuation, ...] = Field((), validation_alias=AliasChoices("continuations", "later"))
    margins: tuple[float, ...] = ()
    entropies: tuple[float, ...] = ()


class ThinkingMarks(Value):
    """How the model marks its thinking in the answers to a question.

    Attributes:
        start: the text that begins the thinking.
        end: the text that ends it.
        is_open: whether the prompt ends inside the thinking.

    """

    start: str
    end: str
    is_open: bool

    @property
    def thinking(self) -> Thinking:
        """The marks as strategies read them."""
        return Thinking(self.start, self.end, is_open=self.is_open)


class PoolEntry(Value):
    """A question with its answers.

    Attributes:
        key: identifies the question.
        kind: the kind of its answer.
        task: the family of the question, if the data name one.
        bin: the difficulty in the data, if they have one.
        prefix: the token ids of the rendered prompt.
        greedy: the answer at temperature 0.
        verify_flops: the verifier's FLOPs for all samples together.
        thinking: None where the model does not think.

    """

    key: str
    question: str
    kind: str
    task: str
    bin: int
    prefix: tuple[int, ...]
    greedy: Sample
    samples: tuple[Sample, ...]
    verify_flops: int = 0
    thinking: ThinkingMarks | None = None

    @property
    def answers(self) -> tuple[Sample, ...]:
        """The greedy answer and the samples."""
        return (self.greedy, *self.samples)

    @property
    def generations(self) -> tuple[Generation, ...]:
        """Of each answer, its attempts in their order."""
        return tuple(one for answer in self.answers for one in (answer, *answer.continuations))
