"""How a reward model on another server is called: what the operator writes in `PONDER_REWARD_MODELS`."""

import re
from typing import Annotated, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, HttpUrl, SecretStr, StringConstraints, model_validator

PLACEHOLDER = re.compile(r"\{(question|answer|step)\}")
"""What is replaced in a template."""

RewardModelName = Annotated[str, StringConstraints(pattern=r"^[a-z0-9_-]{1,64}$")]
"""The name that clients use for it."""


def plain_url(url: HttpUrl) -> HttpUrl:
    """Return the URL unchanged; raises `ValueError` where it holds a user, a password, a query or a fragment.

    Secrets in a URL would show in logs.
    """
    if url.username is not None or url.password is not None:
        message = "no user and no password in the URL; a key has its own place"
        raise ValueError(message)
    if url.query is not None or url.fragment is not None:
        message = "no query and no fragment in the URL"
        raise ValueError(message)
    return url


def header_value(key: SecretStr) -> SecretStr:
    """Return a key that a header can hold. Raises `ValueError`."""
    if not re.fullmatch(r"[\x21-\x7e]+", key.get_secret_value()):
        message = "a key is made of visible ASCII characters"
        raise ValueError(message)
    return key


class RewardModelOptions(BaseModel):
    """One reward model behind one of the pooling routes of vLLM, or of another server with the same routes."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False, hide_input_in_errors=True)

    url: Annotated[HttpUrl, AfterValidator(plain_url)] = Field(description="where the server is; the route is appended")
    route: Literal["classify", "score", "pooling"] = Field(
        description="`classify` reads the probability of a class, `score` the score of question and answer as a pair, `pooling` the last "
        "value of the last step (process reward models)"
    )
    model: str | None = Field(None, min_length=1, description="as the server calls it; vLLM needs none")
    api_key: Annotated[SecretStr, AfterValidator(header_value)] | None = Field(
        None, description="sent as `Authorization: Bearer`"
    )
    parameters: float | None = Field(
        None,
        gt=0,
        le=1e15,
        description="number of parameters of the reward model: 2 FLOPs are charged for each and each token; without it, none",
    )
    template: str = Field(
        "{question}\n\n{answer}", description="text that `classify` and `pooling` score; `{step}` is the last step alone"
    )
    label_index: int = Field(-1, description="class of the good answers, for `classify`; negative ones count from the last")
    activation: Literal["none", "sigmoid"] = Field(
        "none",
        description="`sigmoid` where the server answers with numbers beyond 0 and 1: the logistic function maps them into that range",
    )
    use_activation: bool | None = Field(
        None, description="handed to vLLM, which does what suits the model; `false` asks for the numbers as they are"
    )
    add_special_tokens: bool | None = Field(
        None, description="handed to vLLM, which adds them; `false` for a template that has its own"
    )
    timeout_seconds: float = Field(10, gt=0, le=600, description="for one try")
    retries: int = Field(2, ge=0, le=10, description="further tries after a broken connection, a time-out, 429 or 5xx")
    failures: int = Field(5, ge=1, description="failed scores in a row after which the server is not called for a while")
    rest_seconds: float = Field(30, gt=0, description="how long it is not called; then one request at a time tries it")
    max_reply_bytes: int = Field(1_048_576, ge=1024, description="longest reply that is read")

    @model_validator(mode="after")
    def _fits_the_route(self) -> "RewardModelOptions":
        texts = {"template", "add_special_tokens"}
        unused = {"classify": set(), "score": {*texts, "label_index"}, "pooling": {"label_index"}}[self.route]
        for name in sorted(unused & self.model_fields_set):
            message = f"{name} means nothing to the route {self.route}"
            raise ValueError(message)
        if not {"answer", "step"} & set(PLACEHOLDER.findall(self.template)):
            message = "template: there is neither {answer} nor {step} in it"
            raise ValueError(message)
        return self

    @property
    def address(self) -> str:
        """The URL of the route."""
        return f"{str(self.url).rstrip('/')}/{self.route}"
