"""The request bodies of chat and text completions. `app.api.fields` says what becomes of every field."""

from functools import cached_property
from typing import Annotated, Any, ClassVar, Self

from pydantic import Field, model_validator

from app.api import fields
from app.api.body import INT64
from app.api.field_table import Table
from app.api.json_schemas import Totals
from app.api.messages import Message
from app.api.sampling import ReasoningEffort, Sampling, TokenId
from app.api.template_variables import TemplateVariables
from app.api.tools import Function, FunctionChoice, Tool, ToolChoice, check_parameters, chosen, from_functions, must_follow
from app.errors import InvalidRequest


class ChatRequest(Sampling):
    """`POST /v1/chat/completions`."""

    table: ClassVar[Table] = fields.CHAT
    not_for_engine: ClassVar[frozenset[str]] = Sampling.not_for_engine | {
        "include_reasoning", "return_prompt_text", "functions", "function_call", "store"
    }  # fmt: skip

    messages: Annotated[list[Message], Field(min_length=1, max_length=4096)]
    logprobs: bool | None = None
    top_logprobs: Annotated[int, Field(ge=0, le=20)] | None = None
    max_completion_tokens: Annotated[int, Field(ge=1, le=INT64)] | None = None
    tools: Annotated[list[Tool], Field(max_length=128)] | None = None
    tool_choice: ToolChoice | None = None
    parallel_tool_calls: bool = True
    functions: Annotated[list[Function], Field(max_length=128)] | None = None
    function_call: FunctionChoice | None = None
    reasoning_effort: ReasoningEffort | None = None
    include_reasoning: bool = True
    chat_template_kwargs: TemplateVariables | None = None
    add_generation_prompt: bool | None = None
    continue_final_message: bool | None = None
    documents: Annotated[list[dict[str, str]], Field(max_length=1024)] | None = None
    echo: bool = False
    return_prompt_text: bool = False
    store: bool = True

    @model_validator(mode="after")
    def _check_consistency(self) -> Self:
        if self.top_logprobs and not self.logprobs:
            message = "top_logprobs needs logprobs to be true"
            raise ValueError(message)
        self.check_tools()
        return self

    def check_tools(self, *, all_are_strict: bool = False) -> None:
        """Raise `InvalidRequest` for a tool whose schema calls must follow, and a grammar could not hold.

        `all_are_strict` says that a grammar holds the calls of all tools, as the operator may choose.
        """
        tools, choice = self.allowed_tools
        names = {tool.function.name for tool in tools}
        given = self.functions if self.has_functions else [tool.function for tool in self.tools or ()]
        where = "functions.{}" if self.has_functions else "tools.{}.function"
        totals = Totals()
        for position, function in enumerate(given or ()):
            if function.name in names and (all_are_strict or must_follow(function, choice)):
                check_parameters(function, where.format(position), totals)

    @property
    def has_functions(self) -> bool:
        """Whether the tools are in OpenAI's former form. The reply then has at most one call, in that form."""
        return bool(self.functions) and not self.tools

    @cached_property
    def allowed_tools(self) -> tuple[list[Tool], Any]:
        """The tools that the model may call, and the choice among them in the engine's form."""
        functions, choice = from_functions(self.functions or [], self.function_call)
        return chosen(self.tools or functions, self.tool_choice or choice)

    def for_engine(self) -> dict[str, Any]:
        """Return the fields for the engine; only the tools that the model may call."""
        fields = super().for_engine() | {"messages": [message.for_engine() for message in self.messages]}
        if self.continue_final_message and self.add_generation_prompt is None:
            fields["add_generation_prompt"] = False  # the two exclude each other
        tools, choice = self.allowed_tools
        if not tools:
            return {
                name: value for name, value in fields.items() if name not in ("tools", "tool_choice", "parallel_tool_calls")
            }
        if self.has_functions:
            fields["parallel_tool_calls"] = False
        dumped = [tool.model_dump(exclude_none=True) for tool in tools]
        return fields | {"tools": dumped, "tool_choice": choice if isinstance(choice, str) else choice.model_dump()}

    @property
    def has_tools(self) -> bool:
        """Whether the model may call tools."""
        tools, choice = self.allowed_tools
        return bool(tools) and choice != "none"

    @property
    def prefill(self) -> str:
        """The beginning of the answer, where the conversation ends with it; else empty."""
        last = self.messages[-1]
        return last.text if self.continue_final_message and last.role == "assistant" else ""

    @property
    def modalities(self) -> frozenset[str]:
        """What the model must be able to read besides text: `image`, `audio` or `video`."""
        return frozenset().union(*(message.modalities for message in self.messages))

    @property
    def num_logprobs(self) -> int | None:
        """The number of alternatives for each token in the reply; None for no log-probabilities."""
        return (self.top_logprobs or 0) if self.logprobs else None

    @property
    def echoed(self) -> str:
        """The text that the answer begins with: that of the last message, where it is the assistant's or is continued."""
        last = self.messages[-1]
        return last.text if self.echo and (last.role == "assistant" or self.continue_final_message) else ""

    @property
    def question(self) -> str:
        """The text of the last user message, empty without one."""
        return next((message.text for message in reversed(self.messages) if message.role == "user"), "")

    @property
    def num_chars(self) -> int:
        """The number of characters of all messages."""
        return sum(len(message.text) for message in self.messages)


class CompletionRequest(Sampling):
    """`POST /v1/completions`."""

    table: ClassVar[Table] = fields.COMPLETION
    not_for_engine: ClassVar[frozenset[str]] = Sampling.not_for_engine | {"best_of"}

    prompt: (
        str
        | Annotated[list[TokenId], Field(min_length=1)]
        | Annotated[list[str], Field(min_length=1, max_length=256)]
        | Annotated[list[Annotated[list[TokenId], Field(min_length=1)]], Field(min_length=1, max_length=256)]
    )
    max_tokens: Annotated[int, Field(ge=0, le=INT64)] | None = None
    logprobs: Annotated[int, Field(ge=0, le=20)] | None = None
    echo: bool = False
    best_of: Annotated[int, Field(ge=1, le=1024)] | None = None

    @model_validator(mode="after")
    def _no_tokens_only_with_echo(self) -> Self:
        if self.max_tokens == 0 and not self.echo:
            raise InvalidRequest("max_tokens: it must be at least 1, or echo must be true.", parameter="max_tokens")
        return self

    def for_engine(self) -> dict[str, Any]:
        """Return the fields for the engine, which has no request without a token."""
        fields = super().for_engine()
        return {**fields, "max_tokens": 1} if self.max_tokens == 0 else fields

    @property
    def num_prompt_logprobs(self) -> int | None:
        """The number of alternatives for each token of the prompt; None for no log-probabilities of it. An echo has those of `logprobs`."""
        wanted = [num for num in (self.prompt_logprobs, self.logprobs if self.echo else None) if num is not None]
        return max(wanted, default=None)

    @property
    def num_logprobs(self) -> int | None:
        """The number of alternatives for each token in the reply; None for no log-probabilities."""
        return self.logprobs

    @property
    def prompts(self) -> list[str | list[int]]:
        """The prompts, each as a text or as token ids."""
        if isinstance(self.prompt, str):
            return [self.prompt]
        if isinstance(self.prompt[0], int):
            return [self.prompt]  # a list of token ids is one prompt
        return list(self.prompt)
