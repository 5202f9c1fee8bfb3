"""vLLM behind the `Engine` port. One branch is one request to vLLM."""

import asyncio
import math
from collections.abc import AsyncIterator
from contextlib import aclosing

import prometheus_client
from prometheus_client.openmetrics import exposition as openmetrics
from vllm.v1.engine.async_llm import AsyncLLM
from vllm.v1.engine.exceptions import EngineDeadError
from vllm.v1.metrics.prometheus import get_prometheus_registry

from adapters.errors import AdapterFailed
from adapters.ports import EngineAdapter
from app.engine.architecture import Architecture
from app.engine.base import Branch, InProcess, ModelCard, Output
from app.engine.vllm.arguments import engine_arguments
from app.engine.vllm.cpu_memory import reserve_memory, share_processors
from app.engine.vllm.drafting import speculation_of, with_drafts_counted
from app.engine.vllm.errors import adapter_errors, impossible_form, request_errors
from app.engine.vllm.front_end import VllmFrontEnd
from app.engine.vllm.hub import ask_hub
from app.engine.vllm.images import input_of
from app.engine.vllm.lora import LoraSlots, lora_request
from app.engine.vllm.options import EngineOptions
from app.engine.vllm.outputs import output_of, with_separator
from app.engine.vllm.post_mortem import PostMortem, start_errors
from app.engine.vllm.rendering import Rendering
from app.engine.vllm.sampling import sampling_of
from app.errors import EngineDead, EngineFailed

CPU_SHUTDOWN_S = 0.5
"""Seconds until vLLM's processes are killed. On CPU they hold nothing that outlives them, and never end within vLLM's own 5 seconds."""


class VllmEngine(VllmFrontEnd, InProcess):
    """An `Engine` over one `AsyncLLM`, which runs the model in processes of its own."""

    card: ModelCard

    def __init__(self, options: EngineOptions) -> None:
        """Make an engine that is not started. Raises `ModelUnavailable` for options that vLLM does not take."""
        self._options = options
        self._post_mortem = PostMortem()
        with start_errors(options.model, self._post_mortem):  # without a way to the hub, vLLM looks for the model already here
            ask_hub(options.model)
            self._arguments = arguments = engine_arguments(options)
        if options.is_cpu:
            share_processors(arguments)
        self._llm: AsyncLLM | None = None
        self._lora = LoraSlots(self.running)

    def running(self) -> AsyncLLM:
        """Return vLLM's engine. Raises `EngineDead` where there is none."""
        if self._llm is None:
            raise EngineDead("The engine is not running.")
        return self._llm

    async def start(self) -> None:
        """Start vLLM's processes and load the model; minutes for a large one. Raises `ModelUnavailable`."""
        with start_errors(self._options.model, self._post_mortem):
            await self._start()

    async def _start(self) -> None:
        options = self._options
        if options.is_cpu:
            await asyncio.to_thread(reserve_memory, options, self._arguments)
        config = with_drafts_counted(await asyncio.to_thread(self._arguments.create_engine_config))
        llm = self._llm = AsyncLLM.from_vllm_config(config)
        peak_flops = await self._extend_worker(llm)
        self._rendering = Rendering(options, self.running)
        await asyncio.to_thread(self._rendering.warm_up)
        model = llm.model_config
        self.card = ModelCard(
            name=options.name,
            max_model_len=model.max_model_len,
            # Each data-parallel rank schedules so many by itself, and vLLM spreads the requests over the ranks.
            max_branches=config.scheduler_config.max_num_seqs * config.parallel_config.data_parallel_size,
            architecture=Architecture.from_config(model.hf_config.to_dict(), await self._num_parameters(llm)),
            description=f"vLLM, {str(model.dtype).removeprefix('torch.')}",
            adapter_slots=options.adapter_slots,
            max_adapter_rank=options.max_adapter_rank,
            end_tokens=self._rendering.end_tokens,
            special_tokens=self._rendering.special_tokens,
            modalities=frozenset({"image"} if (max_images := self._rendering.max_images) else ()),
            max_images=max_images,
            peak_flops=peak_flops,
            speculation=speculation_of(config),
        )
        await self._generate_token("warm-up")  # the first pass takes seconds, which no client should have to wait

    async def _extend_worker(self, llm: AsyncLLM) -> float | None:
        """Install what `app.engine.worker` adds to vLLM's workers, and return the FLOPs a second that all of them reach."""
        if self._options.is_cpu:
            await llm.collective_rpc("ponder_guard_seeds")
            await llm.collective_rpc("ponder_slice_prompts")
            if self._options.adapter_slots:
                await llm.collective_rpc("ponder_group_loras")
        peaks = await llm.collective_rpc("ponder_measure_peak")
        # vLLM returns the answers of the first data-parallel rank, and its ranks are alike.
        return sum(peaks) * llm.vllm_config.parallel_config.data_parallel_size or None

    async def _num_parameters(self, llm: AsyncLLM) -> int:
        """Return the number of parameters of the decoder."""
        counts = await llm.collective_rpc("ponder_count_parameters")
        # Tensor and pipeline parallelism divide the model among the workers. Data parallelism repeats it.
        return sum(counts) * llm.vllm_config.parallel_config.world_size // len(counts)

    async def _generate_token(self, name: str, adapter: EngineAdapter | None = None) -> None:
        """Generate one token; raises `AdapterFailed` when its log-probability is not a finite number."""
        prompt = await self.render_chat({"model": self._options.name, "messages": [{"role": "user", "content": "Hello"}]})
        branch = Branch(id=name, prompt=prompt, prefix=prompt.token_ids, max_tokens=1, num_logprobs=0, adapter=adapter)
        async for output in self.generate(branch):
            if not all(math.isfinite(token.logprob) for token in output.logprobs):
                raise AdapterFailed("The engine computes nonsense with it: a token's probability is not a number.")

    async def close(self) -> None:
        """Shut vLLM's processes down. Calling it again does nothing."""
        if (llm := self._llm) is not None:
            self._llm = None
            if llm.output_handler is not None:
                llm.output_handler.cancel()  # it would log that its engine ends as a crash
            llm.output_processor.propagate_error(EngineDeadError())  # for requests that still wait
            await asyncio.to_thread(llm.shutdown, CPU_SHUTDOWN_S if self._options.is_cpu else None)

    @property
    def failure(self) -> str | None:
        """Why vLLM's engine process is dead, None while it lives."""
        if self._llm is None:
            return "the engine is not running"
        return self._post_mortem.of_death() if self._llm.errored else None

    async def generate(self, branch: Branch) -> AsyncIterator[Output]:
        """Run one branch as one request to vLLM. Closing the iterator aborts the request and frees its memory."""
        with request_errors(self._post_mortem):
            sampling = sampling_of(branch)
            stream = self.running().generate(
                input_of(branch),
                sampling,
                branch.id,
                lora_request=lora_request(branch.adapter) if branch.adapter else None,
                priority=branch.priority,
                **(branch.prompt.dialect.grammar_gate(branch) if sampling.structured_outputs is not None else {}),
            )
            async with aclosing(stream):
                async for result in stream:
                    output = output_of(result, branch)
                    if output.finish_reason == "error":
                        # vLLM's log says why. It ends a request so where a grammar cannot be compiled, or allows no further token.
                        is_constrained = sampling.structured_outputs is not None
                        raise impossible_form(branch) if is_constrained else EngineFailed("The engine failed at this request.")
                    yield with_separator(output, branch)

    async def halt(self, ids: list[str]) -> None:
        """Abort these branches in vLLM, which hands each of them a last output with what it had."""
        if ids and self._llm is not None and not self._llm.errored:
            await self._llm.abort(ids)

    async def load_adapter(self, adapter: EngineAdapter) -> None:
        """Load an adapter between two steps of the engine. Raises `AdapterFailed`; the engine goes on either way."""
        await self._lora.load(adapter)

    async def probe_adapter(self, adapter: EngineAdapter) -> None:
        """Generate one token with the adapter. Raises `AdapterFailed` when it computes values that are not numbers."""
        with adapter_errors():
            try:
                await self._generate_token(f"probe-{adapter.id}", adapter)
            except AdapterFailed:
                # The values are in the KV cache now, where they would ruin other requests; see `app.engine.worker.cache_scrub`.
                if self._options.is_cpu:
                    await self.running().collective_rpc("ponder_scrub_cache")
                raise

    async def unload_adapter(self, adapter: EngineAdapter) -> None:
        """Free the adapter's slot and its copy in memory. Raises `AdapterFailed`."""
        await self._lora.unload(adapter)

    async def loaded_adapters(self) -> frozenset[int]:
        """Return the ids of the adapters in vLLM's worker."""
        return await self._lora.loaded()

    async def metrics(self, *, is_openmetrics: bool) -> bytes:
        """Return vLLM's own `vllm:*` metrics; see `Engine`."""
        if is_openmetrics:
            # Without this escaping, prometheus_client would replace the colons in the names of samples by underscores, and not in
            # the names of their families.
            page = openmetrics.generate_latest(get_prometheus_registry(), escaping=openmetrics.ALLOWUTF8)  # type: ignore[no-untyped-call]
            return page.removesuffix(b"# EOF\n")
        return prometheus_client.generate_latest(get_prometheus_registry())

    async def num_running(self) -> int:
        """Return the number of requests that vLLM's front end holds unfinished."""
        return 0 if self._llm is None else self._llm.get_num_unfinished_requests()
