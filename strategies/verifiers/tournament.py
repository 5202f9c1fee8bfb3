"""Scores by a knockout tournament in which the served model compares finished answers two by two."""

from collections.abc import Sequence

from strategies.core.ports import Model
from strategies.core.turns import Turns
from strategies.core.values import AnswerKind, Candidate, Task
from strategies.core.verifier import Verifier
from strategies.verifiers.yes_no import yes_probabilities
from strategies.voting.count import AnswerGroup, count_votes, mean_logprob

QUESTION = "Which of your last two answers is better?\n (A) The first\n (B) The second\nAnswer with A or B."


class Tournament(Verifier):
    """Generative selection: the model's choice between answers, pair by pair, in a knockout (Liu et al. 2025, arXiv 2501.13007).

    Each distinct answer plays once for all candidates that give it. Answers are seeded by their votes, then by their likelihood: the first
    plays the last, and the middle one of an odd number passes. The model is asked for A or B twice, in both orders, so that its liking for
    a place cancels out. The matches of a round are asked together. A match that is level, or that the budget has no room for, goes to the
    better seed, so what is left of a tournament without budget is a vote.
    """

    name = "tournament"
    summary = (
        "The model's own choice: distinct finished answers are compared two by two in a knockout, each pair in both orders."
    )
    num_logprobs = 0
    scores_steps = False  # only finished answers are compared

    @classmethod
    def num_calls(cls, num_candidates: int) -> int:
        """Two calls for each match, and all but the winner lose one. There are fewer where candidates have the same answer."""
        return 2 * max(num_candidates - 1, 0)

    async def score(self, task: Task, candidates: Sequence[Candidate], model: Model) -> list[float]:
        """Return how far each candidate's answer came: 1 for the winner, else the share of rounds before its defeat.

        To that share a part of a round is added, at most half: how probable the model found it that the loser was better. A candidate
        without an answer scores 0.
        """
        groups = await self._seeded(task, candidates)
        num_rounds = max(len(groups) - 1, 0).bit_length()  # the logarithm, rounded up: each round leaves half
        scores: dict[int, float] = {}
        playing = groups
        for number in range(num_rounds):
            half = len(playing) // 2
            passing = playing[half : len(playing) - half]
            matches = list(zip(playing[:half], reversed(playing), strict=False))
            winners = []
            for (first, second), chance in zip(matches, await _play(task, model, matches), strict=True):
                winner, loser = (first, second) if chance >= 1 / 2 else (second, first)
                winners.append(winner)
                scores |= _of(loser, (number + min(chance, 1 - chance)) / num_rounds)
            playing = winners + passing
        for winner in playing:
            scores |= _of(winner, 1.0)
        return [scores.get(candidate.index, 0.0) for candidate in candidates]

    async def _seeded(self, task: Task, candidates: Sequence[Candidate]) -> list[AnswerGroup]:
        """Return the candidates by answer, best seed first. Answers that cannot be compared are the same where their texts are."""
        if task.kind is not AnswerKind.OPEN:
            return (await count_votes(task, candidates, self.context.equivalence)).ranked()
        by_text: dict[str, AnswerGroup] = {}
        for candidate in candidates:
            if candidate.is_complete:
                text = task.read(candidate).strip()
                by_text.setdefault(text, AnswerGroup(text)).add(candidate)
        return sorted(by_text.values(), key=lambda group: (len(group.members), mean_logprob(group.best)), reverse=True)


def _of(group: AnswerGroup, score: float) -> dict[int, float]:
    return {member.index: score for member in group.members}


async def _play(task: Task, model: Model, matches: Sequence[tuple[AnswerGroup, AnswerGroup]]) -> list[float]:
    """Return for each match the probability that the model finds the first answer better, the mean over both orders."""
    pairs = [(first.members[0], second.members[0]) for first, second in matches]
    turns, question = Turns(task), task.follow_up(QUESTION)
    chances = await yes_probabilities(
        model,
        [order for first, second in pairs for order in ((first, second), (second, first))],
        lambda order: (*turns.of(order), *question),
        task.encode("A")[0],
        task.encode("B")[0],
    )
    return [(there + 1 - back) / 2 for there, back in zip(chances[::2], chances[1::2], strict=True)]
