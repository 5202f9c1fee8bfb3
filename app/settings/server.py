"""Settings of the server: its address and keys, and the limits of what callers may ask and keep."""

from pathlib import Path
from typing import Annotated, ClassVar, Self

from pydantic import (
    AfterValidator,
    BaseModel,
    Field,
    model_validator,
)

from app.settings.values import Words, host_names, is_loopback
from strategies.core.thinking import LONGEST_LANDING

# `help_group` is the title of the class's options on the help page of `ponder serve`.


class AddressSettings(BaseModel):
    """Where a server listens, the keys of its callers, and how it ends."""

    help_group: ClassVar[str] = "Server"

    host: str = Field("127.0.0.1", description="address to listen on; an address that others can reach needs API keys")
    port: int = Field(8000, ge=0, le=65_535, description="port to listen on; 0 takes a free one")
    api_keys: Words = Field(
        (), description="keys for inference, separated by commas; without keys, only a loopback address is served"
    )
    drain_seconds: float = Field(30, ge=0, description="seconds that running requests may take to end after SIGTERM")

    @model_validator(mode="after")
    def _check_keys_for_open_host(self) -> Self:
        if not self.api_keys and not is_loopback(self.host):
            message = f"host {self.host} is reachable by others: set PONDER_API_KEYS, or listen on 127.0.0.1"
            raise ValueError(message)
        return self


class ServerSettings(AddressSettings):
    """Who else may call the server, and how."""

    help_group: ClassVar[str] = "Server"

    admin_keys: Words = Field(
        (),
        description="keys for `/metrics` and administration, separated by commas; without keys, both are open to every caller",
    )
    cors_origins: Words = Field(
        (),
        description="origins whose web pages may call this server, such as `https://chat.example`, separated by commas; `*` for all, "
        "which needs API keys",
    )
    root_path: str = Field(
        "", pattern=r"^(/[A-Za-z0-9_.~-]+)*$", description="path under which a proxy serves this server, such as `/ponder`"
    )
    playground: bool = Field(True, description="serve the web page at `/playground`")
    strict_fields: bool = Field(False, description="refuse a field that this server does not know, instead of ignoring it")
    keep_alive_seconds: float = Field(5, gt=0, description="seconds of silence in a stream after which a comment is sent")


class LimitSettings(BaseModel):
    """The limits of a request, of an API key and of the whole server."""

    help_group: ClassVar[str] = "Limits"

    max_body_bytes: int = Field(4_194_304, ge=1024, description="largest request body, in bytes")
    max_prompt_chars: int = Field(1_000_000, ge=1, description="longest prompt in characters, before it is tokenised")
    max_n: int = Field(64, ge=1, le=1024, description="most branches that one prompt of a request may run at the same time")
    max_tokens: int = Field(8192, ge=1, description="most tokens that one answer may generate")
    default_max_tokens: int = Field(2048, ge=1, description="most tokens of one answer when the request names no limit")
    max_request_tokens: int = Field(
        131_072, ge=1, description="most tokens that all candidates of one request may generate together"
    )
    max_request_flops: int | None = Field(None, ge=1, description="most FLOPs that one request may spend")
    max_request_seconds: float = Field(600, gt=0, description="most seconds that one request may take")
    max_thinking_tokens: int | None = Field(
        None, ge=0, description="most tokens that one answer may think before its thinking is ended"
    )
    thinking_landing: str = Field(
        "Considering the limited time by the user, I have to give the solution based on the thinking directly now.",
        max_length=LONGEST_LANDING,
        description="sentence that is written into the thinking near the end of its budget, so that the model ends it; empty for none",
    )
    max_waiting_branches: int = Field(
        256,
        ge=1,
        description="branches that may wait besides those that run; a request that would exceed this is refused with 503",
    )
    max_branches_per_key: int = Field(
        256,
        ge=1,
        description="branches of one API key that may run or wait; a request that would exceed this is refused with 429",
    )
    priorities: bool = Field(
        True, description="let requests with few branches overtake requests with many, and keep slots free for them"
    )


class ImageCountSettings(BaseModel):
    """How many images the model must have room for."""

    help_group: ClassVar[str] = "Images"

    max_images: int = Field(16, ge=0, le=256, description="most images of one request; 0 refuses images")


class ImageSettings(ImageCountSettings):
    """The images that a request may hold, for models that read images."""

    help_group: ClassVar[str] = "Images"

    max_image_bytes: int = Field(
        10_485_760, ge=1024, description="largest files of all images of one request together, in bytes"
    )
    max_image_pixels: int = Field(50_000_000, ge=1024, description="most pixels of all images of one request together")
    allowed_media_domains: Annotated[Words, AfterValidator(host_names)] = Field(
        (),
        description="hosts from which URLs of images are read, separated by commas; without it, images are taken as data URLs only; "
        "a host with a private address needs the address in the list too",
    )
    image_fetch_seconds: float = Field(10, gt=0, description="seconds that reading an image from its host may take")


class ResponseSettings(BaseModel):
    """Where responses of the Responses API are kept, and how many."""

    help_group: ClassVar[str] = "Responses"

    responses_path: Path | None = Field(
        None, description="SQLite file that keeps responses over a restart; without it, they are kept in memory"
    )
    max_responses: int = Field(10_000, ge=1, description="most responses of all keys that are kept; the oldest are dropped")
    max_response_bytes: int = Field(268_435_456, ge=1024, description="most bytes of all kept responses with their input")
    max_response_days: float = Field(30, gt=0, description="days after which a response is dropped")
    max_background_per_key: int = Field(
        64, ge=1, description="responses of one API key that may run or wait in the background; one more is refused with 429"
    )
