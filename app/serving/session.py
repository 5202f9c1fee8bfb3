"""The running stage: the strategy's run of one admitted request."""

import asyncio
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Protocol

from app.admission import AdmittedRequest
from app.engine.base import Engine, PromptLogprobs
from app.errors import first_error_only
from app.metering.meter import Meter
from app.request import InferenceRequest, Outcome
from app.serving.accounting import Account
from app.serving.guests import Guest
from app.serving.leasing import Leases
from app.serving.live_question import Answered
from app.serving.metered_model import MeteredModel
from app.serving.planning import PlannedRequest, unsupported_as_invalid
from app.serving.rendering import RenderedRequest
from app.serving.wave import BranchDefaults
from app.telemetry.span_attributes import of_result
from app.telemetry.spans import Span
from strategies.core.results import Progress, Result
from strategies.core.values import BUDGETS, Candidate, Delta, ScoredCandidate, StopReason
from strategies.voting.selection import candidate_node

NO_ANSWER = (ScoredCandidate(Candidate(0, "", (), "length")),)
"""What stands for each answer where the caller wants none."""

EMPTY_ANSWER = ScoredCandidate(Candidate(0, "", (), "abort"))
"""An empty answer, for a budget that ends before the first token: OpenAI's format needs at least one choice in a reply."""


@dataclass(frozen=True, slots=True)
class Leg:
    """What one model did for a request that several may answer.

    Attributes:
        model: the name of the model or adapter.
        strategy: that it answered with.
        why: it was asked, in words for the caller.
        difficulty: the estimated probability that its answer is wrong, after it; None where no answer can be right or wrong.
        flops: that it spent.
        stop_reason: of its run; "failed" where an error ended it.

    """

    model: str
    strategy: str
    why: str
    difficulty: float | None
    flops: int
    stop_reason: str


class Session(Protocol):
    """A request that runs or has run, as far as replies read it.

    Where several models may answer, all but `legs`, `meter` and `prompt_tokens` are those of the model that runs or has answered.

    Attributes:
        model: the name of the model that answers, without the strategy. "auto" as long as that is open.
        legs: what each model did, in order; empty where the request named its model.
        meter: what the request has spent so far, by all models.
        prompt_tokens: the number of tokens of all prompts that were read.

    """

    @property
    def engine(self) -> Engine: ...
    @property
    def request(self) -> InferenceRequest: ...
    @property
    def planned(self) -> PlannedRequest: ...
    @property
    def rendered(self) -> RenderedRequest: ...
    @property
    def leases(self) -> Leases: ...
    @property
    def account(self) -> Account: ...
    @property
    def prompt_logprobs(self) -> dict[int, PromptLogprobs]: ...
    @property
    def model(self) -> str: ...
    @property
    def legs(self) -> Sequence[Leg]: ...
    @property
    def meter(self) -> Meter: ...
    @property
    def prompt_tokens(self) -> int: ...

    async def run(self, emit: Callable[[int, Delta | Progress], None]) -> Outcome:
        """Run the request; `emit` gets each event with the number of its prompt."""
        ...


@dataclass(frozen=True, slots=True)
class ModelSession:
    """A request that one model has admitted, with what each stage made of it, ready to run.

    Attributes:
        guests: other models that take part, by name.
        prompt_logprobs: by the number of the prompt, where the request asks for them. They are there before the first event of the run;
            a prompt for which the budget had no room has none.

    """

    engine: Engine
    request: InferenceRequest
    planned: PlannedRequest
    rendered: RenderedRequest
    admitted: AdmittedRequest
    leases: Leases
    account: Account
    guests: Mapping[str, Guest] = field(default_factory=dict)
    prompt_logprobs: dict[int, PromptLogprobs] = field(default_factory=dict)

    @property
    def model(self) -> str:
        """The name of the model that answers, without the strategy."""
        return str(self.request.adapter or self.engine.card.name)

    @property
    def meter(self) -> Meter:
        """What the request has spent so far."""
        return self.account.meter

    @property
    def legs(self) -> Sequence[Leg]:
        """No legs: the request named its model."""
        return ()

    @property
    def prompt_tokens(self) -> int:
        """The tokens of all prompts together."""
        return self.rendered.num_tokens

    async def run(self, emit: Callable[[int, Delta | Progress], None]) -> Outcome:
        """Run the strategy on all prompts at once; `emit` gets each event with the number of its prompt."""
        with self.meter.timed("search"), unsupported_as_invalid(), first_error_only():  # one error ends all prompts
            async with asyncio.TaskGroup() as group:
                runs = [group.create_task(self._run_prompt(number, emit)) for number in range(len(self.rendered.tasks))]
        results = tuple(run.result() for run in runs)
        outcome = Outcome(results, _stop_reason(results))
        generator = self.leases.generator
        model = self.engine.card.architecture_with(None if generator is None else generator.version)
        architecture = model.with_images(self.rendered.prompts[0].images)  # a request with several prompts is of texts alone
        if self.request.generates:  # otherwise there is no answer to learn from
            self.account.close(outcome, self.rendered.tasks, self.admitted.width, architecture)
            if (live := self.account.observers.live) is not None:
                live.offer(self._answered(outcome))
        return outcome

    def _answered(self, outcome: Outcome) -> Answered:
        difficulty, generator = self.planned.plan.difficulty, self.leases.generator
        candidates = [one.candidate for result in outcome.results for one in result.candidates]
        return Answered(
            self.request,
            self.planned.kind,
            None if difficulty is None else difficulty.lesson,
            self.admitted.caller,
            None if generator is None else generator.version,
            self.rendered.num_tokens,
            max((len(one.token_ids) for one in candidates), default=0),
            self.meter.total_flops,
        )

    async def _run_prompt(self, number: int, emit: Callable[[int, Delta | Progress], None]) -> Result:
        meter, trace, strategy = self.meter, self.account.trace, self.planned.strategy
        if (num := self.request.num_prompt_logprobs) is not None:
            # Before the answer, whose prefix is in the cache then.
            model = self.metered_model(number)
            if logprobs := await model.score_prompt(num):
                self.prompt_logprobs[number] = logprobs
        if not self.request.generates:
            return Result(NO_ANSWER * self.request.num_choices, (), StopReason.COMPLETED)

        def record(event: Delta | Progress) -> None:
            if isinstance(event, Delta):
                meter.seconds.setdefault("first_token", time.monotonic() - meter.started)
            else:
                trace.update(number, event.nodes)
            emit(number, event)

        with self.account.span.child("strategy") as span:
            if span.is_recording:
                span.set({"ponder.strategy": strategy.name, "ponder.prompt": number, **self.leases.span_attributes()})
            result = await strategy(self.rendered.tasks[number], self._model(number, span), record)
            if span.is_recording:
                span.set(of_result(result))
        # A tree search reported its nodes while it ran. Other strategies have one node for each candidate, which is recorded now.
        record(Progress("", result.nodes or tuple(candidate_node(scored, result) for scored in result.candidates)))
        return result if result.chosen else replace(result, chosen=(EMPTY_ANSWER,))

    def metered_model(self, number: int) -> MeteredModel:
        """Return the model that the strategy gets for a prompt, for code that does without a strategy."""
        return self._model(number, self.account.span)

    def _model(self, number: int, span: Span) -> MeteredModel:
        defaults = BranchDefaults(
            # The caller may have chosen the request's id, so that id need not be unique.
            id_prefix=f"{self.admitted.serial}-{number}",
            prompt=self.rendered.prompts[number],
            seed=self.request.seed,
            cache_salt=":".join(filter(None, (self.admitted.caller.cache_salt, self.request.cache_salt))) or None,
            is_streamed=self.request.is_watched,
            has_tools=self.request.has_tools,
        )
        return MeteredModel(self.engine, self.meter, self.admitted, defaults, leases=self.leases, guests=self.guests, span=span)


def _stop_reason(results: tuple[Result, ...]) -> StopReason:
    """Return the first budget that ended a prompt, since the caller must know of it; else the reason of the first prompt."""
    reasons = [result.stop_reason for result in results]
    return next((reason for reason in reasons if reason in BUDGETS), reasons[0])
