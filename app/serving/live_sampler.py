"""Asks a question again, several times together, on slots that are free, and ends that as soon as anybody waits for them.

The answers are drawn as `ponder calibrate` draws them: whole, and then continued behind their false lines.
"""

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any

from adapters.names import AdapterRef
from adapters.registry import AdapterRegistry
from adapters.version import AdapterVersion
from app.admission import Admission, AdmittedRequest
from app.engine.base import Engine, Prompt
from app.errors import first_error_only
from app.metering.budget import Budget
from app.metering.meter import Meter
from app.routing.backtracked_answers import continued, with_continuations
from app.routing.pool_file import PoolEntry, PoolSettings, Sample
from app.routing.pooled_answers import FIRST_ALTERNATIVES, generation_fields, marks_of, with_first_tokens
from app.serving.leasing import Leases
from app.serving.live_pool import NUM_SAMPLES, TEMPERATURE
from app.serving.live_question import Answered
from app.serving.metered_model import MeteredModel
from app.serving.wave import BranchDefaults
from strategies.core.values import Candidate, Draw

NUM_ANSWERS = 1 + NUM_SAMPLES
"""The answers to each question: a greedy one and samples."""

CHECK_S = 0.02
"""Seconds between two looks at whether anybody waits."""


class InTheWay(Exception):
    """A branch of a request waits for a slot, or an adapter is to leave the engine or to come into it."""


class LiveSampler:
    """Draws the answers of live calibration from one engine.

    Args:
        engine: that answers.
        admission: whose free slots are used.
        adapters: None for a server that holds none.
        budget: the operator's, of a request.

    """

    def __init__(self, engine: Engine, admission: Admission, adapters: AdapterRegistry | None, budget: Budget) -> None:
        self.card = engine.card
        self._engine = engine
        self._admission = admission
        self._adapters = adapters
        self._budget = budget

    def admit(self, answered: Answered) -> AdmittedRequest | None:
        """Return the place of a question, None where too few slots are free or its adapter is in the way of others."""
        return None if self._is_in_the_way(answered.version) else self._admission.admit_spare(answered.caller, NUM_ANSWERS)

    def affordable(self, answered: Answered, flops: int) -> int:
        """Return the most tokens that each of the answers may have, so that all of them together cost at most these FLOPs."""
        architecture = self.card.architecture_with(answered.version)
        return architecture.affordable_tokens(answered.prompt_tokens, flops // NUM_ANSWERS)

    def meter(self, flops: int) -> Meter:
        """Return the meter of a question that may cost so many FLOPs."""
        return Meter(self.card.architecture, self._budget.capped(Budget(flops=flops)), self.card.speculation)

    async def sample(
        self,
        answered: Answered,
        settings: PoolSettings,
        body: Mapping[str, Any],
        admitted: AdmittedRequest,
        meter: Meter,
    ) -> PoolEntry | None:
        """Return a question with its answers, for the pool with these settings; None where the budget of its meter has cut them.

        Raises:
            InTheWay: somebody waits. What was drawn is lost.
            PonderError: the engine does not answer.
            AdapterError: the adapter is not served any more.

        """
        with first_error_only():
            async with asyncio.TaskGroup() as group:
                watcher = group.create_task(self._watch(answered.version))
                async with self._leased(answered.version) as leases:
                    template = None if answered.version is None else answered.version.chat_template
                    prompt = await self._engine.render_chat({**body, "temperature": TEMPERATURE}, template=template)
                    defaults = BranchDefaults(f"{admitted.serial}-0", prompt, cache_salt=answered.salt, is_streamed=False)
                    model = MeteredModel(self._engine, meter, admitted, defaults, leases=leases)
                    entry = await self._answered(answered, settings, prompt, model)
                watcher.cancel()
        return None if meter.stopped is not None else entry

    async def _answered(
        self, answered: Answered, settings: PoolSettings, prompt: Prompt, model: MeteredModel
    ) -> PoolEntry | None:
        """Return a question with its answers and their continuations; None where the budget has room for too few answers."""

        async def generate(draw: Draw) -> Candidate | None:
            # the model knows how much of an answer is left
            async with model.sample(replace(draw, max_tokens=None, ends_loops=True)) as samples:
                return await anext(aiter(samples), None)

        drawn = await _drawn(model, prompt)
        if len(drawn) != NUM_ANSWERS:
            return None
        entry, encode = _entry(answered, prompt, drawn), self._engine.encode
        recorded = await continued(entry, settings, encode, generate)
        return with_continuations(entry, [[one.pooled(encode, is_right=False) for one in each] for each in recorded])

    async def _watch(self, version: AdapterVersion | None) -> None:
        """Raise `InTheWay` as soon as somebody waits."""
        while not self._admission.num_waiting and not self._is_in_the_way(version):  # noqa: ASYNC110 - two queues may have waiters
            await asyncio.sleep(CHECK_S)
        raise InTheWay

    def _is_in_the_way(self, version: AdapterVersion | None) -> bool:
        return version is not None and self._adapters is not None and self._adapters.is_in_the_way(version)

    @asynccontextmanager
    async def _leased(self, version: AdapterVersion | None) -> AsyncIterator[Leases]:
        if version is None or self._adapters is None:
            yield Leases()
            return
        if self._adapters.is_in_the_way(version):  # it was removed since the request
            raise InTheWay
        async with self._adapters.lease([AdapterRef(version.name, version.version)]) as (lease,):
            yield Leases(lease)


async def _drawn(model: MeteredModel, prompt: Prompt) -> list[Candidate]:
    """Return the greedy answer and the samples, as many as the budget has let begin."""

    async def draw(one: Draw) -> list[Candidate]:
        async with model.sample(one) as samples:
            return [candidate async for candidate in samples]

    async with asyncio.TaskGroup() as group:
        greedy = Draw(prompt.token_ids, 1, num_logprobs=FIRST_ALTERNATIVES, temperature=0.0, ends_loops=True)
        samples = Draw(prompt.token_ids, NUM_SAMPLES, first_index=1, num_logprobs=0, ends_loops=True)
        both = [group.create_task(draw(one)) for one in (greedy, samples)]
    return sorted([candidate for one in both for candidate in one.result()], key=lambda one: one.index)


def _entry(answered: Answered, prompt: Prompt, drawn: list[Candidate]) -> PoolEntry:
    greedy, *samples = [Sample(**generation_fields(one, is_right=False)) for one in drawn]
    return PoolEntry(
        key=answered.key, question=answered.request.question, kind=answered.kind, task="live", bin=0, prefix=prompt.token_ids,
        greedy=with_first_tokens(greedy, drawn[0]), samples=tuple(samples), thinking=marks_of(prompt.thinking),
    )  # fmt: skip
