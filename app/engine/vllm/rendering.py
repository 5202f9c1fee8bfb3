"""From a request to a prompt, by vLLM's own chat templates, tool prompts and structured outputs.

Clients of vLLM thus get what they expect, and nothing of it is written twice.
"""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from vllm.entrypoints.openai.chat_completion.protocol import ChatCompletionRequest
from vllm.entrypoints.openai.completion.protocol import CompletionRequest
from vllm.entrypoints.serve.engine.protocol import ErrorResponse
from vllm.entrypoints.serve.tokenize.protocol import TokenizeChatRequest, TokenizeCompletionRequest
from vllm.entrypoints.serve.utils.api_utils import get_max_tokens
from vllm.inputs import TokensPrompt
from vllm.renderers import TokenizeParams

from app.engine.base import Prompt, ReplyParser
from app.engine.vllm.dialect import Dialect
from app.engine.vllm.errors import form_errors, image_errors, request_errors
from app.engine.vllm.images import check_images, images_of, with_images, without_images
from app.engine.vllm.options import EngineOptions
from app.engine.vllm.render_only import Renders
from app.engine.vllm.sampling import checked
from app.errors import InvalidRequest


class Rendering:
    """Renders prompts and chooses parsers for replies.

    Args:
        options: of the engine.
        llm: returns vLLM's engine; raises `EngineDead` where there is none.

    """

    def __init__(self, options: EngineOptions, llm: Callable[[], Renders]) -> None:
        self._options = options
        self._llm = llm
        self._model = llm().model_config
        self._defaults: dict[str, Any] = self._model.get_diff_sampling_param()
        self._dialect = Dialect(options, llm)
        self._of_adapters: dict[str, Dialect] = {}

    def _dialect_of(self, template: str | None) -> Dialect:
        """Return the model's dialect, or that of an adapter with this chat template. Only the operator's adapters have any."""
        if template is None:
            return self._dialect
        if template not in self._of_adapters:
            self._of_adapters[template] = Dialect(self._options, self._llm, template)
        return self._of_adapters[template]

    def warm_up(self) -> None:
        """Compile the chat template and load the tokenizer, which takes seconds."""
        self._dialect.renderer.warmup()

    @property
    def max_images(self) -> int:
        """The most images of one prompt; 0 for a model that reads none."""
        processor = self._llm().renderer.mm_processor
        limits = {} if processor is None else processor.info.allowed_mm_limits
        return max(limits.get("image", 0), limits.get("vision_chunk", 0))

    @property
    def end_tokens(self) -> frozenset[int]:
        """The ids of the tokens that end an answer: those of the generation config and the tokenizer's."""
        ends = self._model.try_get_generation_config().get("eos_token_id")
        listed = ends if isinstance(ends, list) else [ends]
        return frozenset(token for token in (*listed, self._llm().renderer.tokenizer.eos_token_id) if token is not None)

    @property
    def special_tokens(self) -> frozenset[int]:
        """The ids of the tokenizer's special tokens, those that only chat templates know among them."""
        tokenizer = self._llm().renderer.tokenizer
        added = getattr(tokenizer, "added_tokens_decoder", None)  # Mistral's own tokenizers have none
        added_ids = [one for one, token in added.items() if token.special] if isinstance(added, Mapping) else []
        return frozenset((*tokenizer.all_special_ids, *added_ids))

    async def chat(self, body: Mapping[str, Any], template: str | None) -> Prompt:
        """Apply the chat template and tokenise, as vLLM's own server does. Raises `InvalidRequest`."""
        dialect = self._dialect_of(template)
        with request_errors():
            request = ChatCompletionRequest.model_validate({**without_images(body), "n": 1, "stream": False})
            renderer = dialect.strict_renderer if _is_call_forced(request) else dialect.renderer
            with image_errors(body), with_images(request, body):
                # vLLM's own cache of images would leave data out that its engine may have dropped.
                rendered = await renderer.render_chat(request, skip_mm_cache=True)
            if isinstance(rendered, ErrorResponse):
                raise InvalidRequest(rendered.error.message, parameter=rendered.error.param)
            [engine_input] = rendered[1]
            prompt = await self._prompt(request, engine_input, request.max_completion_tokens or request.max_tokens)
        return replace(prompt, thinking=dialect.thinking(request, prompt.token_ids), dialect=dialect)

    async def completion(self, body: Mapping[str, Any]) -> Prompt:
        """Tokenise one prompt, text or token ids, as vLLM's own server does. Raises `InvalidRequest`."""
        with request_errors():
            request = CompletionRequest.model_validate({**body, "n": 1, "stream": False, "echo": False})
            rendered = await self._dialect.renderer.render_completion(request)
            if isinstance(rendered, ErrorResponse):
                raise InvalidRequest(rendered.error.message, parameter=rendered.error.param)
            [engine_input] = rendered
            return await self._prompt(request, engine_input, request.max_tokens)

    async def tokenize(self, body: Mapping[str, Any], template: str | None) -> tuple[int, ...]:
        """Tokenise a text or a conversation, as vLLM's own server does. Raises `InvalidRequest`."""
        renderer = self._dialect_of(template).renderer
        with request_errors():
            if "messages" not in body:
                request = TokenizeCompletionRequest.model_validate(body)
                inputs = await renderer.preprocess_completion(
                    request, prompt_input=request.prompt, prompt_embeds=None, skip_mm_cache=True
                )
            else:
                chat = TokenizeChatRequest.model_validate(without_images(body))
                with image_errors(body), with_images(chat, body):
                    _, inputs = await renderer.preprocess_chat(
                        chat,
                        chat.messages,
                        default_template=renderer.chat_template,
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
        limit = get_max_tokens(context, limit, len(token_ids), self._defaults) if len(token_ids) < context else 0
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
        images = images_of(engine_input)
        check_images(images, self._llm().input_processor.mm_encoder_cache_size)
        return Prompt(
            token_ids,
            limit,
            sampling,
            request,
            text,
            stop=stop,
            min_tokens=sampling.min_tokens,
            is_constrained=is_constrained,
            dialect=self._dialect,
            images=images,
            media=engine_input if images else None,
        )

    def encode(self, text: str) -> tuple[int, ...]:
        """Return the token ids of a text, without the special tokens that begin a prompt."""
        return tuple(self._llm().renderer.tokenizer.encode(text, add_special_tokens=False))

    def decode(self, token_ids: Sequence[int]) -> str:
        """Return the text of these tokens, special tokens included. Raises `InvalidRequest` for an id that no token has."""
        tokenizer = self._llm().renderer.tokenizer
        if token_ids and max(token_ids) > tokenizer.max_token_id:
            raise InvalidRequest("There is no such token id.", parameter="prompt")
        return str(tokenizer.decode(list(token_ids)))

    def follow_up(self, prompt: Prompt, text: str, *, thinks: bool) -> tuple[int, ...]:
        """Return the token ids of the user's next turn; see `Dialect.follow_up`."""
        dialect: Dialect = prompt.dialect
        return self.encode(dialect.follow_up(prompt, text, thinks=thinks))

    def parser(self, prompt: Prompt) -> ReplyParser:
        """Return a parser for one reply to `prompt`."""
        dialect: Dialect = prompt.dialect
        return dialect.parser(prompt)


def _is_call_forced(request: ChatCompletionRequest) -> bool:
    """Whether the reply must be a tool call: of any tool, or of the one that is named."""
    return bool(request.tools) and request.tool_choice not in (None, "none", "auto")


def _is_chat(request: Any) -> bool:
    """Whether the request is a chat; a completion has no message whose fields could be parsed."""
    return isinstance(request, ChatCompletionRequest)
