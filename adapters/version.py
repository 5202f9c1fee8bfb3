"""What is known of a version: its manifest, and what lies on disk under one name."""

from dataclasses import dataclass

from pydantic import BaseModel as Model
from pydantic import ConfigDict

from adapters.verifier_prompt import VerifierPrompt


class AdapterVersion(Model):
    """The manifest of one version.

    Attributes:
        version: SHA-256 of the config that is served, the weights, and the notes where there are some.
        target_modules: those that it has tensors for.
        parameters: numbers in its tensors; two FLOPs each for every token.
        base_model: what it was checked against, `declared_base` what it says itself.
        size: bytes of its weights.
        created: when it came here, ISO 8601; `source` whence.
        inquiry: how it was taught to be asked for a verdict; None when it does not say.

    """

    model_config = ConfigDict(frozen=True, extra="ignore")

    name: str
    version: str
    rank: int
    alpha: float
    use_rslora: bool
    target_modules: tuple[str, ...]
    parameters: int
    dtype: str
    base_model: str
    declared_base: str | None
    size: int
    created: str
    source: str
    inquiry: VerifierPrompt | None = None

    @property
    def id(self) -> str:
        """As a model's name: `name:sha8`."""
        return f"{self.name}:{self.version[:8]}"

    @property
    def key(self) -> str:
        """The same in full."""
        return f"{self.name}:{self.version}"


@dataclass(frozen=True, slots=True)
class Shelf:
    """What is on disk under one name."""

    name: str
    versions: tuple[AdapterVersion, ...]
    current: str | None
