"""The contract of every strategy with a model that thinks: answers are what follows the thinking."""

import json
from typing import Any

import pytest

from strategies.registry import STRATEGIES
from strategies.verifiers import VERIFIERS
from tests.thinkers import MARKS, PARAMETERS, thinker

pytestmark = pytest.mark.anyio

ENDED = (
    " First I think the answer is 7.\n\nWait, no.\n\n</think>\n\nIt is 42.",
    " At first sight the answer is 7.\n\nWait, no.\n\n</think>\n\nI get 42.",
)
UNENDED = " Perhaps the answer is 7.\n\nSurely the answer is 7."
ALL = pytest.mark.parametrize("name", STRATEGIES.names())


async def ask(serve, name: str, *replies: str, **fields: Any) -> dict[str, Any]:
    """The reply of a strategy over a model that thinks, after its tokens were added up."""
    async with serve(thinker(*replies), thinking=MARKS) as served:
        options = {"strategy": name, **PARAMETERS.get(name, {"n": 6}), "answer": "math", **fields.pop("ponder", {})}
        reply = await served.chat(ponder=options, **fields)
        page = (await served.client.get("/metrics")).text
    assert reply.status_code == 200, reply.text
    body = reply.json()
    add_up(body, page)
    return body


def add_up(body: dict[str, Any], page: str) -> None:
    """Thinking, other branches and the answer are all that was generated."""
    usage, ponder = body["usage"], body["ponder"]
    details = usage["completion_tokens_details"]
    assert details["reasoning_tokens"] == details["thinking_tokens"] + details["other_branch_tokens"]
    assert details["reasoning_tokens"] <= usage["completion_tokens"] == ponder["tokens"]["decoded"]
    assert details["thinking_tokens"] <= ponder["tokens"]["thinking"] <= ponder["tokens"]["decoded"]
    lines = [one for one in page.splitlines() if one.startswith("ponder_tokens_total") and 'kind="thinking"' in one]
    assert sum(float(line.split()[-1]) for line in lines) == ponder["tokens"]["thinking"]


@ALL
async def test_what_is_thought_is_no_answer(serve, name: str) -> None:
    """All thoughts say 7, and all answers say 42: a strategy that read the whole text would return 7."""
    body = await ask(serve, name, *ENDED)
    message = body["choices"][0]["message"]
    assert "42" in message["content"]
    assert "think" not in message["content"]
    assert "7" in message["reasoning"] == message["reasoning_content"]
    assert {one["answer"] for one in body["ponder"]["candidates"]} <= {"42", None}
    if name != "direct":
        assert "42" in {one["answer"] for one in body["ponder"]["candidates"]}


@pytest.mark.parametrize("name", [name for name in STRATEGIES.names() if name != "direct"])
async def test_a_reply_that_ends_in_its_thinking_has_no_answer(serve, name: str) -> None:
    """It has no vote, and is not chosen while another reply has an answer: the model ended two of three replies too early."""
    body = await ask(serve, name, UNENDED, ENDED[0], UNENDED.replace("Perhaps", "I guess"), seed=0)
    message = body["choices"][0]["message"]
    assert "42" in message["content"]
    assert {one["answer"] for one in body["ponder"]["candidates"]} <= {"42", None}


@ALL
async def test_where_no_reply_ends_its_thinking_the_thinking_is_shown(serve, name: str) -> None:
    """The caller sees that there is no answer, instead of the last words of a thought."""
    body = await ask(serve, name, UNENDED, max_tokens=40)
    [choice] = body["choices"]
    assert choice["message"]["content"] is None
    assert "7" in choice["message"]["reasoning"]
    assert {one["answer"] for one in body["ponder"]["candidates"]} == {None}


@pytest.mark.parametrize("off", [{"chat_template_kwargs": {"enable_thinking": False}}, {"reasoning_effort": "none"}])
async def test_the_request_switches_thinking_off(serve, off: dict[str, Any]) -> None:
    """The template is told, and the reply is all answer, whatever the strategy."""
    async with serve(lambda _prompt, _number: " It is 42.", thinking=MARKS) as served:
        for name in ("direct", "self_consistency", "beam_search"):
            body = (await served.chat(ponder={"strategy": name, "answer": "math"}, **off)).json()
            assert body["choices"][0]["message"]["content"] == " It is 42."
            assert body["ponder"]["tokens"]["thinking"] == 0


async def test_thoughts_stand_in_their_own_field_of_every_api(serve) -> None:
    """An item of the Responses API, a block of Anthropic's, and deltas of a stream: never in the answer."""
    async with serve(thinker(*ENDED), thinking=MARKS) as served:
        direct = {"model": "scripted", "ponder": {"strategy": "direct"}}
        response = (await served.client.post("/v1/responses", json={**direct, "input": "?"})).json()
        asked = {"messages": [{"role": "user", "content": "?"}], "max_tokens": 99}
        message = (await served.client.post("/v1/messages", json={**direct, **asked, "thinking": {"type": "adaptive"}})).json()
        stream = (await served.chat(stream=True, ponder={"strategy": "direct"})).text
    thought, answer = response["output"]
    assert "7" in thought["content"][0]["text"]
    assert "42" in answer["content"][0]["text"]
    assert [block["type"] for block in message["content"]] == ["thinking", "text"]
    assert "42" in message["content"][1]["text"]
    lines = [line.removeprefix("data: ") for line in stream.split("\n") if line.startswith("data: {")]
    deltas = [choice["delta"] for line in lines for choice in json.loads(line)["choices"]]
    assert "42" in "".join(delta.get("content") or "" for delta in deltas)
    for name in ("reasoning", "reasoning_content"):
        text = "".join(delta.get(name) or "" for delta in deltas)
        assert "7" in text
        assert "think>" not in text


@pytest.mark.parametrize(
    "verifier",
    [
        "p_true",
        "tournament",
        "likelihood",
        "self_certainty",
        "equations",
        "majority",
        {"number": 42},
        {"regex": "^\\s*(It is|I get) 42"},
        {"arithmetic": {"numbers": [40, 2], "target": 42}},
    ],
)
async def test_every_verifier_reads_what_follows_the_thinking(serve, verifier: Any) -> None:
    """Exact ones prove the answer there, and none of them makes a thought the answer."""
    body = await ask(serve, "best_of_n", UNENDED, *ENDED, ponder={"verifier": verifier})
    assert "42" in body["choices"][0]["message"]["content"]
    name = verifier if isinstance(verifier, str) else next(iter(verifier))
    assert name in VERIFIERS.names()
    if name in ("number", "regex"):
        assert body["ponder"]["stop_reason"] == "verified"


async def test_equations_are_checked_in_the_answer(serve) -> None:
    """A slip in the thinking that was mended there filters no vote, unless equations are checked there too."""
    mended = " 40 + 2 = 43. Wait, 40 + 2 = 42.\n</think>\n\nIt is 42."
    false = " So easy.\n</think>\n\n40 + 2 = 43. It is 43."
    true = " 40 + 1 = 41.\n</think>\n\nIt is 41."
    for checked, expected in (("equations", "It is 42"), ("all_equations", "It is 41")):
        answers = [mended, mended, true, false, false, false]
        body = await ask(serve, "self_consistency", *answers, ponder={"n": 6, "confidence": 1, "filter": checked})
        assert expected in body["choices"][0]["message"]["content"]


@pytest.mark.parametrize(
    "name", ["beam_search", "mcts", "tree_of_thoughts", "particle_filtering", "backtracking", "adaptive", "best_of_n"]
)
@pytest.mark.parametrize("verifier", ["likelihood", "equations"])
async def test_searches_over_steps_think_step_by_step(serve, name: str, verifier: str) -> None:
    """The steps of a thought are nodes of their own, scored as they are, and the path goes on to an answer behind them."""
    options = {"verifier": verifier} if name not in ("backtracking", "adaptive") else {}
    if name == "best_of_n":
        options |= {"reject": 0.5, "wave_tokens": 5}
    body = await ask(serve, name, *ENDED, ponder=options)
    thought, answer = (body["choices"][0]["message"][part] for part in ("reasoning", "content"))
    assert "Wait, no." in thought
    assert "42" in answer
    if options:
        assert body["ponder"]["branches"]["drawn"] > len(body["ponder"]["candidates"])
