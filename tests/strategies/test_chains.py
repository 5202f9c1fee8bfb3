"""What holds of answers that are checked line by line, whatever the model writes."""

import random

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from strategies.checking.chain_vote import vote_of_chains
from strategies.checking.chains import LONGEST_LINE, Chain, Writer
from strategies.core.ports import ignore_events
from strategies.core.values import Candidate, StopReason, TokenLogprob
from strategies.verifiers.equations import is_refuted
from strategies.voting.count import mean_logprob

from tests.strategies.conftest import TreeModel, Words  # isort: skip

pytestmark = pytest.mark.anyio

LINES = ["1 + 1 = 2", "2 + 2 = 5", "20 / 3 = 7", "3 * 3 = 9", "7 - 4 = 4", "so it is 9", "", "let x be 3", "10 / 4 = 2.5"]
ANSWERS = st.lists(st.lists(st.sampled_from(LINES), min_size=1, max_size=5).map("\n".join), min_size=1, max_size=12)


def chain_of() -> Chain:
    """An answer that the calculator has no part in."""
    return Chain(0, lambda _text: ())


def is_true(text: str, *, is_complete: bool = True) -> bool:
    """A line that was cut says nothing yet."""
    *lines, last = text.split("\n")
    return not any(is_refuted(line) for line in ([*lines, last] if is_complete else lines))


@settings(max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(
    answers=ANSWERS,
    num=st.integers(1, 3),
    attempts=st.integers(1, 5),
    seed=st.integers(0, 99),
    tokens=st.none() | st.integers(0, 40),
)
async def test_whatever_is_written(
    answers: list[str], num: int, attempts: int, seed: int, tokens: int | None, question
) -> None:
    words, draw = Words(), random.Random(seed)

    def script(said: str, position: int) -> str:
        return ("\n" if said else "") + draw.choice(answers)

    model = TreeModel(words, script, shuffle=random.Random(seed), tokens=tokens)
    task = question()
    task = type(task)(question="?", prefix=words.encode("Q|"), kind=task.kind, encode=words.encode)
    writer = Writer(task, model, ignore_events, max_chains=num, first_temperature=0.0)
    await writer.write(num, attempts)
    assert model.num_open == 0
    for chain in writer.chains:
        assert chain.latest is not None
        assert chain.num_attempts <= attempts
        assert words.decode(chain.latest.token_ids) == chain.latest.text
        assert is_true(chain.kept.text.rpartition("\n")[0] if chain.kept.text else "")
        kept = chain.kept.text.removesuffix(chain.inserted)
        assert chain.latest.text.startswith(kept) or chain.is_true
        assert chain.is_true == is_true(chain.latest.text, is_complete=chain.latest.is_complete)
        if not chain.is_true and tokens is None:
            assert chain.num_attempts == attempts
        assert chain.answer.is_complete or not chain.latest.is_complete
        assert not chain.is_sound or chain.answer == chain.latest
    ids = [node.id for chain in writer.chains for node in chain.nodes]
    assert len(ids) == len(set(ids))
    if tokens is not None and sum(node.tokens for chain in writer.chains for node in chain.nodes) >= tokens:
        assert model.stopped in (StopReason.TOKENS, None)


def test_tokens_that_are_no_text_of_their_own_begin_anew() -> None:
    """A character in two tokens: what is kept must be what the tokens say."""
    entries = tuple(TokenLogprob(token, i, -0.1) for i, token in enumerate(["", "é", "\n", "1 + 1 = 3", "\n", "x"]))
    chain = chain_of()
    chain.add_attempt(Candidate(0, "é?\n1 + 1 = 3\nx", tuple(range(6)), "stop", None, entries))
    assert (chain.kept.text, chain.kept.token_ids, chain.is_true) == ("", (), False)


def test_a_line_without_end_is_not_checked() -> None:
    chain = chain_of()
    assert chain.ends_false("1 + 1 = 3\n")
    assert not chain.ends_false("1 + 1 = 3 and " + "so " * LONGEST_LINE + "\n")
    assert not chain.ends_false("1 + 1 = 3")  # it may go on: 3.0, 3x


async def test_what_a_grammar_holds_is_not_continued(question, words) -> None:
    task = question(is_constrained=True)
    model = TreeModel(words, lambda said, position: "1 + 1 = 3")
    writer = Writer(task, model, ignore_events, max_chains=1, first_temperature=0.0)
    await writer.write(1, 6)
    assert model.num_drawn == 1


async def test_of_what_the_budget_cut_there_is_what_there_is(question, words, context) -> None:
    """Nothing whole has been written yet."""
    rests = iter(["1 + 1 = 2\n20 / 3 = 7\nit is 7", "\n2 + 2 = 4\n4 + 4 = 8\n8 + 8 = 16\nit is 16"])
    model = TreeModel(words, lambda said, position: next(rests), tokens=22)
    writer = Writer(question(), model, ignore_events, max_chains=1, first_temperature=0.0)
    await writer.write(1, 6)
    [chain] = writer.chains
    assert chain.is_true
    assert not chain.is_sound
    assert chain.answer.text.startswith("1 + 1 = 2\n2 + 2 = 4\n")


async def test_an_answer_that_is_never_true_is_whole_all_the_same(question, words, context) -> None:
    """The last attempt is written to its end, and has a vote if no other chain has one."""
    model = TreeModel(words, lambda said, position: "20 / 3 = 7\nit is 7")
    writer = Writer(question(), model, ignore_events, max_chains=1, first_temperature=0.0)
    await writer.write(1, 3)
    [chain] = writer.chains
    assert chain.answer.is_complete
    counted = await vote_of_chains(question(), writer, context.equivalence)
    assert [group.answer for group in counted.ranked] == ["7"]


def test_a_line_that_was_cut_says_nothing_yet() -> None:
    """It may have meant 144."""
    cut, whole = chain_of(), chain_of()
    entries = tuple(TokenLogprob(token, 0, -0.1) for token in ("12 * 12", " = 14"))
    cut.add_attempt(Candidate(0, "12 * 12 = 14", (0, 1), "length", None, entries))
    whole.add_attempt(Candidate(0, "12 * 12 = 14", (0, 1), "stop", None, entries))
    assert (cut.is_true, whole.is_true) == (True, False)


@pytest.mark.parametrize("end", ["\x0c", "\x85", "\u2028"])
def test_only_line_feeds_end_lines(end: str) -> None:
    """The same for what is cut while it is written and for what is looked at afterwards."""
    text = f"let us see{end}2 + 2 = 5\n"
    chain = chain_of()
    is_cut = chain.ends_false(text)
    chain.add_attempt(Candidate(0, text, (0,), "step" if is_cut else "stop", None, (TokenLogprob(text, 0, -0.1),)))
    assert chain.is_true is not is_cut


def test_the_tree_says_what_was_gone_on_from() -> None:
    """After every second failure at one place a line more is given up, and with it the attempt that wrote it."""
    chain = chain_of()
    for number, text in enumerate(["1 + 1 = 2\n2 + 2 = 5\n", "so\n3 + 3 = 7\n", "3 + 3 = 8\n", "3 + 3 = 9\n"]):
        tokens = [line + "\n" for line in text.split("\n")[:-1]]
        entries = tuple(TokenLogprob(token, place, -0.1) for place, token in enumerate(tokens))
        chain.add_attempt(Candidate(number, text, tuple(range(len(tokens))), "stop", None, entries))
    assert [node.parent for node in chain.nodes] == [None, 0, 1, 1]
    assert chain.kept.text == "1 + 1 = 2\n"  # `so` is given up


async def test_a_result_that_is_wrong_is_computed_and_gone_on_with(question, words) -> None:
    """At the same temperature as before, behind the corrected result and nothing else."""
    seen: list[str] = []

    def script(said: str, position: int) -> str:
        seen.append(said)
        return "1 + 1 = 2\n2 + 2 = 5\nit is 5" if not said else "\nit is 4"

    model = TreeModel(words, script)
    task = question()
    writer = Writer(task, model, ignore_events, max_chains=1, first_temperature=0.0)
    await writer.write(1, 6)
    [chain] = writer.chains
    assert seen == ["", "1 + 1 = 2\n2 + 2 = 4"]
    assert model.temperatures == [0.0, 0.0]
    assert chain.answer.text == "1 + 1 = 2\n2 + 2 = 4\nit is 4"
    assert [node.text for node in chain.nodes][1] == " 4\nit is 4"
    assert words.decode(chain.answer.token_ids) == chain.answer.text


async def test_what_is_wrong_with_a_right_result_is_written_again(question, words) -> None:
    """From the beginning of its line, at the temperature of the request."""
    rests = iter(["1 + 1 = 3\nit is 3", " + 4 / 3 = 9\nit is 9", "1 + 1 = 2\nit is 2"])
    model = TreeModel(words, lambda said, position: next(rests))
    writer = Writer(question(), model, ignore_events, max_chains=1, first_temperature=0.0)
    await writer.write(1, 6)
    assert writer.chains[0].answer.text == "1 + 1 = 2\nit is 2"
    assert model.temperatures == [0.0, 0.0, None]


async def test_what_follows_a_right_result_is_read_with_it(question, words) -> None:
    """Alone, "- 10 + 3 = 5" would be false, and "+ 4 = 9" would be nothing."""
    rests = iter(["4 + 4 = 9\nit is 9", " - 10 + 7 = 5\nit is 5", "unreachable"])
    model = TreeModel(words, lambda said, position: next(rests))
    writer = Writer(question(), model, ignore_events, max_chains=1, first_temperature=0.0)
    await writer.write(1, 6)
    assert writer.chains[0].is_sound
    assert writer.chains[0].answer.text == "4 + 4 = 8 - 10 + 7 = 5\nit is 5"
    rests = iter(["4 + 4 = 9\nit is 9", " + 4 = 9\nit is 9", "so it is 12"])
    writer = Writer(
        question(), TreeModel(words, lambda said, position: next(rests)), ignore_events, max_chains=1, first_temperature=0.0
    )
    await writer.write(1, 6)
    assert "it is 9" not in writer.chains[0].nodes[1].text


async def test_answers_that_are_begun_together_do_not_disturb_each_other(question, words) -> None:
    """One of them is put right while the others are still written."""
    answers = iter(["2 + 2 = 5\nit is 5", "1 + 1 = 2\nit is 2", "1 + 1 = 2\nit is 2"])

    class Streaming(TreeModel):
        """Looks at what a branch writes only when it is its turn."""

        async def _deliver(self, text, n, first, step):
            for position in range(n):
                yield self._cut(first + position, next(answers) if first < 3 else "\nit is 4", step)

    writer = Writer(question(), Streaming(words, lambda *_: ""), ignore_events, max_chains=3, first_temperature=None)
    await writer.write(3, 3)
    assert [chain.answer.text.rpartition(" ")[2] for chain in writer.chains] == ["4", "2", "2"]
    assert all(chain.is_sound for chain in writer.chains)


async def test_where_something_would_begin_anew_answers_are_drawn_whole(question, words) -> None:
    """As after a penalty, or where a stop string may lie across the seam."""
    model = TreeModel(words, lambda said, position: "2 + 2 = 5\nit is 5")
    writer = Writer(question(is_continuable=False), model, ignore_events, max_chains=1, first_temperature=0.0)
    await writer.write(1, 6)
    assert writer.chains[0].answer.text == "2 + 2 = 5\nit is 5"


async def test_what_was_given_does_not_make_an_answer_likelier(question, words) -> None:
    model = TreeModel(
        words, lambda said, position: "2 + 2 = 5\nit is 5" if not said else "\nit is 4", logprob=lambda _word: -1.0
    )
    writer = Writer(question(), model, ignore_events, max_chains=1, first_temperature=0.0)
    await writer.write(1, 6)
    answer = writer.chains[0].answer
    assert [entry.token for entry in answer.logprobs if entry.is_inserted] == [" 4"]
    assert mean_logprob(answer) == -1.0
