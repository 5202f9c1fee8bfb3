"""vLLM behind the `Engine` port. The one module that imports vLLM, whose inner paths move with every release.

It renders with vLLM's own chat templates, tool prompts and structured-output rules, and reads replies with vLLM's own parsers,
so that what a client of vLLM expects is what it gets; one request to vLLM is one branch.
"""

import asyncio
import copy
import math
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import aclosing, contextmanager
from dataclasses import dataclass
from typing import Any

import prometheus_client
from prometheus_client.openmetrics import exposition as openmetrics
from pydantic import ValidationError
from vllm import AsyncEngineArgs, SamplingParams
from vllm.entrypoints.openai.chat_completion.protocol import ChatCompletionRequest
from vllm.entrypoints.openai.completion.protocol import CompletionRequest
from vllm.entrypoints.serve.engine.protocol import ErrorResponse
from vllm.entrypoints.serve.utils.api_utils import get_max_tokens
from vllm.exceptions import VLLMClientError, VLLMError
from vllm.inputs.engine import tokens_input
from vllm.lora.request import LoRARequest
from vllm.parser import Parser, ParserManager
from vllm.renderers.online_renderer import OnlineRenderer
from vllm.sampling_params import RequestOutputKind
from vllm.v1.engine.async_llm import AsyncLLM
from vllm.v1.engine.exceptions import EngineDeadError, EngineGenerateError
from vllm.v1.metrics.prometheus import get_prometheus_registry

from adapters.errors import AdapterFailed
from adapters.ports import EngineAdapter
from app.engine.architecture import LINEAR_MODULES, Architecture
from app.engine.base import Branch, ModelCard, Output, Prompt, ReplyParser
from app.engine.vllm.outputs import output_of, without_stop
from app.engine.vllm.reply_parsers import ParsedReply, PlainReply
from app.engine.worker import extension
from app.errors import EngineDead, InvalidRequest

MARK = "-the-answer-so-far-"
"""Stands in a rendered conversation for what the assistant said."""


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineOptions:
    """What of vLLM an operator can set; None leaves vLLM's own default.

    Attributes:
        max_tokens: the most that one answer may generate, and `default_max_tokens` when the caller does not say.
        adapter_slots: LoRA adapters that the engine holds at the same time, 0 to switch LoRA off; of a rank up to `max_adapter_rank`.
        is_cpu: the CPU back end is in use: seeds are guarded and nothing is compiled.

    """

    model: str
    name: str
    dtype: str = "auto"
    max_model_len: int | None = None
    max_branches: int = 64
    block_size: int | None = None
    gpu_memory_utilization: float | None = None
    quantization: str | None = None
    enforce_eager: bool = False
    tool_call_parser: str | None = None
    reasoning_parser: str | None = None
    max_tokens: int = 8192
    default_max_tokens: int = 2048
    adapter_slots: int = 0
    max_adapter_rank: int = 16
    is_cpu: bool = True


class VllmEngine:
    """An `Engine` over one `AsyncLLM`."""

    card: ModelCard

    def __init__(self, options: EngineOptions) -> None:
        self._options = options
        self._llm: AsyncLLM | None = None
        self._renderer: OnlineRenderer
        self._parser_class: type[Parser] | None
        self._defaults: dict[str, Any] = {}

    async def start(self) -> None:
        """Start vLLM's processes and load the model; minutes for a large one."""
        options = self._options
        arguments = AsyncEngineArgs(
            model=options.model,
            served_model_name=[options.name],
            dtype=options.dtype,
            max_model_len=options.max_model_len,
            max_num_seqs=options.max_branches,
            enforce_eager=options.enforce_eager or (options.is_cpu and options.adapter_slots > 0),
            quantization=options.quantization,
            scheduling_policy="priority",
            enable_prefix_caching=True,
            disable_log_stats=False,
            enable_log_requests=False,
            trust_remote_code=False,
            **_given(block_size=options.block_size, gpu_memory_utilization=options.gpu_memory_utilization),
            **_lora(options),
            worker_extension_cls=f"{extension.__name__}.{'Cpu' if options.is_cpu else 'Gpu'}Worker",
        )
        config = await asyncio.to_thread(arguments.create_engine_config)
        self._llm = AsyncLLM.from_vllm_config(config)
        if options.is_cpu:
            await self._llm.collective_rpc("ponder_guard_seeds")
            if options.adapter_slots:
                await self._llm.collective_rpc("ponder_group_loras")
        peaks = await self._llm.collective_rpc("ponder_measure_peak")
        model = self._llm.model_config
        self._defaults = model.get_diff_sampling_param()
        parsers: dict[str, Any] = {
            "enable_auto_tools": options.tool_call_parser is not None,
            "reasoning_parser": options.reasoning_parser,
            "tool_parser": options.tool_call_parser,
        }
        self._renderer = OnlineRenderer(
            model,
            self._llm.renderer,
            request_logger=None,
            chat_template=None,
            chat_template_content_format="auto",
            **parsers,
        )
        self._parser_class = ParserManager.get_parser(
            tool_parser_name=options.tool_call_parser,
            reasoning_parser_name=options.reasoning_parser,
            enable_auto_tools=options.tool_call_parser is not None,
            model_name=model.model,
            tokenizer=self._llm.renderer.tokenizer,
        )
        await asyncio.to_thread(self._renderer.warmup)
        self.card = ModelCard(
            name=options.name,
            max_model_len=model.max_model_len,
            max_branches=config.scheduler_config.max_num_seqs,
            architecture=Architecture.from_config(model.hf_config.to_dict()),
            description=f"vLLM, {str(model.dtype).removeprefix('torch.')}",
            adapter_slots=options.adapter_slots,
            max_adapter_rank=options.max_adapter_rank,
            end_tokens=_end_tokens(model, self._llm.renderer.tokenizer),
            peak_flops=sum(peaks) or None,
        )
        await self._generate_one("warm-up")  # the first pass takes seconds: it should not be a client's

    async def _generate_one(self, name: str, adapter: EngineAdapter | None = None) -> None:
        """Say one token; raises `AdapterFailed` when its probability is not a number."""
        prompt = await self.render_chat({"model": self._options.name, "messages": [{"role": "user", "content": "Hello"}]})
        branch = Branch(id=name, prompt=prompt, prefix=prompt.token_ids, max_tokens=1, num_logprobs=0, adapter=adapter)
        async for output in self.generate(branch):
            if not all(math.isfinite(token.logprob) for token in output.logprobs):
                raise AdapterFailed("The engine computes nonsense with it: a token's probability is not a number.")

    async def close(self) -> None:
        """Shut vLLM's processes down."""
        if (llm := self._llm) is not None:
            self._llm = None
            await asyncio.to_thread(llm.shutdown)

    @property
    def failure(self) -> str | None:
        """Why vLLM's engine process is dead, None while it lives."""
        if self._llm is None:
            return "the engine is not running"
        return "the engine process died" if self._llm.errored else None

    async def render_chat(self, body: Mapping[str, Any]) -> Prompt:
        """Apply the chat template and tokenise, as vLLM's own server does."""
        with _translated():
            request = ChatCompletionRequest.model_validate({**body, "n": 1, "stream": False})
            rendered = await self._renderer.render_chat(request)
            if isinstance(rendered, ErrorResponse):
                raise InvalidRequest(rendered.error.message, parameter=rendered.error.param)
            [engine_input] = rendered[1]
            return self._prompt(request, engine_input, request.max_completion_tokens or request.max_tokens)

    async def render_completion(self, body: Mapping[str, Any]) -> Prompt:
        """Tokenise one prompt, text or token ids, as vLLM's own server does."""
        with _translated():
            request = CompletionRequest.model_validate({**body, "n": 1, "stream": False, "echo": False})
            rendered = await self._renderer.render_completion(request)
            if isinstance(rendered, ErrorResponse):
                raise InvalidRequest(rendered.error.message, parameter=rendered.error.param)
            [engine_input] = rendered
            return self._prompt(request, engine_input, request.max_tokens)

    def _prompt(self, request: ChatCompletionRequest | CompletionRequest, engine_input: Any, limit: int | None) -> Prompt:
        token_ids = tuple(engine_input["prompt_token_ids"])
        limit = min(limit or self._options.default_max_tokens, self._options.max_tokens)
        limit = get_max_tokens(self._model_len, limit, len(token_ids), self._defaults)
        if limit < 1:
            raise InvalidRequest(
                f"The prompt has {len(token_ids)} tokens and leaves no room for an answer in a context of {self._model_len}.",
                parameter="messages" if isinstance(request, ChatCompletionRequest) else "prompt",
            )
        sampling = request.to_sampling_params(limit, self._defaults)
        text = engine_input.get("prompt") or ""
        is_constrained = sampling.structured_outputs is not None
        stop = tuple(sampling.stop or ())
        return Prompt(token_ids, limit, sampling, request, text, stop=stop, is_constrained=is_constrained)

    @property
    def _model_len(self) -> int:
        return int(self._running.model_config.max_model_len)

    @property
    def _running(self) -> AsyncLLM:
        if self._llm is None:
            raise EngineDead("The engine is not running.")
        return self._llm

    def encode(self, text: str) -> tuple[int, ...]:
        """Without the special tokens that begin a prompt."""
        return tuple(self._running.renderer.tokenizer.encode(text, add_special_tokens=False))

    def follow_up(self, text: str) -> tuple[int, ...]:
        """By the model's chat template; by plain lines where it has none. What stands before the user's turn is cut off."""
        tokenizer = self._running.renderer.tokenizer
        turns = [{"role": "user", "content": "?"}, {"role": "assistant", "content": MARK}, {"role": "user", "content": text}]
        rendered = ""
        if getattr(tokenizer, "chat_template", None) is not None:
            rendered = tokenizer.apply_chat_template(turns, tokenize=False, add_generation_prompt=True)
        return self.encode(rendered.partition(MARK)[2] or f"\n\n{text}\n")  # some templates leave earlier turns out

    async def load_adapter(self, adapter: EngineAdapter) -> None:
        """Load it between two steps of the engine; what is wrong with it is told, and the engine lives."""
        with _adapter_faults():
            if not await self._running.add_lora(_request(adapter)):
                raise AdapterFailed("The engine did not take it.")

    async def probe_adapter(self, adapter: EngineAdapter) -> None:
        """One token from a fixed prompt. What an adapter that computes nonsense left in the cache is taken out again."""
        with _adapter_faults():
            try:
                await self._generate_one(f"probe-{adapter.id}", adapter)
            except AdapterFailed:
                if self._options.is_cpu:
                    await self._running.collective_rpc("ponder_scrub_cache")
                raise

    async def unload_adapter(self, adapter: EngineAdapter) -> None:
        """Free the slot and the copy in memory."""
        llm = self._running
        with _adapter_faults():
            await llm.remove_lora(adapter.id)
            if adapter.id in await llm.list_loras():
                raise AdapterFailed("The engine still holds it.")

    async def loaded_adapters(self) -> frozenset[int]:
        """Ids of those in vLLM's worker."""
        with _adapter_faults():
            return frozenset(await self._running.list_loras())

    def parser(self, prompt: Prompt) -> ReplyParser:
        """A parser for one reply; text is passed through when neither tools nor reasoning markup can be in it."""
        request = prompt.request
        has_tools = isinstance(request, ChatCompletionRequest) and bool(request.tools) and request.tool_choice != "none"
        if self._parser_class is None or not (has_tools or (self._options.reasoning_parser and has_chat(request))):
            return PlainReply()
        llm = self._running
        parser = self._parser_class(llm.renderer.tokenizer, request.tools, model_config=llm.model_config)
        return ParsedReply(parser, prompt)

    async def generate(self, branch: Branch) -> AsyncIterator[Output]:
        """Run one branch as one vLLM request."""
        with _translated():
            stream = self._running.generate(
                tokens_input(list(branch.prefix), cache_salt=branch.cache_salt),
                _sampling(branch),
                branch.id,
                lora_request=_request(branch.adapter) if branch.adapter else None,
                priority=branch.priority,
            )
            async with aclosing(stream):
                async for result in stream:
                    output = output_of(result.outputs[0], len(branch.prefix), result.num_cached_tokens or 0, branch)
                    yield without_stop(output, branch) if branch.separators else output

    async def halt(self, ids: list[str]) -> None:
        """Abort in vLLM, which hands each branch a last output with what it had."""
        if ids and self._llm is not None and not self._llm.errored:
            await self._llm.abort(ids)

    def metrics(self, *, is_openmetrics: bool) -> bytes:
        """VLLM's own `vllm:*` metrics."""
        if is_openmetrics:
            # prometheus_client would make underscores of the colons in the names of samples, and not in those of their families.
            page = openmetrics.generate_latest(get_prometheus_registry(), escaping=openmetrics.ALLOWUTF8)  # type: ignore[no-untyped-call]
            return page.removesuffix(b"# EOF\n")
        return prometheus_client.generate_latest(get_prometheus_registry())

    async def num_running(self) -> int:
        """Requests that vLLM's front end holds unfinished."""
        return 0 if self._llm is None else self._llm.get_num_unfinished_requests()


def has_chat(request: Any) -> bool:
    """Whether the request is a chat (a completion has no message to parse)."""
    return isinstance(request, ChatCompletionRequest)


def _end_tokens(model: Any, tokenizer: Any) -> frozenset[int]:
    """Those of the generation config, and the tokenizer's."""
    ends = model.try_get_generation_config().get("eos_token_id")
    listed = ends if isinstance(ends, list) else [ends]
    return frozenset(token for token in (*listed, tokenizer.eos_token_id) if token is not None)


def _given(**values: Any) -> dict[str, Any]:
    return {name: value for name, value in values.items() if value is not None}


def _lora(options: EngineOptions) -> dict[str, Any]:
    """VLLM's LoRA settings. As many copies in memory as slots: vLLM then never evicts by itself, which could read files again."""
    if not options.adapter_slots:
        return {}
    slots = options.adapter_slots
    return {
        "enable_lora": True,
        "max_loras": slots,
        "max_cpu_loras": slots,
        "max_lora_rank": next(rank for rank in (1, 8, 16, 32, 64, 128, 256) if rank >= options.max_adapter_rank),
        # What the store accepts: embeddings and the LM head stay as they are, and cost nothing.
        "lora_target_modules": list(LINEAR_MODULES),
    }


def _request(adapter: EngineAdapter) -> LoRARequest:
    return LoRARequest(adapter.name, adapter.id, adapter.path)


def _sampling(branch: Branch) -> SamplingParams:
    """The prompt's sampling parameters with what is the branch's own. Shallow: the rest is only read."""
    sampling = copy.copy(branch.prompt.sampling)
    sampling.output_kind = RequestOutputKind.DELTA if branch.is_streamed else RequestOutputKind.FINAL_ONLY
    sampling.max_tokens = branch.max_tokens
    num_before = max(len(branch.prefix) - len(branch.prompt.token_ids), 0)
    sampling.min_tokens = min(max(sampling.min_tokens - num_before, 0), branch.max_tokens)
    if branch.separators:
        sampling.stop = [*branch.prompt.stop, *branch.separators]
        sampling.include_stop_str_in_output = True  # for all of them: `without_stop` takes the caller's out again
        sampling.output_text_buffer_length = 0
    sampling.logprobs = branch.num_logprobs
    if branch.seed is not None:
        sampling.seed = branch.seed
    if branch.temperature is not None:
        sampling.temperature = branch.temperature
        if branch.temperature == 0:  # as vLLM sets them itself where a request says so
            sampling.top_p, sampling.top_k, sampling.min_p = 1.0, 0, 0.0
    if branch.options:
        sampling.logprobs, sampling.logprob_token_ids = None, list(branch.options)
        sampling.structured_outputs = None
    return sampling


@contextmanager
def _adapter_faults() -> Iterator[None]:
    """Whatever vLLM says against an adapter is `AdapterFailed`, unless it died of it."""
    try:
        yield
    except (AdapterFailed, EngineDead):
        raise
    except EngineDeadError as error:
        raise EngineDead("The engine died.") from error
    except Exception as error:
        message = (str(error).strip() or type(error).__name__).splitlines()[-1]
        raise AdapterFailed(f"The engine refused it: {message[:500]}") from error


@contextmanager
def _translated() -> Iterator[None]:
    """Turn vLLM's errors into ours: what the client did is `InvalidRequest`, what the engine did is `EngineDead`."""
    try:
        yield
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"]) or getattr(first.get("ctx", {}).get("error"), "parameter", None)
        raise InvalidRequest(first["msg"], parameter=where) from error
    except VLLMClientError as error:
        raise InvalidRequest(str(error), parameter=getattr(error, "parameter", None)) from error
    except EngineDeadError as error:
        raise EngineDead("The engine died.") from error
    except EngineGenerateError as error:
        if isinstance(error.__cause__, ValueError | TypeError | VLLMError):
            raise InvalidRequest(str(error.__cause__)) from error
        raise EngineDead("The engine failed to generate.") from error
    except (ValueError, TypeError) as error:
        # vLLM's renderer and sampling parameters refuse what a client sent with plain ValueError.
        raise InvalidRequest(str(error)) from error
