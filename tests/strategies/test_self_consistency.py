"""Voting: golden runs, the stopping rule, schedules, weights."""

from dataclasses import replace

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from strategies.checking.sample_vote import SelfConsistencyParams
from strategies.core.errors import UnsupportedTask
from strategies.core.ports import ignore_events
from strategies.core.results import NodeState, Progress, Result
from strategies.core.values import AnswerKind, ScoredCandidate, StopReason
from strategies.self_consistency import SelfConsistency
from strategies.voting.stopping import is_settled

pytestmark = pytest.mark.anyio


def vote(context, **params: object) -> SelfConsistency:
    return SelfConsistency(SelfConsistencyParams(**params), context)


async def test_the_golden_run(make, says, task, context) -> None:
    """Seven answers, the whole result written by hand: settled at the sixth, since one more cannot catch up with 4 to 1."""
    texts = ["It is 42.", "6 * 7 = 42", "I think 41", "no idea", "\\boxed{42}", "42", "41"]
    model = make(*(says(i, text, logprob=-0.1 * (i + 1)) for i, text in enumerate(texts)))
    result = await vote(context, n=7)(task(), model, ignore_events)
    drawn = model.candidates
    answers = ["42", "42", "41", None, "42", "42"]
    shares = [0.8, 0.8, 0.2, None, 0.8, 0.8]
    scored = tuple(ScoredCandidate(c, a, s) for c, a, s in zip(drawn, answers, shares, strict=False))
    assert result == Result(chosen=(scored[0],), candidates=scored, stop_reason=StopReason.SETTLED)


async def test_progress_tells_candidate_answer_and_leader(make, task, context) -> None:
    """In words that a person understands."""
    lines: list[str] = []
    await vote(context, n=3)(task(), make("42", "41", "42"), lambda event: lines.append(event.text))
    assert lines == [
        "Candidate 1 of 3: 42 (leading: 42, 1 of 1)",
        "Candidate 2 of 3: 41 (leading: 42, 1 of 2)",
        "Candidate 3 of 3: 42 (leading: 42, 2 of 3)",
    ]


async def test_progress_has_the_answer_that_would_be_returned_now(make, task, context) -> None:
    told: list[Progress] = []
    await vote(context, n=4)(task(), make("no idea", "41", "42", "so 42"), told.append)
    assert [one.best and one.best.text for one in told] == [None, "41", "41", "42"]


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(
    answers=st.lists(st.sampled_from(["1", "2", "3", "nothing"]), min_size=1, max_size=20),
    schedule=st.sampled_from(["parallel", "waves"]),
    confidence=st.sampled_from([0.8, 0.95, 1.0]),
)
async def test_stops_exactly_where_drawing_one_by_one_would(
    answers: list[str], schedule: str, confidence: float, make, task, context
) -> None:
    """Drawn together, decided as if alone: the sequential Beta rule is the reference."""
    expected = len(answers)
    for number in range(1, len(answers) + 1):
        votes = [answer for answer in answers[:number] if answer != "nothing"]
        counts = [*sorted((votes.count(answer) for answer in set(votes)), reverse=True), 0, 0]
        if is_settled(counts[0], counts[1], len(answers) - number, confidence):
            expected = number
            break
    strategy = vote(context, n=len(answers), schedule=schedule, confidence=confidence)
    result = await strategy(task(), make(*answers), ignore_events)
    assert len(result.candidates) == expected
    assert (result.stop_reason is StopReason.SETTLED) == (expected < len(answers))


async def test_waves_draw_no_more_than_they_need(make, task, context) -> None:
    """Four equal answers settle it after the first wave; at once draws all of them."""
    waves, parallel = make(*["42"] * 16), make(*["42"] * 16)
    await vote(context, n=16, schedule="waves")(task(), waves, ignore_events)
    await vote(context, n=16, schedule="parallel")(task(), parallel, ignore_events)
    assert (waves.num_drawn, parallel.num_drawn) == (4, 16)


async def test_confident_votes_weigh_more(make, says, task, context) -> None:
    """CISC: two sure votes beat three unsure ones at a low temperature, and do not at a high one."""
    votes = [("1", -3.0), ("2", -0.01), ("1", -3.0), ("2", -0.01), ("1", -3.0)]
    model = make(*(says(i, text, logprob=logprob) for i, (text, logprob) in enumerate(votes)))
    sharp = await vote(context, n=5, weights="likelihood", weight_temperature=0.1)(task(), model, ignore_events)
    model.num_delivered = 0
    flat = await vote(context, n=5, weights="likelihood", weight_temperature=100)(task(), model, ignore_events)
    assert sharp.chosen[0].answer == "2"
    assert flat.chosen[0].answer == "1"


async def test_a_tie_goes_to_the_likelier_answer(make, says, task, context) -> None:
    """Two votes each: the mean log-probability decides."""
    votes = [("1", -2.0), ("2", -0.5), ("1", -2.0), ("2", -0.5)]
    model = make(*(says(i, text, logprob=logprob) for i, (text, logprob) in enumerate(votes)))
    result = await vote(context, n=4)(task(), model, ignore_events)
    assert result.chosen[0].answer == "2"


async def test_truncated_candidates_vote_only_when_nobody_finished(make, says, task, context) -> None:
    """The last number of a chain that was cut is not its answer."""
    mixed = make(says(0, "first 5 then", finish="length"), says(1, "and 5", finish="length"), says(2, "42"))
    cut = make(*(says(i, f"so far {n}", finish="length") for i, n in enumerate([5, 7, 7])))
    assert (await vote(context, n=3)(task(), mixed, ignore_events)).chosen[0].answer == "42"
    assert (await vote(context, n=3)(task(), cut, ignore_events)).chosen[0].answer == "7"


async def test_a_filter_excludes_candidates_that_miscalculate(make, task, context) -> None:
    """They neither win nor settle anything, and vote only when no other candidate has voted."""
    wrong, right = "1+1=3 #### 3", "1+1=2 #### 2"
    answers = [wrong] * 4 + [right] * 4
    without = await vote(context, n=8)(task(), make(*answers), ignore_events)
    filtered = await vote(context, n=8, filter="equations")(task(), make(*answers), ignore_events)
    alone = await vote(context, n=4, filter="equations")(task(), make(*[wrong] * 4), ignore_events)
    assert (without.chosen[0].answer, len(without.candidates)) == ("3", 4)
    assert (filtered.chosen[0].answer, len(filtered.candidates)) == ("2", 7)  # 3 to 0 with one to come
    assert alone.chosen[0].answer == "3"


def sure(says, index: int, text: str, *confidences: float):
    """A candidate whose first words have these confidences, the others the last of them: each knows one alternative."""
    one = says(index, text, logprob=-0.1)
    padded = [*confidences, *confidences[-1:] * len(one.logprobs)]
    tops = [replace(entry, top=(("x", -value),)) for entry, value in zip(one.logprobs, padded, strict=False)]
    return replace(one, logprobs=tuple(tops))


@pytest.mark.parametrize(("weights", "winner"), [("none", "1"), ("lowest_group", "2"), ("bottom_groups", "2"), ("tail", "1")])
async def test_groups_of_tokens_weigh_a_vote(make, says, task, context, weights: str, winner: str) -> None:
    """Three answers that are unsure in the middle against two that are not: only the last group likes the three."""
    votes = [("so it is 1", (9, 1, 9)), ("so it is 2", (5, 5, 5))] * 2 + [("so it is 1", (9, 1, 9))]
    model = make(*(sure(says, i, text, *values) for i, (text, values) in enumerate(votes)))
    result = await vote(context, n=5, weights=weights, group_tokens=1)(task(), model, ignore_events)
    assert result.chosen[0].answer == winner
    assert model.asked_logprobs == [0 if weights == "none" else 20]


async def test_the_most_confident_answers_are_kept(make, says, task, context) -> None:
    """Two of five: their vote counts alone, and the others have no answer in the trace."""
    votes = [("1", 2), ("2", 6), ("1", 3), ("2", 5), ("1", 4)]
    model = make(*(sure(says, i, text, value) for i, (text, value) in enumerate(votes)))
    result = await vote(context, n=5, keep=0.4, confidence=1.0, alternatives=7)(task(), model, ignore_events)
    assert result.chosen[0].answer == "2"
    assert [(one.answer, one.score) for one in result.candidates] == [
        (None, None),
        ("2", 1),
        (None, None),
        ("2", 1),
        (None, None),
    ]
    assert model.asked_logprobs == [7]


async def test_the_golden_run_of_a_cut(make, says, task, context) -> None:
    """Two answers warm up: a quarter of the way from 4 to 6 is 4.5. Others end where a group of two tokens is below it, by hand."""
    texts = [
        sure(says, 0, "so it is 1", 6, 4, 4, 6),  # groups 5, 4, 5
        sure(says, 1, "so it is 2", 9, 9, 7, 5),  # groups 9, 8, 6
        sure(says, 2, "but it is 1", 9, 5, 3, 3),  # 7, 4: below 4.5 at its third token
        sure(says, 3, "yet it is 2", 9, 4, 5, 9),  # 6.5, 4.5, 7: never below
        sure(says, 4, "or it is 1", 9, 9, 9, 1),  # 9, 9, 5
        sure(says, 5, "no 1", 3, 3),  # 3: below 4.5 at its last token, when it has ended by itself
    ]
    model = make(*texts, order=[3, 1, 0, 2])
    strategy = vote(context, n=6, cut=0.25, warm_up=2, group_tokens=2, confidence=1.0)
    result = await strategy(task(), model, ignore_events)
    low, ended = replace(texts[2], text="but it is", token_ids=(0, 1, 2), logprobs=texts[2].logprobs[:3]), texts[5]
    assert [one.candidate for one in result.candidates] == [
        *texts[:2],
        replace(low, finish_reason="cut"),
        *texts[3:5],
        replace(ended, finish_reason="cut"),
    ]
    assert [one.answer for one in result.candidates] == ["1", "2", None, "2", "1", None]
    assert result.chosen == (result.candidates[0],)
    assert result.stop_reason is StopReason.COMPLETED
    assert model.asked_logprobs == [20, 20]


@pytest.mark.parametrize(
    ("params", "waves"),
    [
        ({}, [8]),
        ({"cut": 0.1, "warm_up": 3}, [3, 5]),
        ({"cut": 0.1, "warm_up": 8}, [8]),
        ({"cut": 0.1, "warm_up": 9}, [8]),
        ({"schedule": "waves"}, [4, 4]),
        ({"cut": 0.1, "warm_up": 2, "schedule": "waves"}, [2, 2, 4]),
    ],
)
async def test_the_warm_up_is_drawn_first(make, task, context, params: dict[str, object], waves: list[int]) -> None:
    """Then the rest together, or in growing waves. The forecast has as many rounds."""
    told: list[int] = []
    model, sample = (one := make(*["no idea"] * 8)), one.sample
    model.sample = lambda draw: told.append(draw.n) or sample(draw)
    strategy = vote(context, n=8, **params)
    await strategy(task(), model, ignore_events)
    assert told == waves
    assert strategy.forecast(task(), 10).rounds == len(waves)


async def test_a_warm_up_that_settles_the_vote_is_the_end(make, says, task, context) -> None:
    """The Beta rule holds within it."""
    model = make(*(sure(says, i, "it is 42", 5) for i in range(16)))
    result = await vote(context, cut=0.9)(task(), model, ignore_events)
    assert (len(result.candidates), model.num_drawn, result.stop_reason) == (4, 4, StopReason.SETTLED)


async def test_a_warm_up_without_a_whole_answer_cuts_nothing(make, says, task, context) -> None:
    """Its groups tell nothing of an answer that ends."""
    cut = [replace(sure(says, i, "so 7", 9), finish_reason="repetition") for i in range(2)]
    model = make(*cut, *(sure(says, i, "so 42", 1) for i in range(2, 4)))
    result = await vote(context, n=4, cut=0.5, warm_up=2, group_tokens=1)(task(), model, ignore_events)
    assert result.chosen[0].answer == "42"
    assert [one.candidate.finish_reason for one in result.candidates] == ["repetition"] * 2 + ["stop"] * 2


async def test_where_all_others_are_cut_the_warm_up_answers(make, says, task, context) -> None:
    """The cut ones are nodes that the search has given up."""
    told: list[Progress] = []
    model = make(sure(says, 0, "so 42", 9), *(sure(says, i, "it is 7", 1) for i in range(1, 4)))
    result = await vote(context, n=4, cut=0.5, warm_up=1, group_tokens=1)(task(), model, told.append)
    assert result.chosen[0].answer == "42"
    assert [node.state for event in told for node in event.nodes] == [NodeState.FINAL, *[NodeState.PRUNED] * 3]


async def test_a_cut_answer_never_votes(make, says, task, context) -> None:
    """Not even where the warm-up has no answer: how far it came depends on the engine's speed."""
    model = make(sure(says, 0, "no idea", 9), *(sure(says, i, "7 is it", 1) for i in range(1, 4)))
    result = await vote(context, n=4, cut=0.5, warm_up=1, group_tokens=1)(task(), model, ignore_events)
    assert [one.answer for one in result.candidates] == [None] * 4
    assert result.chosen == (result.candidates[0],)


@pytest.mark.parametrize(
    ("params", "num_drawn"),
    [
        ({}, 8),  # 4 to 4: never settled
        ({"consensus": 0.75}, 4),  # 3 of 4, the warm-up
        ({"consensus": 0.75, "warm_up": 1}, 1),
        ({"consensus": 0.75, "warm_up": 5}, 5),  # 4 of 5
        ({"consensus": 0.85}, 8),
        ({"consensus": 0.8, "weights": "lowest_group"}, 6),  # 9 of 12, 9 of 13, 18 of 22
        ({"consensus": 0.8, "weights": "lowest_group", "keep": 0.5}, 4),  # 9 of 10, of the two that vote
    ],
)
async def test_a_consensus_is_a_share_of_the_weight(make, says, task, context, params: dict, num_drawn: int) -> None:
    """From the end of the warm-up on; it is settled."""
    model = make(*(sure(says, i, answer, 9 if answer == "2" else 1) for i, answer in enumerate("11121222")))
    result = await vote(context, n=8, confidence=1.0, **params)(task(), model, ignore_events)
    assert len(result.candidates) == num_drawn
    assert (result.stop_reason is StopReason.SETTLED) == (num_drawn < 8)


@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(
    answers=st.lists(
        st.tuples(
            st.sampled_from(["so it is 1", "so it is 2", "1+1=3 so 3"]), st.lists(st.integers(0, 9), min_size=4, max_size=4)
        ),
        min_size=2,
        max_size=10,
    ),
    params=st.fixed_dictionaries(
        {
            "weights": st.sampled_from(["none", "lowest_group", "bottom_groups", "tail", "likelihood"]),
            "keep": st.sampled_from([0.3, 1.0]),
            "cut": st.sampled_from([None, 0.2, 0.8]),
            "warm_up": st.integers(1, 4),
            "filter": st.sampled_from(["none", "equations", "all_equations"]),
            "schedule": st.sampled_from(["parallel", "waves"]),
            "confidence": st.sampled_from([0.8, 1.0]),
        }
    ),
    data=st.data(),
)
async def test_all_of_it_together_does_not_depend_on_the_order_of_completion(
    answers: list[tuple[str, list[int]]], params: dict[str, object], data: st.DataObject, make, says, task, context
) -> None:
    """Vote, weights, kept share, filter, Beta rule and cut compose; something is answered, and those that are cut have no vote."""
    texts = [sure(says, i, text, *values) for i, (text, values) in enumerate(answers)]
    strategy = vote(context, n=len(texts), group_tokens=2, **params)
    usual = await strategy(task(), make(*texts), ignore_events)
    order = data.draw(st.permutations(range(len(texts))))
    assert await strategy(task(), make(*texts, order=order), ignore_events) == usual
    assert usual.chosen[0].answer is not None
    assert all(one.answer is None for one in usual.candidates if one.candidate.finish_reason == "cut")
    first = usual.candidates[: int(params["warm_up"])]
    assert all(one.candidate.finish_reason == "stop" for one in first)


def test_the_old_name_of_the_filter_is_accepted() -> None:
    """`veto` means the same for one more release; both at once are refused."""
    assert SelfConsistencyParams.model_validate({"veto": "equations"}) == SelfConsistencyParams(filter="equations")
    with pytest.raises(ValidationError, match="Extra inputs"):
        SelfConsistencyParams.model_validate({"veto": "equations", "filter": "none"})


async def test_a_filtered_answer_comes_before_one_that_was_cut(make, says, task, context) -> None:
    """Where no candidate has a vote."""
    model = make(says(0, "5 then", finish="length"), says(1, "1+1=3 #### 3"), says(2, "so 5", finish="length"))
    assert (await vote(context, n=3, filter="equations")(task(), model, ignore_events)).chosen[0].answer == "3"


async def test_nothing_readable_gives_the_likeliest_whole_text(make, says, task, context) -> None:
    """Something must be answered."""
    model = make(says(0, "hm", logprob=-2.0), says(1, "well", logprob=-1.0), says(2, "er", logprob=-0.1, finish="length"))
    result = await vote(context, n=3)(task(), model, ignore_events)
    assert result.chosen[0].candidate.text == "well"


async def test_open_questions_are_refused(task, context) -> None:
    """There is nothing to vote on, and the parameter that would help is named."""
    with pytest.raises(UnsupportedTask) as refusal:
        SelfConsistency(SelfConsistencyParams(), context).check(task(AnswerKind.OPEN))
    assert refusal.value.parameter == "answer"
