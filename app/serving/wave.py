"""What branches that are drawn together have in common."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field

from app.engine.base import Prompt, Repetition
from app.metering.meter import Purpose
from app.serving.legs import ThinkingBudget
from app.serving.places import BEHIND, Place
from app.telemetry.spans import NO_SPAN, Span
from strategies.core.thinking import Thinking
from strategies.core.values import Candidate, Delta, Watch


@dataclass(frozen=True, slots=True)
class BranchDefaults:
    """What all branches for one prompt of a request have in common.

    Attributes:
        id_prefix: the prefix of the ids that the branches have in the engine. It is unique in this server.
        seed: the seed of the sample with index 0; None for random seeds.
        cache_salt: the caller's own; each adapter version adds its own to it.
        is_streamed: whether deltas are passed on.
        has_tools: whether the model may call tools.

    """

    id_prefix: str
    prompt: Prompt
    seed: int | None = None
    cache_salt: str | None = None
    is_streamed: bool = True
    has_tools: bool = False

    def seed_of(self, index: int, leg: int = 0) -> int | None:
        """Return the seed of the sample with this index. It wraps around at 64 bits with a sign, which is what vLLM takes.

        Each leg of a branch has its own: with the same seed, the answer would repeat the random numbers of the thinking.
        """
        return None if self.seed is None else (self.seed + index + leg * 2**40 + 2**63) % 2**64 - 2**63


@dataclass(slots=True)
class Wave:
    """What the branches of one `sample` call share.

    Attributes:
        prefix: token ids that each branch continues.
        answer_start: number of them before the answer that is continued.
        limit: the most tokens until the end of the answer.
        cap: the most tokens until the end of the step, at most `limit`.
        share: the tokens that each branch may reserve, at most `cap`.
        separators: texts that end a step.
        thinking: how branches mark their thinking behind this prefix; None where they do not think.
        until: a function of the branch's text. The step ends as soon as it returns true.
        watch: returns a watch for each branch, which ends the branch as soon as it returns true.
        repetition: a loop that ends a branch; None where a branch may repeat itself.
        budget: for thinking; None where there is none, or the model does not think.
        place: where each branch begins in its thinking.
        on_delta: is called with each delta; None if nobody reads them.
        purpose: what the branches are for.
        arrived: the queue of candidates in order of completion, with None for a branch that generated nothing.
        live: ids of the branches that the engine runs.
        is_ending: whether the branches are being ended, so that no further leg may begin.

    """

    prefix: tuple[int, ...]
    answer_start: int
    limit: int
    cap: int
    share: int
    separators: tuple[str, ...]
    num_logprobs: int | None
    on_delta: Callable[[Delta], None] | None
    until: Callable[[str], bool] | None
    temperature: float | None
    watch: Callable[[], Watch] | None = None
    repetition: Repetition | None = None
    budget: ThinkingBudget | None = None
    place: Place = BEHIND
    purpose: Purpose = Purpose.GENERATE
    thinking: Thinking | None = None
    span: Span = NO_SPAN
    arrived: asyncio.Queue[Candidate | None] = field(default_factory=asyncio.Queue)
    live: set[str] = field(default_factory=set)
    is_ending: bool = False

    @property
    def is_streamed(self) -> bool:
        """Whether anybody reads tokens while they are generated."""
        return self.on_delta is not None or self.until is not None or self.watch is not None
