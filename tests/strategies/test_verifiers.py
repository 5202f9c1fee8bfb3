"""Verifiers that ask the model, the fallback when they fail, and the choice of answers by scores."""

import asyncio
import math
from dataclasses import replace

import pytest
from pydantic import TypeAdapter

from strategies.best_of_n import BestOfN, BestOfNParams
from strategies.core.errors import UnsupportedTask, VerifierFailed
from strategies.core.ports import ignore_events
from strategies.core.values import AnswerKind, Candidate, StopReason, VerifierPrompt
from strategies.core.verifier import Verifier, is_chosen_by_name
from strategies.search.scorer import Scorer
from strategies.verifiers import VERIFIERS, AnyVerifier, StepVerifier
from strategies.verifiers.p_true import QUESTION
from strategies.verifiers.reward_model import RewardModelParams, RewardModelVerifier
from strategies.voting.selection import choose

pytestmark = pytest.mark.anyio


def said(words, text: str, index: int = 0, **fields: object) -> Candidate:
    return Candidate(index, text, words.encode(text), "stop", **fields)


async def test_p_true_asks_in_the_next_turn(words, grow, question, verifier_of) -> None:
    """P(A) / (P(A) + P(B)) after prompt, answer and the question, all candidates at once."""
    model = grow({}, weigh=lambda _text, word: math.log({"A": 0.6, "B": 0.2}[word]))
    scores = await verifier_of("p_true").score(question(), [said(words, " one"), said(words, " two", 1)], model)
    assert scores == pytest.approx([0.75, 0.75])
    assert model.asked == [f"Q| {one}\nuser: {QUESTION}\nassistant:" for one in ("one", "two")]


async def test_an_end_of_sequence_has_no_place_in_a_conversation(words, grow, question, verifier_of) -> None:
    """The token that ended the answer is left out of what follows it."""
    answer = said(words, " one <end>")
    model = grow({})
    task = question(end_tokens=frozenset(words.encode(" <end>")))
    await verifier_of("p_true").score(task, [answer], model)
    assert model.asked[0].startswith("Q| one\nuser:")


async def test_an_adapter_is_asked_as_it_was_taught(words, grow, question, verifier_of) -> None:
    """Its own template: what follows the answer, or a whole prompt around question, answer and step; text is not interpreted."""
    step = said(words, " a; {answer} b;", step_start=1, last_step=" {answer} b;")
    verifier = verifier_of({"adapter": "judge"})
    model = grow({}, weigh=lambda _text, word: 0.0 if word == " good" else -math.inf)
    model.verifier_prompt = VerifierPrompt(" right?", " good", " bad")
    assert await verifier.score(question(), [step], model) == [1.0]
    model.verifier_prompt = VerifierPrompt("Q={question} A={answer} S={step} {other}", " good", " bad")
    await verifier.score(question(), [step], model)
    assert model.asked == ["Q| a; {answer} b; right?", "Q=? A= a; {answer} b; S= {answer} b; {other}"]
    assert model.used == ["judge", "judge"]


@pytest.mark.parametrize(("yes", "no"), [(" same a", " same b"), (" x", " x")])
async def test_words_that_begin_alike_cannot_be_told_apart(yes: str, no: str, words, grow, question, verifier_of) -> None:
    """A score is read from one token, so likelihood takes over, and a note says so."""
    model = grow({})
    model.verifier_prompt = VerifierPrompt("?", yes, no)
    judge = Scorer(verifier_of({"adapter": "j"}), question(), model)
    await judge.score([said(words, " a")])
    assert "begin with the same token" in judge.notes[0]


class Moody(Verifier):
    """Scores 0.5, until it fails."""

    name = "moody"
    num_logprobs = 0

    def __init__(self, num_good: int = 0) -> None:
        self.num_good, self.num_asked = num_good, 0

    async def score(self, task, candidates, model) -> list[float]:
        self.num_asked += 1
        if self.num_asked > self.num_good:
            raise VerifierFailed("the reward model moody did not answer")
        return [0.5] * len(candidates)


async def test_when_a_verifier_fails_likelihood_takes_over(make, says, task, context) -> None:
    """For the rest of the run, so that what is compared was scored alike; the reply has the note."""
    moody = Moody()
    strategy = BestOfN(
        BestOfNParams.model_validate({"n": 3, "verifier": {"reward_model": "m"}}), replace(context, reward_models={"m": moody})
    )
    candidates = [says(0, "no", logprob=-2.0), says(1, "yes", logprob=-0.1), says(2, "so", logprob=-1.0)]
    result = await strategy(task(AnswerKind.OPEN), make(*candidates), ignore_events)
    assert result.chosen[0].candidate.text == "yes"
    assert result.notes == ("the reward model moody did not answer; likelihood chose instead",)
    judge = Scorer(moody := Moody(num_good=1), task(), make())
    assert await judge.score(candidates) == [0.5] * 3
    for _ in range(3):
        assert await judge.score(candidates) == pytest.approx([math.exp(-2), math.exp(-0.1), math.exp(-1)])
    assert moody.num_asked == 2
    assert len(judge.notes) == 1


async def test_the_deadline_holds_for_verifiers_too(grow, question, words) -> None:
    """One that hangs does not hold the answer up."""

    class Hanging(Moody):
        async def score(self, task, candidates, model) -> list[float]:
            await asyncio.Event().wait()
            return []

    model = grow({})
    model.deadline = asyncio.get_running_loop().time() + 0.05
    async with asyncio.timeout(2):
        assert await Scorer(Hanging(), question(), model).score([said(words, " a")]) == [0.0]


def test_reward_models_are_chosen_by_name_only(context) -> None:
    """One that the operator has not configured is refused, with those that there are."""
    with pytest.raises(UnsupportedTask, match="there are: other"):
        RewardModelVerifier.build(
            RewardModelParams(reward_model="http://evil"), replace(context, reward_models={"other": Moody()})
        )


def test_every_verifier_can_be_chosen() -> None:
    """By its name, or by an object with its name as the first key; steps by those that can score them."""
    for field, among in ((AnyVerifier, set(VERIFIERS)), (StepVerifier, {one for one in VERIFIERS if one.scores_steps})):
        schema = TypeAdapter(field).json_schema()
        names = {name for form in schema["anyOf"] for name in form.get("enum", ())}
        keys = {next(iter(form["properties"])) for form in schema["$defs"].values() if form["title"] != "ArithmeticRule"}
        assert names == {one.name for one in among if is_chosen_by_name(one)}
        assert keys == {one.name for one in among if not is_chosen_by_name(one)}
    assert {one.name for one in VERIFIERS if not one.scores_steps} == {"majority", "tournament"}


async def test_a_weighted_vote_adds_up_scores(says, task, context) -> None:
    """42 has 0.3 + 0.3, 7 has 0.5: by score 7 is best, by vote 42, by its better candidate."""
    candidates = [says(0, "42"), says(1, "7"), says(2, "it is 42")]
    scores = {0: 0.3, 1: 0.5, 2: 0.31}
    by_score, scored = await choose(task(), candidates, scores, context.equivalence, "score")
    by_vote, _ = await choose(task(), candidates, scores, context.equivalence, "vote")
    assert by_score[0].answer == "7"
    assert (by_vote[0].answer, by_vote[0].candidate.index) == ("42", 2)
    assert [one.score for one in scored] == [0.3, 0.5, 0.31]


async def test_best_of_n_stops_at_a_proof(make, task, context) -> None:
    """In the order of indices: what a slower, earlier candidate says comes first."""
    strategy = BestOfN(BestOfNParams.model_validate({"n": 4, "verifier": {"number": 42}}), context)
    result = await strategy(task(), make("41", "42", "42 it is", "40", order=[3, 2, 1, 0]), ignore_events)
    assert result.stop_reason is StopReason.VERIFIED
    assert [one.candidate.index for one in result.candidates] == [0, 1]
    assert result.chosen[0].candidate.text == "42"
