"""`/tokenize` and `/detokenize`, with the bodies and replies of vLLM's server."""

from typing import Annotated, Any, ClassVar, Self

from fastapi import APIRouter, Request
from pydantic import Field, field_validator, model_validator

from app.api import fields
from app.api.access import Who
from app.api.body import Body, ModelName, RequestBody
from app.api.errors import RESPONSES
from app.api.field_table import Table
from app.api.messages import Message
from app.api.output_formats import check_size
from app.api.pools import service_of
from app.api.sampling import TokenId
from app.api.template_variables import TemplateVariables
from app.api.tools import Tool
from app.errors import InvalidRequest

router = APIRouter(responses={status: RESPONSES[status] for status in (400, 401, 404, 413, 415, 503)})


class TokenizeRequest(RequestBody):
    """A text to tokenise (`prompt`), or a conversation (`messages`), which is rendered by the model's chat template first."""

    table: ClassVar[Table] = fields.TOKENIZE

    model: ModelName | None = None
    prompt: str | None = None
    messages: Annotated[list[Message], Field(min_length=1, max_length=4096)] | None = None
    add_special_tokens: bool | None = None
    return_token_strs: bool = False
    add_generation_prompt: bool | None = None
    continue_final_message: bool = False
    chat_template_kwargs: TemplateVariables | None = None
    tools: Annotated[list[Tool], Field(max_length=128)] | None = None

    _check_size = field_validator("tools", mode="before")(check_size)

    @model_validator(mode="after")
    def _check_form(self) -> Self:
        if (self.prompt is None) == (self.messages is None):
            message = "send either `prompt`, a text, or `messages`, a conversation"
            raise ValueError(message)
        if self.continue_final_message and self.add_generation_prompt:
            message = "continue_final_message and add_generation_prompt cannot both be true"
            raise ValueError(message)
        return self

    @property
    def num_chars(self) -> int:
        """The number of characters of the text or of all messages."""
        return len(self.prompt or "") + sum(len(message.text) for message in self.messages or ())

    def for_engine(self) -> dict[str, Any]:
        """Return the fields for the engine; only those that the client sent."""
        sent = self.model_dump(
            exclude_none=True, exclude_unset=True, exclude={"model", "return_token_strs", "messages", "tools"}
        )
        if self.messages is None:
            return sent
        opening = {"add_generation_prompt": not self.continue_final_message}
        tools = {"tools": [tool.model_dump(exclude_none=True) for tool in self.tools]} if self.tools else {}
        return opening | sent | tools | {"messages": [message.for_engine() for message in self.messages]}


class TokenizeReply(Body):
    """The tokens of a text, and how many the model's context has room for."""

    count: int
    max_model_len: int
    tokens: list[int]
    token_strs: list[str] | None = None


class DetokenizeRequest(Body):
    """Tokens to turn into a text."""

    model: ModelName | None = None
    tokens: Annotated[list[TokenId], Field(max_length=1_048_576)]


class DetokenizeReply(Body):
    """The text of the tokens."""

    prompt: str


@router.post("/tokenize")
async def tokenize(request: Request, body: TokenizeRequest, _who: Who) -> TokenizeReply:
    """Return the tokens of a text or of a conversation. Nothing is generated."""
    service = service_of(request, body.model)
    limit = service.planning.limits.max_prompt_chars
    if body.num_chars > limit:
        parameter = "prompt" if body.messages is None else "messages"
        raise InvalidRequest(f"The prompt has more than {limit} characters.", parameter=parameter)
    engine = service.engine
    modalities = frozenset[str]().union(*(message.modalities for message in body.messages or ()))
    adapter = None if body.model is None else service.names.resolve(body.model)[0]
    async with service.with_images(body.for_engine(), modalities) as fields:
        tokens = await engine.tokenize(fields, template=service.names.template_of(adapter))
    texts = await engine.token_texts(tokens) if body.return_token_strs else None
    return TokenizeReply(count=len(tokens), max_model_len=engine.card.max_model_len, tokens=list(tokens), token_strs=texts)


@router.post("/detokenize")
async def detokenize(request: Request, body: DetokenizeRequest, _who: Who) -> DetokenizeReply:
    """Return the text of tokens."""
    return DetokenizeReply(prompt=await service_of(request, body.model).engine.detokenize(body.tokens))
