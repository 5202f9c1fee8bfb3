"""What an adapter says of itself to ponder, in an optional `ponder.json`: how it was taught to be asked for a verdict.

A judge is right only when it is asked in the words that it was trained with, so those travel with its weights. Data only: the
placeholders of a template are replaced by text, and nothing in it is formatted or interpreted.
"""

import json
import re
from pathlib import Path
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, ValidationInfo, field_validator

from adapters.documents import read_document

NOTES_FILE = "ponder.json"
MAX_NOTES_BYTES = 65_536

PLACEHOLDERS = ("question", "answer", "step")

_PLACEHOLDER = re.compile(r"\{([^\W\d]\w*)\}")

Word = Annotated[str, Field(min_length=1, max_length=64)]


class VerifierPrompt(BaseModel):
    """How the adapter is asked whether an answer, or its last step, is right.

    Attributes:
        template: with `{answer}` (and `{question}`, `{step}`) in it, the whole prompt; without, what follows the answer.
        yes: the word that says so, `no` its opposite.

    """

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    template: Annotated[str, Field(min_length=1, max_length=8192)]
    yes: Word
    no: Word

    @field_validator("template")
    @classmethod
    def _has_known_placeholders(cls, template: str) -> str:
        found = _PLACEHOLDER.findall(template)
        if unknown := [name for name in found if name not in PLACEHOLDERS]:
            known = ", ".join(f"{{{name}}}" for name in PLACEHOLDERS)
            message = f"there is no placeholder {{{unknown[0][:64]}}}; there are {known}"
            raise ValueError(message)
        if found and "answer" not in found:
            message = f"{{{found[0]}}} without {{answer}}: a template is a whole prompt with it, or follows the answer"
            raise ValueError(message)
        return template

    @field_validator("no")
    @classmethod
    def _differs(cls, no: str, info: ValidationInfo) -> str:
        if no == info.data.get("yes"):
            message = "it is the same word as `yes`"
            raise ValueError(message)
        return no


class Notes(BaseModel):
    """The whole file."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    inquiry: VerifierPrompt

    def normalised(self) -> bytes:
        """The file to keep: only what was checked, always spelled alike."""
        return json.dumps(self.model_dump(), indent=2).encode()


def read_notes(path: Path) -> Notes | None:
    """The checked notes, None where there are none; raises `AdapterRefused` naming the field."""
    return read_document(Notes, path, MAX_NOTES_BYTES) if path.exists() else None
