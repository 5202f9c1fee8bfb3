"""Runs strategies on the answers of a pool, with their own code: a `Model` that returns what was sampled, in any order.

It charges what a server would have charged: the tokens of each sample, and the prompt once. Where a strategy stops before all
branches have ended, each of the others is charged with as many tokens as the longest branch that had ended by then. A branch that a
watch ends is charged up to the token at which it holds; a server may generate a few more.
"""

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any, Self

from pydantic import BaseModel

from app.lab.calibration.pooled_questions import PooledQuestion, ReplayOutcome
from app.routing.pool_file import Continuation, Generation, Sample
from strategies.checking.sample_vote import WEIGHTS
from strategies.core.errors import UnsupportedTask
from strategies.core.ports import OtherModel, ignore_events
from strategies.core.values import Candidate, Draw, Step, StopReason, Task, VerifierPrompt
from strategies.core.verifier import StrategyContext, Verifier
from strategies.registry import STRATEGIES

RECORDED_VERIFIER = "recorded"
"""The name, as a reward model, of the verifier whose scores are in the pool."""

BACKTRACKING_STRATEGIES = ("adaptive", "backtracking")
"""Strategies that continue answers. The indices of their candidates tell which answer is continued."""


async def replay(
    question: PooledQuestion, strategy: str, params: dict[str, Any], context: StrategyContext, seed: int = 0
) -> ReplayOutcome:
    """Run a strategy of the registry on the samples of a question.

    Args:
        question: with its answers.
        strategy: by its name.
        params: the parameters of the strategy.
        context: the dependencies that it is built with.
        seed: of the order of the samples.

    Raises:
        UnsupportedTask: the strategy needs what the pool does not hold.

    """
    spec = STRATEGIES[strategy]
    values = spec.Params.model_validate(params)
    _check_verifiers(values)
    num_answers = getattr(values, "n", 1) if spec.name in BACKTRACKING_STRATEGIES else None
    model = ReplayModel(question, seed, num_answers=num_answers)
    context = replace(context, reward_models={RECORDED_VERIFIER: RecordedVerifier(question, model)})
    result = await spec(values, context)(question.task, model, ignore_events)
    right = model.right(result.chosen[0].candidate.index) if result.chosen else 0.0
    flops = model.flops + model.verified
    return ReplayOutcome(right, flops, model.verified, model.tokens, model.num_drawn, result.stop_reason)


def _check_verifiers(values: BaseModel) -> None:
    """Raise `UnsupportedTask` for a verifier that reads alternatives of tokens: a pool has at most the confidence in each token."""
    for parameter, choice in (
        ("verifier", getattr(values, "verifier", None)),
        ("weights", WEIGHTS.get(getattr(values, "weights", ""))),
    ):
        if choice is not None and choice.verifier.num_logprobs:
            raise UnsupportedTask(f"a pool has no alternatives of tokens, which {choice.name} reads", parameter=parameter)


class ReplayModel:
    """`strategies.core.ports.Model` over the samples of one question, in one of their orders.

    Args:
        question: with its answers.
        seed: of the order of the samples.
        num_answers: the most answers that a strategy which continues answers may begin; None for other strategies.

    Attributes:
        flops: the FLOPs of the generated tokens and their prefixes.
        verified: the FLOPs that verifiers booked.
        tokens: the number of decoded tokens.
        num_drawn: the number of branches.

    """

    verifier_prompt: VerifierPrompt | None = None
    deadline: float | None = None
    tokens_left: int | None = None
    stopped: StopReason | None = None

    def __init__(self, question: PooledQuestion, seed: int, num_answers: int | None = None) -> None:
        settings = question.settings
        self._question = question
        self._num_answers = num_answers
        # only some samples of a pool have continuations
        has_continuations = num_answers is not None and settings.attempts > 1
        self._unused = question.order(seed, settings.backtracked if has_continuations else settings.samples)
        self._generations: dict[int, Generation] = {}
        self._cut: set[int] = set()
        self._architecture = settings.flops
        self.flops = 0
        self.verified = 0
        self.tokens = 0
        self.num_drawn = 0

    def right(self, index: int) -> float:
        """Return the probability that the answer which ends with a candidate is right. One that was cut is wrong."""
        return 0.0 if index in self._cut else self._question.right(self._generations[index])

    def score_of(self, index: int) -> float | None:
        """Return the recorded score of a candidate, None where it has none."""
        generation = self._generations[index]
        return generation.score if isinstance(generation, Sample) else None

    @asynccontextmanager
    async def sample(self, draw: Draw) -> AsyncIterator[AsyncIterator[Candidate]]:
        """Yield the next `n` samples of the pool, or what followed one of them.

        Raises `UnsupportedTask` for anything else.
        """
        if draw.step.separators or draw.step.max_tokens or draw.max_tokens is not None:
            raise UnsupportedTask("a pool holds complete answers", parameter="strategy")
        if draw.num_logprobs and draw.num_logprobs != (num := self._question.settings.alternatives):
            message = f"the pool has the confidence over {num} alternatives" if num else "the pool has no confidences"
            raise UnsupportedTask(f"{message}, not over {draw.num_logprobs}", parameter="alternatives")
        if self._num_answers is not None and draw.first_index >= self._num_answers:
            generations = self._continuation(draw.prefix, *divmod(draw.first_index, self._num_answers))
        else:
            generations = self._next_samples(draw)
        candidates = [
            self._deliver(generation, index, draw.step) for index, generation in enumerate(generations, draw.first_index)
        ]
        candidates.sort(key=lambda candidate: len(candidate.token_ids))  # the shortest one ends first
        reached = 0

        async def arrivals() -> AsyncIterator[Candidate]:
            nonlocal reached
            for candidate in candidates:
                reached = len(candidate.token_ids)
                yield candidate

        try:
            yield arrivals()
        finally:
            for candidate in candidates:
                self._charge(candidate.index, len(draw.prefix), min(len(candidate.token_ids), reached))

    def _next_samples(self, draw: Draw) -> list[Generation]:
        entry = self._question.entry
        if draw.prefix != entry.prefix:
            raise UnsupportedTask("a pool holds complete answers", parameter="strategy")
        if draw.temperature == 0:
            return [entry.greedy] * draw.n
        if draw.n > len(self._unused):
            raise UnsupportedTask(f"the pool has {len(entry.samples)} samples", parameter="n")
        places, self._unused = self._unused[: draw.n], self._unused[draw.n :]
        return [self._question.sample(place) for place in places]

    def _continuation(self, prefix: Sequence[int], attempt: int, number: int) -> list[Generation]:
        """Return what was recorded as this attempt at an answer; nothing where the answer had no room for another one."""
        sample = self._generations[number]
        continuations = sample.continuations if isinstance(sample, Sample) else ()
        if attempt == len(continuations) + 1 and attempt < self._question.settings.attempts:
            return []
        kept_tokens = len(prefix) - len(self._question.entry.prefix)
        # another number of kept tokens means that the code has found other false lines since the pool was filled
        if attempt > len(continuations) or continuations[attempt - 1].kept_tokens != kept_tokens:
            raise UnsupportedTask("the pool does not have this attempt, or other lines were false then", parameter="attempts")
        return [continuations[attempt - 1]]

    def _deliver(self, generation: Generation, index: int, step: Step) -> Candidate:
        """Return the candidate of a generation, cut at the first token where the watch or `until` of the step holds."""
        self._generations[index] = generation
        complete = self._question.candidate(generation, index)
        watch = None if step.watch is None else step.watch()
        if watch is None and step.until is None:
            return complete
        length = 0
        for number, size in enumerate(generation.lengths[:-1], 1):
            length += size
            is_cut = watch is not None and watch(complete.logprobs[number - 1 : number])
            if is_cut or (step.until is not None and step.until(generation.text[:length])):
                self._cut.add(index)
                return replace(
                    complete,
                    text=generation.text[:length],
                    token_ids=complete.token_ids[:number],
                    logprobs=complete.logprobs[:number],
                    finish_reason="cut" if is_cut else "step",
                    is_thinking=self._question.is_thinking(generation.text[:length]),
                )
        return complete

    def _charge(self, index: int, prefix: int, tokens: int) -> None:
        generation = self._generations[index]
        # the first branch prefills the prompt, and the other ones find it in the cache
        cached_prompt = self._question.cached if self.num_drawn else 0
        cached = generation.cached if isinstance(generation, Continuation) else cached_prompt
        self.flops += sum(self._architecture.branch_cost(prefix, cached, tokens))
        self.tokens += tokens
        self.num_drawn += 1

    async def score_options(self, prefix: Sequence[int], options: Sequence[int]) -> list[float]:  # noqa: ARG002 - the port's signature
        """Raise `UnsupportedTask`: a pool holds no scores of tokens."""
        raise UnsupportedTask("a pool holds no scores but its verifier's", parameter="verifier")

    def spend(self, tokens: int, flops: int) -> bool:  # noqa: ARG002 - a pool knows only the FLOPs of its scores
        """Book a verification; the budget has no limit."""
        self.verified += flops
        return True

    def using(self, adapter: str) -> Self:  # noqa: ARG002 - the port's signature
        """Return this model: the answers are recorded, whichever adapter is named."""
        return self

    def asking(self, model: str) -> OtherModel:
        """Raise `NotImplementedError`: the lab has one model."""
        raise NotImplementedError


class RecordedVerifier(Verifier):
    """Returns the scores of the pool's verifier. Each costs the verifier's mean FLOPs per sample."""

    name = RECORDED_VERIFIER

    def __init__(self, question: PooledQuestion, model: ReplayModel) -> None:
        self._question = question
        self._model = model

    async def score(self, task: Task, candidates: Sequence[Candidate], model: Any) -> list[float]:  # noqa: ARG002 - a verifier's signature
        """Return the recorded scores; raises `UnsupportedTask` where the pool has none."""
        entry = self._question.entry
        scores = [self._model.score_of(candidate.index) for candidate in candidates]
        self._model.spend(0, entry.verify_flops * len(candidates) // max(len(entry.samples), 1))
        if any(score is None for score in scores):
            raise UnsupportedTask("this pool was sampled without a verifier", parameter="verifier")
        return [score for score in scores if score is not None]
