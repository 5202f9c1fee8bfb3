"""What a version's folder holds: its files read and checked together, written anew, and hashed."""

import hashlib
from dataclasses import dataclass
from pathlib import Path

from adapters.config import CONFIG_FILE, AdapterConfig, read_config
from adapters.errors import AdapterRefused
from adapters.verifier_prompt import NOTES_FILE, Notes, VerifierPrompt, read_notes
from adapters.weights import WEIGHTS_FILE, BaseModel, Weights, read_weights

_WITH_NOTES = b"\xff" * 8
"""What a hash begins with where there are notes: no length of a config, so that nothing hashes alike with and without."""


@dataclass(frozen=True, slots=True)
class Content:
    """What the files say. `notes` are optional."""

    config: AdapterConfig
    weights: Weights
    notes: Notes | None

    @property
    def inquiry(self) -> VerifierPrompt | None:
        """How it is asked for a verdict, None when it does not say."""
        return None if self.notes is None else self.notes.inquiry

    def write(self, folder: Path) -> None:
        """Write what is served, the weights apart: nothing that was not checked, so that nothing else can matter."""
        (folder / CONFIG_FILE).write_bytes(self.config.normalised())
        if self.notes is not None:
            (folder / NOTES_FILE).write_bytes(self.notes.normalised())


def read_content(folder: Path, base: BaseModel, max_rank: int) -> Content:
    """What is in the folder, which must fit the base model; of the weights the headers only. Raises `AdapterRefused`."""
    config = read_config(folder / CONFIG_FILE)
    if config.r > max_rank:
        raise AdapterRefused(
            f"{CONFIG_FILE}: `r`: rank {config.r} is above {max_rank}, the highest that this server has room for.",
            parameter=f"{CONFIG_FILE}:r",
        )
    notes = read_notes(folder / NOTES_FILE)
    return Content(config, read_weights(folder / WEIGHTS_FILE, config, base), notes)


def digest(folder: Path, *, has_notes: bool) -> str:
    """SHA-256 over the notes where it should have some, the config, and the weights; lengths come first."""
    found = hashlib.sha256()
    if has_notes:
        found.update(_WITH_NOTES + _measured(folder / NOTES_FILE))
    found.update(_measured(folder / CONFIG_FILE))
    with (folder / WEIGHTS_FILE).open("rb") as file:
        while block := file.read(1 << 20):
            found.update(block)
    return found.hexdigest()


def _measured(path: Path) -> bytes:
    content = path.read_bytes()
    return len(content).to_bytes(8, "little") + content
