"""Questions on which the answers of a small model disagree, and what a judge said of them, as `benchmarks.judging` writes it."""

import random
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from app.engine.architecture import Architecture
from app.lab.calibration.pool import read_lines, read_pool
from app.routing.ballots import GenerationBallot, ballots_of
from app.routing.pool_file import POOL, Continuation, Generation, PoolEntry, Value
from strategies.answers.equivalence import Equivalence

DRAFTS = 4
"""The answers of the small model that may disagree: the greedy one and three samples."""

SEED = 28

POINTWISE, ANSWERS, DERIVATIONS = "pointwise", "answers", "derivations"
WAYS = (ANSWERS, POINTWISE, DERIVATIONS)
"""How the judge is asked: of each candidate whether it is true, as the verifier `judge` asks; or which of them is, by its letter, of
final answers alone or of the whole texts. Letters are asked twice, in opposite orders, since models prefer some of them."""


TIMED = "timed"
"""Not a way to judge: the large model's own answer, begun twice, of one token and of `TIMED_TOKENS`. The second has its prompt cached."""

TIMED_TOKENS = 33


class Ask(Value):
    """A prompt to the judge.

    Attributes:
        tokens: of the prompt.
        cached: those that an earlier prompt of the same way begins with too, in whole blocks of the prefix cache.
        scores: by candidate, the log-probability of its letter, or for one candidate the log-odds that it is true; empty where the
            prompt was only counted.
        seconds: until they were there.

    """

    tokens: int
    cached: int
    scores: tuple[float, ...] = ()
    seconds: float = 0.0


class Judgement(Value):
    """What the judge said in one way of the candidates of a question."""

    key: str
    way: str
    asks: tuple[Ask, ...]

    @property
    def was_asked(self) -> bool:
        """Whether there are scores."""
        return all(ask.scores for ask in self.asks)

    def flops(self, judge: Architecture) -> int:
        """Return what the judge computes: all prompts, and one token of each."""
        return sum(sum(judge.branch_cost(ask.tokens, ask.cached, 1)) for ask in self.asks)


@dataclass(frozen=True)
class DraftAnswer:
    """A distinct answer of the small model: its canonical form, the text of the first draft that has it, and the number of them."""

    answer: str
    text: str
    votes: int
    is_right: bool


@dataclass(frozen=True)
class Disagreement:
    """A question whose drafts disagree.

    Attributes:
        drafts: in the order of their first appearance; the greedy answer's is the first one where it can be read.
        draft_flops: of all drafts.
        more_drafts: those of all samples of the pool, these drafts among them.
        more_flops: of the further ones.
        large: the entry of the large model.
        own_flops: of its greedy answer.

    """

    small: PoolEntry
    large: PoolEntry
    drafts: Sequence[DraftAnswer]
    draft_flops: int
    more_drafts: Sequence[DraftAnswer]
    more_flops: int
    own_flops: int

    @property
    def has_right(self) -> bool:
        """Whether a draft is right."""
        return any(draft.is_right for draft in self.drafts)

    @property
    def order(self) -> list[int]:
        """The order in which candidates are shown. It tells nothing of their votes."""
        return random.Random(f"{SEED}-{self.small.key}").sample(range(len(self.drafts)), len(self.drafts))


async def read_disagreements(
    small: Sequence[Path], large: Sequence[Path], equivalence: Equivalence
) -> tuple[list[Disagreement], Architecture]:
    """Return the questions that both models have answered and whose drafts disagree, and the architecture of the large model."""
    of_large = [read_pool(folder / POOL) for folder in large]
    by_key = {entry.key: entry for _, entries in of_large for entry in entries}
    judge = of_large[0][0].flops
    found = []
    for settings, entries in (read_pool(folder / POOL) for folder in small):
        for entry in (one for one in entries if one.key in by_key):
            ballots = [one for one in await ballots_of(entry, equivalence) if not isinstance(one.generation, Continuation)]
            if len(drafts := _distinct(ballots[:DRAFTS])) < 2:
                continue
            spent = [
                sum(settings.flops.branch_cost(len(entry.prefix), one.cached if place else 0, len(one.token_ids)))
                for place, one in enumerate(entry.answers)
            ]
            own = by_key[entry.key]
            own_flops = sum(judge.branch_cost(len(own.prefix), 0, len(own.greedy.token_ids)))
            found.append(
                Disagreement(entry, own, drafts, sum(spent[:DRAFTS]), _distinct(ballots), sum(spent[DRAFTS:]), own_flops)
            )
    return found, judge


def _distinct(ballots: Sequence[GenerationBallot]) -> list[DraftAnswer]:
    """Return the answers that can be read, equal ones together."""
    by_answer: dict[str, list[Generation]] = {}
    for one in ballots:
        if one.ballot.answer is not None:
            by_answer.setdefault(one.ballot.answer, []).append(one.generation)
    return [
        DraftAnswer(answer, same[0].text, len(same), any(one.is_right for one in same)) for answer, same in by_answer.items()
    ]


def read_judgements(path: Path) -> dict[tuple[str, str], Judgement]:
    """Return the judgements of a file by key and way; one that was asked stands before one that was counted."""
    lines = read_lines(path, Judgement) if path.exists() else []
    return {(one.key, one.way): one for one in sorted(lines, key=lambda line: line.was_asked)}
