"""What is known of a stored version: its manifest, and the versions that lie on disk under one name."""

from dataclasses import dataclass

from pydantic import AliasChoices, BaseModel, ConfigDict, Field

from adapters.verifier_prompt import VerifierPrompt

MANIFEST_FILE = "manifest.json"
"""The file in a version's folder that says what it is."""


class AdapterVersion(BaseModel):
    """The manifest of one version.

    Attributes:
        name: of the adapter.
        version: SHA-256 of the content: the config that is served, the weights, and `ponder.json` and the chat template
            where it came with them.
        target_modules: those that it has tensors for.
        parameters: how many numbers its tensors have; each costs two FLOPs a token.
        base_model: the model that it was checked against.
        declared_base: the model that its own config names.
        size: of its weights, in bytes.
        created: when it was added, ISO 8601.
        source: where it came from, such as `upload:files`.
        verifier_prompt: how it was trained to be asked for a score; None when it does not say.
        chat_template: the text of its own chat template; None where conversations are written with the base model's.

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
    # ponder 0.1 wrote it as `inquiry`.
    verifier_prompt: VerifierPrompt | None = Field(None, validation_alias=AliasChoices("verifier_prompt", "inquiry"))
    chat_template: str | None = None

    @property
    def id(self) -> str:
        """The version as a model's name, shortened: `name:sha8`."""
        return f"{self.name}:{self.version[:8]}"

    @property
    def key(self) -> str:
        """The version as a model's name, in full."""
        return f"{self.name}:{self.version}"


@dataclass(frozen=True, slots=True)
class StoredAdapter:
    """What is on disk under one name.

    `current` is the hash of the version that the name stands for, None while it is not served.
    """

    name: str
    versions: tuple[AdapterVersion, ...]
    current: str | None
