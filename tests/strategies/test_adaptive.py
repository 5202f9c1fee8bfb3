"""One answer, then waves for as long as the rule says; what it sees, and what it does not draw."""

from dataclasses import dataclass, field, replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from strategies.adaptive import Adaptive, AdaptiveParams
from strategies.checking.evidence import lowest_window
from strategies.core.errors import UnsupportedTask
from strategies.core.ports import ignore_events
from strategies.core.results import Progress
from strategies.core.stopping_rule import Decision, Evidence
from strategies.core.values import AnswerKind, Candidate, StopReason, TokenLogprob
from strategies.voting.stopping import BetaRule

from tests.strategies.conftest import TreeModel  # isort: skip

pytestmark = pytest.mark.anyio


@dataclass
class Told:
    """A rule with scripted decisions, which remembers the evidence that it was given."""

    answers: list[int]
    seen: list[Evidence] = field(default_factory=list)

    def decide(self, evidence: Evidence) -> Decision:
        self.seen.append(evidence)
        return Decision(self.answers.pop(0)) if self.answers else Decision(None, StopReason.DIMINISHING_RETURNS)


def adaptive(context, rule=None, **params: object) -> Adaptive:
    return Adaptive(AdaptiveParams(**params), replace(context, rule=rule))


async def test_one_answer_that_is_good_enough_is_all_that_is_drawn(make, task, context) -> None:
    """It is the most likely one, and costs what a direct answer costs."""
    model = make("42", "41", "41")
    result = await adaptive(context, Told([]))(task(), model, ignore_events)
    assert (model.num_drawn, model.temperatures) == (1, [0.0])
    assert result.chosen[0].candidate.text == "42"
    assert result.stop_reason is StopReason.DIMINISHING_RETURNS


async def test_waves_are_as_large_as_the_rule_says_and_all_answers_vote(make, task, context) -> None:
    rule = Told([2, 4])
    model = make("42", "41", "so 41", "it is 41", "42")
    result = await adaptive(context, rule)(task(), model, ignore_events)
    assert model.num_drawn == 4
    assert model.temperatures == [0.0, None, None]
    assert result.chosen[0].answer == "41"
    assert [one.answers for one in rule.seen] == [1, 2, 4]
    assert rule.seen[-1].votes == (3, 1)
    assert [one.first_leads for one in rule.seen] == [True, True, False]


async def test_progress_has_the_answer_that_would_be_returned_now(make, task, context) -> None:
    told: list[Progress] = []
    await adaptive(context, Told([2, 4]))(task(), make("42", "41", "so 41", "it is 41"), told.append)
    assert [one.best.text for one in told if one.best] == ["42", "42", "41"]


async def test_a_false_line_is_mended_before_the_rule_is_asked(asked, words, context) -> None:
    rests = iter(["1 + 1 = 2\n20 / 3 = 5\nso it is 5", "\n2 + 2 = 4\nso it is 4"])
    rule = Told([])
    result = await adaptive(context, rule)(asked, TreeModel(words, lambda said, position: next(rests)), ignore_events)
    assert [one.candidate.text for one in result.chosen] == ["1 + 1 = 2\n2 + 2 = 4\nso it is 4"]
    assert [(one.first_is_true, one.attempts, one.num_filtered) for one in rule.seen] == [(True, 2, 0)]


async def test_what_has_a_false_line_has_no_vote_unless_nobody_else_has(make, task, context) -> None:
    rule = Told([4])
    result = await adaptive(context, rule, attempts=1)(
        task(), make("2 + 2 = 5", "2 + 2 = 5", "no, 4", "2 + 1 = 5"), ignore_events
    )
    assert result.chosen[0].answer == "4"
    assert [one.num_filtered for one in rule.seen] == [1, 3]
    alone = await adaptive(context, Told([]), attempts=1)(task(), make("2 + 2 = 5"), ignore_events)
    assert alone.chosen[0].answer == "5"


async def test_without_checks_false_lines_are_as_good_as_true_ones(make, task, context) -> None:
    model = make("2 + 2 = 5", "2 + 2 = 5", "no, 4", "2 + 2 = 5")
    result = await adaptive(context, Told([4]), check="none")(task(), model, ignore_events)
    assert (result.chosen[0].answer, model.num_drawn) == ("5", 4)


@pytest.mark.parametrize("attempts", [1, 3])
async def test_without_a_rule_it_goes_on_to_vote_where_nothing_can_be_mended(make, task, context, attempts: int) -> None:
    model = make(*["2 + 2 = 5"] * 40)
    await adaptive(context, n=8, attempts=attempts)(task(), model, ignore_events)
    assert model.num_drawn == 4 * attempts  # they agree


async def test_without_a_rule_it_draws_until_the_vote_is_settled(make, task, context) -> None:
    model = make(*["42"] * 20)
    result = await adaptive(context, n=16)(task(), model, ignore_events)
    assert model.num_drawn == 4
    assert result.stop_reason is StopReason.SETTLED
    torn = make(*["42", "41"] * 10)
    result = await adaptive(context, n=7)(task(), torn, ignore_events)
    assert torn.num_drawn == 7
    assert result.stop_reason is StopReason.COMPLETED


async def test_a_caller_who_samples_gets_samples(make, task, context) -> None:
    model = make("42", "41")
    await adaptive(context, Told([]), first="sample")(task(), model, ignore_events)
    assert model.temperatures == [None]


async def test_several_answers_are_drawn_at_once_when_several_are_wanted(make, task, context) -> None:
    model = make("42", "41", "40")
    result = await adaptive(context, Told([]))(task(num_choices=3), model, ignore_events)
    assert sorted(model.temperatures, key=str) == [0.0, None]
    assert len(result.chosen) == 3


async def test_what_cannot_be_compared_is_refused(task, context) -> None:
    with pytest.raises(UnsupportedTask, match="compared"):
        adaptive(context).check(task(kind=AnswerKind.OPEN))


async def test_nothing_drawn_is_no_answer(make, task, context) -> None:
    """Where the context has no room."""
    result = await adaptive(context)(task(), make(), ignore_events)
    assert result.chosen == ()


@given(values=st.lists(st.floats(-20, 0), min_size=1, max_size=60), size=st.integers(1, 20))
def test_the_lowest_window(values: list[float], size: int) -> None:
    """As the definition says it."""
    one = Candidate(0, "x", (), "stop", logprobs=tuple(TokenLogprob("", 0, value) for value in values))
    width = min(size, len(values))
    means = [sum(values[i : i + width]) / width for i in range(len(values) - width + 1)]
    assert lowest_window(one, size) == pytest.approx(min(means), abs=1e-9)


def test_the_rule_that_holds_where_nothing_was_measured() -> None:
    seen = Evidence(
        answers=4, attempts=4, leader=0, votes=(4,), num_filtered=0, num_unread=0, first_is_true=True, first_leads=True,
        logprob=-0.1, lowest=-0.2, tokens=20, length=5,
    )  # fmt: skip
    assert BetaRule().decide(seen) == Decision(None, StopReason.SETTLED)
    assert BetaRule().decide(replace(seen, votes=(3, 1))).answers == 8
    assert BetaRule().decide(replace(seen, votes=())).answers == 8
