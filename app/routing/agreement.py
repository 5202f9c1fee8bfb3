"""The probability that each answer to a question is right, from nothing but the answers that were drawn to it.

A model agrees with itself where it errs systematically, so the share of the votes alone is no probability. How far it can be trusted is
learned from questions with known answers, of other models. The form is a conditional logit (McFadden 1974) over the distinct answers and
one more option, that none of them is right:

    P(answer c is right) = exp(s_c) / (1 + sum over all answers of exp(s)),    s_c = bias + w · features of c.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal, Self

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, model_validator

from app.routing.estimators import Number
from app.routing.features import LEAST_LOGPROB, LEAST_LOWEST, Features, logit
from strategies.checking.chains import Chain
from strategies.checking.evidence import LOWEST, lowest_window
from strategies.core.values import Candidate
from strategies.voting.count import mean_logprob

AGREEMENT_FILE = Path(__file__).parent / "agreement.json"
"""The model that comes with the package. `python -m benchmarks.unlabelled` fits it."""

LONGEST_ANSWER = 64
"""Characters of an answer that count. Long answers that agree do so more rarely by chance."""


@dataclass(frozen=True, slots=True)
class Ballot:
    """One answer that was drawn to a question.

    Attributes:
        answer: in canonical form, spelled as all answers that are the same; None if none can be read, or if it was cut off.
        is_sound: it is whole and has no false line.
        is_first: it is the first answer, the greedy one.
        logprob: mean log-probability of its tokens.
        lowest: the same over its least probable window (`strategies.checking.evidence.lowest_window`).
        length: its number of tokens.

    """

    answer: str | None
    is_sound: bool
    is_first: bool
    logprob: float
    lowest: float
    length: int


def ballot_of(candidate: Candidate, answer: str | None, *, is_first: bool) -> Ballot:
    """Return the ballot of a candidate with its log-probabilities.

    Args:
        candidate: a whole answer, with what was kept of it before it was continued.
        answer: its answer, spelled as all that are the same. It does not count where the candidate was cut off.
        is_first: whether it is the first answer, the greedy one.

    """
    chain = Chain(0, lambda _text: ())
    chain.add_attempt(candidate)
    return Ballot(
        answer=answer if candidate.is_complete else None,
        is_sound=chain.is_sound,
        is_first=is_first,
        logprob=max(mean_logprob(candidate), LOWEST),
        lowest=lowest_window(candidate),
        length=len(candidate.token_ids),
    )


RISING = ("share", "share squared", "share and answer length")
"""Features that more votes raise. Their weights are never negative."""

FALLING = ("best other share", "answers per ballot")
"""Features that more votes of another answer raise. Their weights are never positive."""

AGREEMENT_FEATURES = (
    *RISING, *FALLING, "unsound share", "has first", "first is sound", "logprob", "lowest", "best logprob of others",
    "length against mean", "answer length", "is number", "difficulty",
)  # fmt: skip
"""The names of the features of an answer. The last one is 0 where nobody has estimated the difficulty of the prompt."""


def agreement_features(ballots: Sequence[Ballot], difficulty: float | None = None) -> Mapping[str, Features]:
    """Return the (len(AGREEMENT_FEATURES),) features of each distinct answer. The order of the ballots does not matter.

    Args:
        ballots: all answers that were drawn to one question.
        difficulty: the probability that the first answer is wrong, as estimated from the prompt, 0 to 1.

    """
    sound = [one for one in ballots if one.is_sound]
    counts = {one.answer: 0 for one in ballots if one.answer is not None}
    for one in sound:
        if one.answer is not None:
            counts[one.answer] += 1
    best = {answer: _best([one for one in ballots if one.answer == answer]) for answer in counts}
    mean_length = sum(one.length for one in ballots) / max(len(ballots), 1)
    total, num = max(len(sound), 1), max(len(ballots), 1)
    first_is_sound = any(one.is_first and one.is_sound for one in ballots)
    found = {}
    for answer, count in counts.items():
        others = [other for other in counts if other != answer]
        most_of_others = max((counts[other] for other in others), default=0)
        share, one = count / total, best[answer]
        length = math.log1p(min(len(answer), LONGEST_ANSWER))
        found[answer] = np.array(
            [
                share,
                share * share,
                share * length,
                most_of_others / total,
                len(counts) / num,
                sum(each.answer == answer and not each.is_sound for each in ballots) / num,
                float(any(each.is_first and each.answer == answer for each in ballots)),
                float(first_is_sound),
                max(one.logprob, LEAST_LOGPROB),
                max(one.lowest, LEAST_LOWEST),
                max([LEAST_LOGPROB, *(best[other].logprob for other in others)]),
                math.log1p(one.length) - math.log1p(mean_length),
                length,
                float(_is_number(answer)),
                0.0 if difficulty is None else logit(difficulty),
            ]
        )
    return found


def _best(ballots: Sequence[Ballot]) -> Ballot:
    """Return the ballot that stands for its answer. Its key has every field that a feature reads: equals are told apart in any order."""
    return max(ballots, key=lambda one: (one.is_sound, one.logprob, -one.length, one.lowest))


def _is_number(answer: str) -> bool:
    return any(character.isdigit() for character in answer) and not any(character.isalpha() for character in answer)


class MeasuredWithoutAnswers(BaseModel):
    """How far a policy that was made without answers was from the one with answers, on one model that this file was not fitted to.

    Attributes:
        model: the name of the model, for people.
        questions: the number of questions that the policies were made from.
        test_questions: the number of other questions that they were compared on.
        accuracy: the difference in accuracy at equal FLOPs, in [-1, 1], negative where the policy without answers is behind.
        interval: the 95 % interval of that difference.
        calibration_error: of the difficulty after the first answer, against the truth.
        calibration_error_with_answers: the same of the policy with answers.

    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    model: Annotated[str, Field(max_length=200)]
    questions: Annotated[int, Field(ge=1)]
    test_questions: Annotated[int, Field(ge=1)]
    accuracy: Annotated[float, Field(ge=-1, le=1)]
    interval: tuple[Annotated[float, Field(ge=-1, le=1)], Annotated[float, Field(ge=-1, le=1)]]
    calibration_error: Annotated[float, Field(ge=0, le=1)]
    calibration_error_with_answers: Annotated[float, Field(ge=0, le=1)]


class AgreementModel(BaseModel):
    """The fitted model: a few numbers.

    Attributes:
        bias: of all answers; the option that none of them is right has the sum 0.
        weights: by the name of the feature. A feature without a weight does not count.
        provenance: what it was fitted to, for people.
        measured: what policies that were made with such models were worth.

    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    version: Literal[1] = 1
    bias: Number
    weights: dict[str, Number] = Field(max_length=256)
    provenance: dict[str, Any] = {}
    measured: tuple[MeasuredWithoutAnswers, ...] = Field((), max_length=32)

    @model_validator(mode="after")
    def _check_names(self) -> Self:
        if unknown := sorted(self.weights.keys() - set(AGREEMENT_FEATURES)):
            raise ValueError(f"there is no feature {', '.join(unknown)}")
        return self

    def probabilities(self, ballots: Sequence[Ballot], difficulty: float | None = None) -> Mapping[str, float]:
        """Return the probability that it is right, 0 to 1, of each distinct answer. They sum to at most 1.

        Args:
            ballots: all answers that were drawn to one question.
            difficulty: the probability that the first answer is wrong, as estimated from the prompt; None where nobody knows.

        """
        features = agreement_features(ballots, difficulty)
        if not features:
            return {}
        weights = np.array([self.weights.get(name, 0.0) for name in AGREEMENT_FEATURES])
        sums = np.stack(list(features.values())) @ weights + self.bias
        # subtracting the highest sum, or that of "none", keeps the exponentials finite
        highest = max(float(sums.max()), 0.0)
        parts = np.exp(sums - highest)
        total = float(parts.sum()) + math.exp(-highest)
        return {answer: float(part) / total for answer, part in zip(features, parts, strict=True)}


def shipped_agreement() -> AgreementModel:
    """Return the model that comes with the package."""
    return AgreementModel.model_validate_json(AGREEMENT_FILE.read_bytes())
