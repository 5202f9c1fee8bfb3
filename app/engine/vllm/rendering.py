"""From a request to a prompt, by vLLM's own chat templates, tool prompts and structured outputs.

Clients of vLLM thus get what they expect, and nothing of it is written twice.
"""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from vllm.entrypoints.openai.chat_completion.protocol import ChatCompletionRequest
from vllm.entrypoints.openai.completion.protocol import CompletionRequest
from vllm.entrypoints.serve.engine.protocol import ErrorResponse
from vllm.entrypoints.serve.tokenize.protocol import TokenizeChatRequest, TokenizeCompletionRequest
from vllm.entrypoints.serve.utils.api_utils import get_max_tokens
from vllm.inputs import TokensPrompt
from vllm.parser import Parser, ParserManager
from vllm.renderers import TokenizeParams
from vllm.renderers.online_renderer import OnlineRenderer
from vllm.v1.engine.async_llm import AsyncLLM

from app.engine.base import Prompt, ReplyParser
from app.engine.reply_parsers import PlainReply
from app.engine.vllm.errors import form_errors, request_errors
from app.engine.vllm.options import EngineOptions
from app.engine.vllm.replies import ParsedReply
from app.engine.vllm.sampling import checked
from app.engine.vllm.thinking import thinking_of
from app.errors import InvalidRequest
from strategies.core.thinking import Thinking

ANSWER_MARK = "-the-answer-so-far-"
"""Stands for the assistant's answer in a rendered conversation, to find the place where it ends."""


class Rendering:
    """Renders prompts and chooses parsers for replies.

    Args:
        options: of the engine.
        llm: returns vLLM's engine; raises `EngineDead` where there is none.

    """

    def __init__(self, options: EngineOptions, llm: Callable[[], AsyncLLM]) -> None:
        self._options = options
        self._llm = llm
        self._model = llm().model_config
        self._defaults: dict[str, Any] = self._model.get_diff_sampling_param()
        self._renderer = self._new_renderer(options.tool_strict_level)
        self._strict_renderer = self._new_renderer("parameter")
        self._parser_class: type[Parser] | None = ParserManager.get_parser(
            tool_parser_name=options.tool_call_parser,
            reasoning_parser_name=options.reasoning_parser,
            enable_auto_tools=options.tool_call_parser is not None,
            model_name=self._model.model,
            tokenizer=llm().renderer.tokenizer,
        )

    def _new_renderer(self, tool_strict_level: str) -> OnlineRenderer:
        """Return a renderer whose grammars hold tool calls so strictly; see `EngineOptions`."""
        return OnlineRenderer(
            self._model,
            self._llm().renderer,
            request_logger=None,
            chat_template=self._options.chat_template,
            chat_template_content_format="auto",
            enable_auto_tools=self._options.tool_call_parser is not None,
            reasoning_parser=self._options.reasoning_parser,
            tool_parser=self._options.tool_call_parser,
            tool_strict_level=tool_strict_level,
        )

    def warm_up(self) -> None:
        """Compile the chat template and load the tokenizer, which takes seconds."""
        self._renderer.warmup()

    @property
    def end_tokens(self) -> frozenset[int]:
        """The ids of the tokens that end an answer: those of the generation config and the tokenizer's."""
        ends = self._model.try_get_generation_config().get("eos_token_id")
        listed = ends if isinstance(ends, list) else [ends]
        return frozenset(token for token in (*listed, self._llm().renderer.tokenizer.eos_token_id) if token is not None)

    async def chat(self, body: Mapping[str, Any]) -> Prompt:
        """Apply the chat template and tokenise, as vLLM's own server does. Raises `InvalidRequest`."""
        with request_errors():
            request = ChatCompletionRequest.model_validate({**body, "n": 1, "stream": False})
            renderer = self._strict_renderer if _is_call_forced(request) else self._renderer
            rendered = await renderer.render_chat(request)
            if isinstance(rendered, ErrorResponse):
                raise InvalidRequest(rendered.error.message, parameter=rendered.error.param)
            [engine_input] = rendered[1]
            return await self._prompt(request, engine_input, request.max_completion_tokens or request.max_tokens)

    async def completion(self, body: Mapping[str, Any]) -> Prompt:
        """Tokenise one prompt, text or token ids, as vLLM's own server does. Raises `InvalidRequest`."""
        with request_errors():
            request = CompletionRequest.model_validate({**body, "n": 1, "stream": False, "echo": False})
            rendered = await self._renderer.render_completion(request)
            if isinstance(rendered, ErrorResponse):
                raise InvalidRequest(rendered.error.message, parameter=rendered.error.param)
            [engine_input] = rendered
            return await self._prompt(request, engine_input, request.max_tokens)

    async def tokenize(self, body: Mapping[str, Any]) -> tuple[int, ...]:
        """Tokenise a text or a conversation, as vLLM's own server does. Raises `InvalidRequest`."""
        with request_errors():
            if "messages" not in body:
                request = TokenizeCompletionRequest.model_validate(body)
                inputs = await self._renderer.preprocess_completion(
                    request, prompt_input=request.prompt, prompt_embeds=None, skip_mm_cache=True
                )
            else:
                chat = TokenizeChatRequest.model_validate(body)
                _, inputs = await self._renderer.preprocess_chat(
                    chat,
                    chat.messages,
                    default_template=None,
                    default_template_content_format="auto",
                    default_template_kwargs=None,
                    tool_dicts=[tool.model_dump() for tool in chat.tools] if chat.tools else None,
                    skip_mm_cache=True,
                )
            return tuple(token for one in inputs for token in one["prompt_token_ids"])

    async def detokenize(self, token_ids: Sequence[int]) -> str:
        """Return the text of these tokens. Raises `InvalidRequest` for an id that no token has."""
        self._check_tokens(token_ids)
        params = TokenizeParams(max_total_tokens=None, max_output_tokens=0, needs_detokenization=True)
        prompt = await self._llm().renderer.tokenize_prompt_async(TokensPrompt(prompt_token_ids=list(token_ids)), params)
        return str(prompt["prompt"])

    async def token_texts(self, token_ids: Sequence[int]) -> list[str]:
        """Return each token as its tokenizer writes it. Raises `InvalidRequest` for an id that no token has."""
        self._check_tokens(token_ids)
        tokenizer = self._llm().renderer.tokenizer
        return list(await asyncio.to_thread(tokenizer.convert_ids_to_tokens, list(token_ids)))

    def _check_tokens(self, token_ids: Sequence[int]) -> None:
        count = len(self._llm().renderer.tokenizer)
        for position, token in enumerate(token_ids):
            if not 0 <= token < count:
                parameter = f"tokens.{position}"
                raise InvalidRequest(f"{parameter}: there is no token {token}; there are {count}", parameter=parameter)

    async def _prompt(self, request: ChatCompletionRequest | CompletionRequest, engine_input: Any, limit: int | None) -> Prompt:
        token_ids = tuple(engine_input["prompt_token_ids"])
        context = int(self._llm().model_config.max_model_len)
        limit = min(limit or self._options.default_max_tokens, self._options.max_tokens)
        limit = get_max_tokens(context, limit, len(token_ids), self._defaults)
        if limit < 1:
            raise InvalidRequest(
                f"The prompt has {len(token_ids)} tokens and leaves no room for an answer in a context of {context}.",
                parameter="messages" if _is_chat(request) else "prompt",
            )
        with form_errors(request):
            sampling = await checked(request.to_sampling_params(limit, self._defaults), self._llm())
        text = engine_input.get("prompt") or ""
        is_constrained = sampling.structured_outputs is not None
        stop = tuple(sampling.stop or ())
        thinking = self._thinking(request, token_ids) if _is_chat(request) else None
        return Prompt(token_ids, limit, sampling, request, text, stop=stop, is_constrained=is_constrained, thinking=thinking)

    def _thinking(self, request: ChatCompletionRequest, token_ids: tuple[int, ...]) -> Thinking | None:
        """Return how the model marks its thinking in a reply to this request, None where it does not think."""
        if not self._options.reasoning_parser:
            return None
        variables = self._renderer.effective_chat_template_kwargs(request)
        parser = self._new_parser(request, variables).reasoning_parser
        return thinking_of(parser, variables, self._llm().renderer.tokenizer, token_ids, _prefill(request))

    def _new_parser(self, request: ChatCompletionRequest, variables: Mapping[str, Any]) -> Parser:
        assert self._parser_class is not None
        tokenizer = self._llm().renderer.tokenizer
        return self._parser_class(tokenizer, request.tools, model_config=self._model, chat_template_kwargs=variables)

    def encode(self, text: str) -> tuple[int, ...]:
        """Return the token ids of a text, without the special tokens that begin a prompt."""
        return tuple(self._llm().renderer.tokenizer.encode(text, add_special_tokens=False))

    def decode(self, token_ids: Sequence[int]) -> str:
        """Return the text of these tokens, special tokens included. Raises `InvalidRequest` for an id that no token has."""
        tokenizer = self._llm().renderer.tokenizer
        if token_ids and max(token_ids) > tokenizer.max_token_id:
            raise InvalidRequest("There is no such token id.", parameter="prompt")
        return str(tokenizer.decode(list(token_ids)))

    def follow_up(self, text: str) -> tuple[int, ...]:
        """Return the token ids that end the assistant's turn, say `text` as the user, and open the assistant's next turn.

        A whole conversation is rendered by the model's chat template, and what comes after the assistant's answer is kept. Models
        without a template, and templates that leave earlier answers out, get plain lines.
        """
        tokenizer = self._llm().renderer.tokenizer
        turns = [
            {"role": "user", "content": "?"},
            {"role": "assistant", "content": ANSWER_MARK},
            {"role": "user", "content": text},
        ]
        rendered = ""
        if (self._options.chat_template or getattr(tokenizer, "chat_template", None)) is not None:
            rendered = tokenizer.apply_chat_template(
                turns, chat_template=self._options.chat_template, tokenize=False, add_generation_prompt=True
            )
        return self.encode(rendered.partition(ANSWER_MARK)[2] or f"\n\n{text}\n")

    def parser(self, prompt: Prompt) -> ReplyParser:
        """Return a parser for one reply to `prompt`.

        Text passes through unchanged where neither tool calls nor reasoning can be in it.
        """
        request = prompt.request
        has_tools = _is_chat(request) and bool(request.tools) and request.tool_choice != "none"
        has_reasoning = bool(self._options.reasoning_parser) and _is_chat(request)
        if self._parser_class is None or not (has_tools or has_reasoning):
            return PlainReply()
        variables = self._renderer.effective_chat_template_kwargs(request)  # some tell whether the model thinks
        tags = _tags(self._parser_class) if request.structured_outputs is not None else None
        return ParsedReply(lambda: self._new_parser(request, variables), prompt, tags)


def _is_call_forced(request: ChatCompletionRequest) -> bool:
    """Whether the reply must be a tool call: of any tool, or of the one that is named."""
    return bool(request.tools) and request.tool_choice not in (None, "none", "auto")


def _tags(parser: type[Parser]) -> tuple[str, str] | None:
    """Return the tags around the JSON of each call, None for models whose calls have another form."""
    calls = parser.tool_parser_cls
    if calls is None or calls.structural_tag_model != "hermes":
        return None
    return calls.tool_call_start_token, calls.tool_call_end_token


def _prefill(request: ChatCompletionRequest) -> str:
    """Return the beginning of the answer that the caller has written, empty where there is none."""
    content = request.messages[-1].get("content") if request.continue_final_message else None
    return content if isinstance(content, str) else ""


def _is_chat(request: Any) -> bool:
    """Whether the request is a chat; a completion has no message whose fields could be parsed."""
    return isinstance(request, ChatCompletionRequest)
