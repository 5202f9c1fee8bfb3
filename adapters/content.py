"""The content of a version's folder: its files are read and checked together, written again, and hashed."""

import hashlib
from dataclasses import dataclass
from pathlib import Path

from adapters.chat_template import CHAT_TEMPLATE_FILE, read_chat_template
from adapters.config import CONFIG_FILE, AdapterConfig, read_config
from adapters.errors import AdapterRefused
from adapters.verifier_prompt import PONDER_CONFIG_FILE, PonderConfig, VerifierPrompt, read_ponder_config
from adapters.weights import WEIGHTS_FILE, BaseModel, Weights, read_weights

_WITH_PONDER_CONFIG = b"\xff" * 8
"""Start of a hash that covers a `ponder.json`. No config has this length, so that no two contents with and without one
hash alike."""

_WITH_CHAT_TEMPLATE = b"\xff" * 7 + b"\xfe"
"""The same for a `chat_template.jinja`."""


@dataclass(frozen=True, slots=True)
class Content:
    """What the files of a version say. `ponder_config` and `chat_template` are None where there is no such file."""

    config: AdapterConfig
    weights: Weights
    ponder_config: PonderConfig | None
    chat_template: str | None = None

    @property
    def verifier_prompt(self) -> VerifierPrompt | None:
        """How the adapter is asked for a score, None when it does not say."""
        return None if self.ponder_config is None else self.ponder_config.verifier_prompt

    def write(self, folder: Path) -> None:
        """Write all files but the weights again, from what was checked, so that nothing unchecked is ever served."""
        (folder / CONFIG_FILE).write_bytes(self.config.normalised())
        if self.ponder_config is not None:
            (folder / PONDER_CONFIG_FILE).write_bytes(self.ponder_config.canonical())
        if self.chat_template is not None:
            (folder / CHAT_TEMPLATE_FILE).write_bytes(self.chat_template.encode())


def read_content(folder: Path, base: BaseModel, max_rank: int) -> Content:
    """Return the content of the folder, which must fit the base model. Of the weights only the headers are read.

    Raises `AdapterRefused`.
    """
    config = read_config(folder / CONFIG_FILE)
    if config.r > max_rank:
        raise AdapterRefused(
            f"{CONFIG_FILE}: `r`: rank {config.r} is above {max_rank}, the highest that this server has room for.",
            parameter=f"{CONFIG_FILE}:r",
        )
    ponder_config = read_ponder_config(folder / PONDER_CONFIG_FILE)
    chat_template = read_chat_template(folder / CHAT_TEMPLATE_FILE)
    return Content(config, read_weights(folder / WEIGHTS_FILE, config, base), ponder_config, chat_template)


def digest(folder: Path, *, has_ponder_config: bool, has_chat_template: bool) -> str:
    """Return the SHA-256 of a version: over its chat template and `ponder.json` where it should have them, the config, and the weights.

    The length of each small file is hashed before it, so that bytes cannot move from one file to another without
    changing the hash.
    """
    found = hashlib.sha256()
    if has_chat_template:
        found.update(_WITH_CHAT_TEMPLATE + _with_length(folder / CHAT_TEMPLATE_FILE))
    if has_ponder_config:
        found.update(_WITH_PONDER_CONFIG + _with_length(folder / PONDER_CONFIG_FILE))
    found.update(_with_length(folder / CONFIG_FILE))
    with (folder / WEIGHTS_FILE).open("rb") as file:
        while block := file.read(1 << 20):
            found.update(block)
    return found.hexdigest()


def _with_length(path: Path) -> bytes:
    content = path.read_bytes()
    return len(content).to_bytes(8, "little") + content
