"""Early exit: the thinking of a model ends at the first transition at which it is sure, and all that it costs is told."""

import asyncio
import json
import math
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest
from pydantic import ValidationError

from app.engine.base import Branch, Output
from app.engine.scripted import ScriptedEngine
from strategies.answers.equivalence import Equivalence
from strategies.checking.thoughts import Thought
from strategies.checking.trials import Trial, agree, confidence, read_trial
from strategies.core.thinking import Thinking
from strategies.core.values import AnswerKind, Candidate, Delta, Task, TokenLogprob
from strategies.early_exit import EarlyExitParams
from tests.thinkers import MARKS

pytestmark = pytest.mark.anyio

PARTS = (
    " a b c d e f g h",
    "\nWait, i j k l m n o",
    "\nHmm, p q r s t u v",
    "\nBut w x y z a b c",
    " d e f g h i j k l m n o p q",
)
THINKING = "".join(PARTS)
ANSWER = "\n\nThe answer is 42."
SURE, UNSURE = "42", "1000"
"""The scripted engine is less sure of longer words: their probabilities are 0.82 and 0.67."""

EXIT: dict[str, Any] = {"strategy": "early_exit", "answer": "math", "threshold": 0.8, "trial_tokens": 4}


def thinker(*trials: str, thinking: str = THINKING, answer: str = ANSWER) -> Callable[[str, int], str]:
    """A model that thinks the same always, and whose trial answers at its transitions are these; the last one stays."""

    def script(prompt: str, _number: int) -> str:
        said = prompt.rpartition(MARKS[0])[2]
        thought, is_ended, rest = said.partition(MARKS[1])
        if not is_ended:
            return f"{thinking} {MARKS[1]}{answer}"[len(said) :]
        if "####" not in rest:
            return answer
        turns = sum(thought.count(word) for word in ("Wait,", "Hmm,", "But"))
        return f"{trials[min(turns, len(trials) - 1)]}\nand so on"

    return script


def is_trial(engine: ScriptedEngine, branch: Branch) -> bool:
    return engine.decode(branch.prefix).endswith("#### ")


async def ask(served, **fields: Any) -> dict[str, Any]:
    """The reply, after its tokens were added up."""
    reply = await served.chat(ponder={**EXIT, **fields.pop("ponder", {})}, **fields)
    assert reply.status_code == 200, reply.text
    body = reply.json()
    details, tokens = body["usage"]["completion_tokens_details"], body["ponder"]["tokens"]
    assert details["reasoning_tokens"] == details["thinking_tokens"] + details["other_branch_tokens"]
    assert details["reasoning_tokens"] <= body["usage"]["completion_tokens"] == tokens["decoded"]
    assert not served.engine.live
    return body


async def nodes(served, body: dict[str, Any]) -> list[dict[str, Any]]:
    return (await served.client.get(f"/v1/traces/{body['ponder']['trace_id']}")).json()["nodes"]


@pytest.mark.parametrize("given", [{}, {"temperature": 0}, {"temperature": 1.2}])
async def test_a_thought_has_the_temperature_of_the_request_or_of_the_model(serve, given) -> None:
    """One thought is compared with no other, so temperature 0 will do as well."""
    async with serve(thinker(UNSURE, SURE), thinking=MARKS) as served:
        await ask(served, **given)
        drawn = [branch.temperature for branch in served.engine.branches if not is_trial(served.engine, branch)]
    assert set(drawn) == {given.get("temperature")} or set(drawn) == {None}


async def test_exits_at_the_first_transition_at_which_the_model_is_sure(serve) -> None:
    """The thought is cut back to it, however far it has gone on, and the answer is drawn from there."""
    async with serve(thinker(UNSURE, SURE), thinking=MARKS) as served:
        body = await ask(served, return_token_ids=True)
        text = served.engine.decode(body["choices"][0]["token_ids"])
        trials = [branch for branch in served.engine.branches if is_trial(served.engine, branch)]
    message = body["choices"][0]["message"]
    assert message["reasoning"] == "".join(PARTS[:2])
    assert message["content"] == ANSWER
    assert text == f"{''.join(PARTS[:2])} {MARKS[1]}{ANSWER}"
    assert body["ponder"]["stop_reason"] == "settled"
    assert [trial.temperature for trial in trials] == [0.0, 0.0]
    [candidate] = body["ponder"]["candidates"]
    assert candidate["answer"] == "42"
    assert candidate["score"] == pytest.approx(math.exp(-0.2))
    assert candidate["thinking_tokens"] == len("".join(PARTS[:2]).split())  # the server wrote the end
    assert candidate["finish_reason"] == "stop"


@pytest.mark.parametrize("loop", [" Hm." * 400, "\nWait, no, it is not." * 100])
async def test_a_thought_that_loops_is_ended(serve, loop: str) -> None:
    """Inside its thinking, with transitions in the loop or without. It has no answer, and the others vote."""
    think = thinker(UNSURE, SURE)

    def script(prompt: str, number: int) -> str:
        is_begin = prompt.endswith(MARKS[0])
        said = prompt.rpartition(MARKS[0])[2]
        if is_begin and number % 2 == 0:
            return loop
        return UNSURE if loop.startswith(said.partition(MARKS[1])[0].rstrip()) and not is_begin else think(prompt, number)

    async with serve(script, thinking=MARKS) as served:
        body = await ask(served, ponder={"n": 2})
        own = await ask(served, ponder={"n": 2}, repetition_detection={"max_pattern_size": 0}, max_tokens=300)
    looped, other = body["ponder"]["candidates"]
    assert (looped["finish_reason"], looped["answer"], other["answer"]) == ("repetition", None, "42")
    assert 64 <= looped["tokens"] <= 128
    assert body["choices"][0]["message"]["content"] == ANSWER
    assert own["ponder"]["candidates"][0]["finish_reason"] == "length"


async def test_below_the_threshold_it_thinks_to_the_end(serve) -> None:
    """And the reply is what the model would have said without trials."""
    async with serve(thinker(UNSURE), thinking=MARKS) as served:
        body = await ask(served)
        direct = (await served.chat(ponder={"strategy": "direct"})).json()
        trace = await nodes(served, body)
    assert body["choices"][0]["message"] == direct["choices"][0]["message"]
    assert body["ponder"]["stop_reason"] == "completed"
    assert [node["state"] for node in trace] == ["chosen", "pruned", "pruned", "pruned"]


async def test_what_is_thought_behind_an_exit_is_charged_and_not_shown(serve) -> None:
    """The tokens of all nodes are all that was decoded. Those of trials are told apart, as those of verifiers are."""
    async with serve(thinker(UNSURE, SURE), thinking=MARKS) as served:
        body = await ask(served)
        trace = await nodes(served, body)
    details, tokens = body["usage"]["completion_tokens_details"], body["ponder"]["tokens"]
    thought, *trials, answer = trace
    assert (thought["parent"], thought["state"], answer["state"]) == (None, "pruned", "chosen")
    assert [(node["parent"], node["state"], node["answer"]) for node in trials] == [
        (thought["id"], "pruned", "1000"),
        (thought["id"], "final", "42"),
    ]
    assert [node["score"] for node in trials] == pytest.approx([math.exp(-0.4), math.exp(-0.2)])
    assert sum(node["tokens"] for node in trace) == tokens["decoded"]
    shown = len("".join(PARTS[:2]).split()) + len(ANSWER.split())
    assert details["other_branch_tokens"] == tokens["decoded"] - shown > 0
    assert tokens["verified"] >= sum(node["tokens"] for node in trials) > 0
    assert body["ponder"]["flops"]["verify"] == sum(node["flops"] for node in trials)
    assert thought["tokens"] < len(THINKING.split())


def slowed(engine: ScriptedEngine, *, trials: int, thoughts: int) -> None:
    """Make branches wait so many turns of the event loop before each of their outputs."""
    generate = engine.generate

    async def slow(branch: Branch) -> AsyncIterator[Output]:
        async for output in generate(branch):
            for _ in range(trials if is_trial(engine, branch) else thoughts):
                await asyncio.sleep(0)
            yield output

    engine.generate = slow  # type: ignore[method-assign]


@pytest.mark.parametrize("seed", [None, 3])
@pytest.mark.parametrize("rule", ["confidence", "agreement"])
@pytest.mark.parametrize(("trials", "thoughts"), [(3, 0), (9, 0), (0, 3), (0, 30)])
async def test_the_speed_of_branches_changes_nothing(serve, trials: int, thoughts: int, rule: str, seed: int | None) -> None:
    """Neither slow trials nor fast ones: which transitions are tried, and where the thought ends, is a matter of its text."""
    seen = []
    for turns in ((0, 0), (trials, thoughts)):
        async with serve(thinker(UNSURE, UNSURE, SURE), thinking=MARKS) as served:
            slowed(served.engine, trials=turns[0], thoughts=turns[1])
            body = await ask(served, seed=seed, logprobs=True, ponder={"rule": rule, "window": 2, "n": 2})
            trace = await nodes(served, body)
        tried = [(node["id"], node["answer"], node["score"], node["state"]) for node in trace if node["parent"] is not None]
        seen.append((body["choices"], body["ponder"]["candidates"], body["ponder"]["stop_reason"], tried))
    assert seen[0] == seen[1]
    assert seen[0][2] == "settled"


async def test_a_transition_that_comes_during_a_trial_waits_and_the_latest_wins(serve) -> None:
    """Trials are at least `trial_tokens` tokens of the thought apart."""
    async with serve(thinker(UNSURE), thinking=MARKS) as served:
        body = await ask(served, ponder={"trial_tokens": 18})
        trace = await nodes(served, body)
        prefixes = [served.engine.decode(one.prefix) for one in served.engine.branches if is_trial(served.engine, one)]
    assert len(trace) == 3
    assert [prefix.partition(MARKS[0])[2].partition(f" {MARKS[1]}")[0] for prefix in prefixes] == [
        PARTS[0],
        "".join(PARTS[:3]),
    ]


async def test_a_trial_that_comes_too_late_ends_nothing(serve) -> None:
    """A thinking that is over before the trial is decided has nothing to save."""
    async with serve(thinker(SURE, thinking=f"{PARTS[0]}\nWait, no"), thinking=MARKS) as served:
        body = await ask(served)
    assert body["choices"][0]["message"]["reasoning"].split() == f"{PARTS[0]}\nWait, no".split()
    assert body["ponder"]["stop_reason"] == "completed"


async def test_agreement_of_the_last_trials_ends_it_however_unsure_they_are(serve) -> None:
    """Certaindex: a window of the same answers."""
    async with serve(thinker("1000", "2000", "2000"), thinking=MARKS) as served:
        body = await ask(served, ponder={"rule": "agreement", "window": 2})
    assert body["choices"][0]["message"]["reasoning"] == "".join(PARTS[:3])


async def test_several_thoughts_are_drawn_together_and_vote(serve) -> None:
    """Each has its own exit."""
    script = thinker(SURE)

    def others(prompt: str, number: int) -> str:
        said = prompt.rpartition(MARKS[0])[2]
        if said:
            return script(prompt, number)
        return script(prompt, number) if number % 2 else f" no turns at all {MARKS[1]}\n\nI say 41."

    async with serve(others, thinking=MARKS) as served:
        body = await ask(served, seed=0, ponder={"n": 5})
    answers = [one["answer"] for one in body["ponder"]["candidates"]]
    assert sorted(answers) == ["41", "41", "41", "42", "42"]
    assert body["choices"][0]["message"]["content"] == "\n\nI say 41."


@pytest.mark.parametrize("opens", [True, False])
async def test_a_model_that_opens_its_thinking_itself_exits_as_well(serve, opens: bool) -> None:
    """As Qwen3 does."""
    script = thinker(SURE)

    def opening(prompt: str, number: int) -> str:
        return script(prompt, number) if MARKS[0] in prompt else f" {MARKS[0]}{script(MARKS[0], number)}"

    async with serve(opening, thinking=MARKS, opens_thinking=opens) as served:
        message = (await ask(served))["choices"][0]["message"]
    assert message["reasoning"].strip() == PARTS[0].strip()
    assert message["content"] == ANSWER


@pytest.mark.parametrize(
    ("thinking", "answer"),
    [
        (f"{THINKING} {MARKS[1]} no, I was not done.\nWait, still", "\n\nIt is 42."),
        (" it is simple", "\n\nIt is 42.\nWait, or is it? But yes.\n\nYes."),
        ("", "\n\nIt is 42."),
    ],
)
async def test_thinking_that_ends_twice_or_is_empty_and_answers_that_turn(serve, thinking: str, answer: str) -> None:
    """Behind the first end nothing is tried; the reply is that of the model."""
    async with serve(thinker(UNSURE, thinking=thinking, answer=answer), thinking=MARKS) as served:
        body = await ask(served)
        direct = (await served.chat(ponder={"strategy": "direct"})).json()
        tried = [served.engine.decode(one.prefix) for one in served.engine.branches if is_trial(served.engine, one)]
    assert body["choices"][0]["message"] == direct["choices"][0]["message"]
    assert all(text.count(MARKS[1]) == 1 for text in tried)


async def test_thinking_that_never_ends_exits_all_the_same(serve) -> None:
    """Within the tokens that the answer may have."""
    script = thinker(UNSURE, UNSURE, UNSURE, SURE, thinking=THINKING * 9)
    async with serve(script, thinking=MARKS) as served:
        body = await ask(served, max_tokens=60)
    assert body["choices"][0]["message"]["content"] == ANSWER


@pytest.mark.parametrize("tokens", [*range(1, 40, 3), 60, 90, 200])
async def test_a_token_budget_is_kept_to_the_token(serve, tokens: int) -> None:
    """Trials and what is drawn behind an exit count too."""
    async with serve(thinker(UNSURE, SURE), thinking=MARKS) as served:
        body = await ask(served, ponder={"budget": {"tokens": tokens}})
    assert body["usage"]["completion_tokens"] <= tokens


@pytest.mark.parametrize("megaflops", [1, 5, 20, 100])
async def test_a_flops_budget_is_kept(serve, megaflops: int) -> None:
    """Those of trials are booked as verification, and count too."""
    async with serve(thinker(UNSURE, SURE), thinking=MARKS) as served:
        body = await ask(served, ponder={"n": 2, "budget": {"flops": megaflops * 10**6}})
    assert body["ponder"]["flops"]["total"] <= megaflops * 10**6


async def test_a_deadline_returns_what_there_is(serve) -> None:
    """In the middle of a thought."""
    async with serve(thinker(UNSURE, thinking=THINKING * 9), thinking=MARKS, seconds_per_token=0.02) as served:
        body = await ask(served, ponder={"budget": {"seconds": 0.3}})
    assert body["ponder"]["stop_reason"] == "budget_seconds"


async def test_stop_strings_hold_in_the_answer_behind_an_exit(serve) -> None:
    """The caller's own."""
    async with serve(thinker(UNSURE, SURE), thinking=MARKS) as served:
        body = await ask(served, stop=[" is"])
    assert body["choices"][0]["message"]["content"] == "\n\nThe answer"


async def test_a_client_that_leaves_ends_thoughts_and_trials(serve) -> None:
    """Nothing runs on in the engine."""
    async with serve(thinker(UNSURE), thinking=MARKS, seconds_per_token=0.01) as served:
        asking = asyncio.create_task(served.chat(ponder={**EXIT, "n": 3}))
        while not any(is_trial(served.engine, one) for one in served.engine.branches):  # noqa: ASYNC110 - likewise
            await asyncio.sleep(0.001)
        asking.cancel()
        with pytest.raises(asyncio.CancelledError):
            await asking
        async with asyncio.timeout(5):
            while served.engine.running:  # noqa: ASYNC110 - the engine tells nobody
                await asyncio.sleep(0.001)


async def test_an_engine_that_dies_ends_the_request(serve) -> None:
    """With one clear error, although thought and trial both fail."""
    async with serve(thinker(UNSURE), thinking=MARKS, seconds_per_token=0.01) as served:
        asking = asyncio.create_task(served.chat(ponder=EXIT))
        while not any(is_trial(served.engine, one) for one in served.engine.branches):  # noqa: ASYNC110 - likewise
            await asyncio.sleep(0.001)
        served.engine.die()
        assert (await asking).status_code == 503


async def test_a_trial_that_gets_no_budget_while_it_thinks_ends_nothing(serve) -> None:
    """The thought has reserved all of it; the reply that it came to stands."""
    async with serve(thinker(SURE), thinking=MARKS) as served:
        body = await ask(served, max_tokens=400, ponder={"budget": {"tokens": 300}})
        direct = (await served.chat(ponder={"strategy": "direct"})).json()
    assert body["choices"][0]["message"] == direct["choices"][0]["message"]


async def test_equal_thoughts_have_equal_exits(serve) -> None:
    """Also where the end of one of them reaches the others before their own trials are there."""
    async with serve(thinker(UNSURE, SURE), thinking=MARKS) as served:
        generate, num = served.engine.generate, iter(range(99))

        async def slow(branch: Branch) -> AsyncIterator[Output]:
            turns = 2 * next(num) if is_trial(served.engine, branch) else 0
            async for output in generate(branch):
                for _ in range(turns):
                    await asyncio.sleep(0)
                yield output

        served.engine.generate = slow
        body = await ask(served, ponder={"n": 4})
    assert [one["thinking_tokens"] for one in body["ponder"]["candidates"]] == [16] * 4
    assert [one["answer"] for one in body["ponder"]["candidates"]] == ["42"] * 4


async def test_a_stream_shows_what_the_whole_reply_shows(serve) -> None:
    """Log-probabilities and ids of the cut thought, its end, and the answer."""
    async with serve(thinker(UNSURE, SURE), thinking=MARKS) as served:
        body = await ask(served, logprobs=True)
        lines = (await served.chat(stream=True, logprobs=True, ponder={**EXIT, "progress": "none"})).text.split("\n")
    deltas = [one["delta"] for line in lines if line.startswith("data: {") for one in json.loads(line[6:])["choices"]]
    message = body["choices"][0]["message"]
    assert "".join(delta.get("content") or "" for delta in deltas) == message["content"]
    assert "".join(delta.get("reasoning") or "" for delta in deltas) == message["reasoning"]
    assert "".join(one["token"] for one in body["choices"][0]["logprobs"]["content"]).endswith(ANSWER)


async def test_trials_are_told_while_it_thinks(serve) -> None:
    """Lines of progress, before the answer."""
    async with serve(thinker(UNSURE, SURE), thinking=MARKS, seconds_per_token=0.005) as served:
        text = (await served.chat(stream=True, ponder=EXIT)).text
    assert (
        text.index("Trial 1 of thought 1: 1000 (0.67)")
        < text.index("thinking ended after 16 tokens")
        < text.index(PARTS[1].strip())
    )


@pytest.mark.parametrize(
    ("fields", "parameter"),
    [
        ({"chat_template_kwargs": {"enable_thinking": False}}, "ponder.strategy"),
        ({"response_format": {"type": "json_object"}}, "ponder.strategy"),
        ({"ponder": {"answer": "json"}}, "ponder.strategy"),
        ({"ponder": {"n": 2, "answer": "open"}}, "ponder.answer"),
        ({"ponder": {"rule": "agreement", "answer": "open"}}, "ponder.answer"),
        ({"n": 2}, "ponder.n"),
    ],
)
async def test_what_it_cannot_try_is_refused(serve, fields: dict[str, Any], parameter: str) -> None:
    """With the reason, before anything is generated."""
    async with serve(thinker(SURE), thinking=MARKS) as served:
        reply = await served.chat(**{**fields, "ponder": {**EXIT, **fields.get("ponder", {})}})
        assert reply.status_code == 400
        assert reply.json()["error"]["param"] == parameter
        assert not served.engine.branches


async def test_a_tool_call_in_the_thinking_is_never_cut(serve) -> None:
    """The model is sure at once, but the thinking ends behind the call."""
    tool = {"type": "function", "function": {"name": "look"}}
    call = '<tool_call>{"name": "look",\n\n"arguments": {}}</tool_call>'
    thinking = f" So.\n{call}\n\n{THINKING}"
    async with serve(thinker(SURE, thinking=thinking), thinking=MARKS) as served:
        body = await ask(served, ponder={"transitions": ["\n\n"]}, tools=[tool])
    assert body["choices"][0]["message"]["reasoning"].strip() == f"So.\n{call}"


async def test_a_model_that_does_not_think_is_refused(serve) -> None:
    """There is nothing to exit from."""
    async with serve(["42"]) as served:
        reply = await served.chat(ponder=EXIT)
    assert reply.status_code == 400
    assert "needs a model that thinks" in reply.json()["error"]["message"]


def written(*tokens: str, transitions: tuple[str, ...] = ("Wait", "But", "\n\n"), at_once: int = 1) -> list[int]:
    """How many tokens lie before each transition of a thought that is written in these tokens, so many in each delta."""
    thought = Thought(Thinking("<think>", "</think>"), transitions)
    entries = tuple(TokenLogprob(token, number, 0.0) for number, token in enumerate(tokens))
    for first in range(0, len(entries), at_once):
        some = entries[first : first + at_once]
        thought.feed(Delta(0, "".join(one.token for one in some), tuple(one.token_id for one in some), some))
    return [one.num_tokens for one in thought._transitions]


@pytest.mark.parametrize("text", ["", " ", "\t", "\n ", "\n\n\n"])
def test_other_white_space_is_no_transition(text: str) -> None:
    """It begins no line, and would be tried at every character."""
    assert EarlyExitParams(transitions=["Wait", "\n", "\n\n"]).transitions
    with pytest.raises(ValidationError):
        EarlyExitParams(transitions=["Wait", text])


@pytest.mark.parametrize("at_once", [1, 2, 7])
def test_transitions_stand_at_the_beginning_of_a_line(at_once: int) -> None:
    """Whole words, blank lines, one for both together; and none behind the end, however many tokens come at once."""
    assert written("so", "\n", "Wait", ",", " no", at_once=at_once) == [2]
    assert written("so", " Wait", ",", " no", at_once=at_once) == []
    assert written("so", "\n", "But", "ter", at_once=at_once) == []
    assert written("so", ".\n\n", "But", " no", "\n", "\n", "Wait", "!", at_once=at_once) == [2, 6]
    assert written("\n\n", "so", "\n", "\n\n", "\n\n", "Wait", ",", at_once=at_once) == [3]
    assert written("so", "</think>", "\n\n", "Wait", ",", at_once=at_once) == []
    assert written("so", "\n", "and", "\n", "on", transitions=("\n",), at_once=at_once) == [2, 4]


@pytest.mark.parametrize("at_once", [1, 3])
def test_no_transition_stands_within_a_tool_call(at_once: int) -> None:
    """Parsers of several models take a call from the thinking: what ends it there would break it."""
    call = ("<tool_call>", '{"text":', ' "a', "\n\n", "b", "\n", "Wait", ',"}', "</tool_call>")
    assert written("so", ".\n\n", *call, "\n\n", "on", at_once=at_once) == [2, 12]
    assert written("so", ".\n\n", "[TOOL_CALLS]", "[", "\n\n", "]", at_once=at_once) == [2]


def test_a_trial_answer_ends_with_the_brace_that_closes_the_inducer() -> None:
    """What the model writes behind it counts for nothing."""
    words = ("\\frac{", "1", "}{", "2", "}", "}", ".", " Unsure")
    entries = tuple(TokenLogprob(word, 0, -9.0 if word == " Unsure" else 0.0) for word in words)
    drawn = Candidate(0, "".join(words), (0,) * 8, "length", logprobs=entries)
    trial = read_trial(Task(question="?", prefix=(), kind=AnswerKind.MATH), "\n\\boxed{", drawn, "mean")
    assert (trial.answer, trial.confidence) == ("1/2", 1.0)


def test_confidence_is_the_mean_that_was_asked_for() -> None:
    """DEER's three."""
    logprobs = [math.log(0.25), 0.0]
    assert confidence(logprobs, "mean") == pytest.approx(0.625)
    assert confidence(logprobs, "geometric") == pytest.approx(0.5)
    assert confidence(logprobs, "minimum") == pytest.approx(0.25)
    assert confidence([], "mean") == 0


@pytest.mark.parametrize(
    ("texts", "is_agreed"),
    [(("42", "42.0"), True), (("42",), False), (("41", "42"), False), (("42", ""), False), (("42", "42 Wait"), False)],
)
async def test_trials_agree_without_hesitation(texts: tuple[str, ...], is_agreed: bool) -> None:
    """Dynasor's server exits on disagreeing answers too, because its rule returns outside its `if`; this one does not."""
    trials = [Trial(Candidate(0, text, (), "stop"), text.partition(" ")[0].removesuffix(".0") or None, 0.0) for text in texts]
    equivalence = Equivalence()
    assert await agree(trials, 2, AnswerKind.MATH, equivalence) is is_agreed
    equivalence.close()


def test_a_long_thought_takes_linear_time(seconds) -> None:
    """A line that never ends, and blanks that never end."""

    def write(num: int, token: str) -> None:
        written(*["\n", *[token] * num], at_once=100)

    for token in (" word", " ", "\n", "But "):
        short = seconds(lambda token=token: write(2_000, token))
        assert seconds(lambda token=token: write(8_000, token)) < 12 * short


def test_a_very_long_thought_does_too(seconds) -> None:
    """Its text grows in place, token by token."""

    def write(num: int) -> None:
        written(*[" word"] * num)

    assert seconds(lambda: write(80_000)) < 16 * seconds(lambda: write(10_000))
