"""The optional `ponder.json` of an adapter: how a verifier was trained to be asked for a score.

A verifier's scores are right only for the prompt that it was trained with, so the prompt travels with the weights. It
is data only: the placeholders of the template are replaced by text, and nothing in it is formatted or interpreted.
"""

import json
import re
from pathlib import Path
from typing import Annotated

from pydantic import AliasChoices, BaseModel, ConfigDict, Field, ValidationInfo, field_validator

from adapters.documents import read_document

PONDER_CONFIG_FILE = "ponder.json"
MAX_PONDER_CONFIG_BYTES = 65_536

OLD_KEY = "inquiry"
"""What ponder 0.1 called `verifier_prompt`."""

PLACEHOLDERS = ("question", "answer", "step")

_PLACEHOLDER = re.compile(r"\{([^\W\d]\w*)\}")

Word = Annotated[str, Field(min_length=1, max_length=64)]


class VerifierPrompt(BaseModel):
    """How the adapter is asked whether an answer, or its last step, is right.

    Attributes:
        template: the whole prompt, where it contains `{answer}` (and `{question}`, `{step}`); otherwise the text after
            the answer.
        yes: the word that the adapter continues with when the answer is right.
        no: the word that it continues with otherwise.

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


class PonderConfig(BaseModel):
    """The content of `ponder.json`."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    verifier_prompt: VerifierPrompt = Field(validation_alias=AliasChoices("verifier_prompt", OLD_KEY))

    def to_json(self) -> str:
        """Return the text of a file that says this."""
        return json.dumps(self.model_dump(), indent=2)

    def canonical(self) -> bytes:
        """Return the file as the store keeps it: only what was checked, always in the same spelling.

        The store writes the old key. A version's id is the hash of its files, so that any other spelling would give a
        known adapter a new id when it comes again.
        """
        return json.dumps({OLD_KEY: self.verifier_prompt.model_dump()}, indent=2).encode()


def read_ponder_config(path: Path) -> PonderConfig | None:
    """Return the checked content of the file, None where there is no file; raises `AdapterRefused` naming the field."""
    return read_document(PonderConfig, path, MAX_PONDER_CONFIG_BYTES) if path.exists() else None
