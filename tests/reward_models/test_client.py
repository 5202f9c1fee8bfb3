"""The client of reward models, against a scripted HTTP server on this machine."""

import asyncio
import gzip
import json
import logging
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager, closing
from math import exp

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from app.reward_models import client as reward_model
from app.reward_models.client import RewardModel
from app.reward_models.options import RewardModelOptions
from app.reward_models.routes import read_scores, request_body
from strategies.core.errors import VerifierFailed
from strategies.core.values import AnswerKind, Candidate, Task

pytestmark = pytest.mark.anyio

HANG = b"hang"
SECRET = "sk-very-secret"
QUESTION = "What is {answer} + 1?"
TASK = Task(question=QUESTION, prefix=tuple(range(10)), kind=AnswerKind.MATH)
CANDIDATES = [
    Candidate(0, "It is 1.\nSo {question}", (1, 2, 3), "stop", step_start=2, last_step="So {question}"),
    Candidate(1, "It is 2.", (1, 2), "stop"),
]
PASS = {"data": [{"index": 0, "probs": [0.75, 0.25]}, {"index": 1, "probs": [0.1, 0.9]}]}


def reply(body: object = None, status: str = "200 OK", headers: str = "") -> bytes:
    """Return the bytes of an HTTP/1.1 response."""
    content = body if isinstance(body, bytes) else json.dumps(PASS if body is None else body).encode()
    return f"HTTP/1.1 {status}\r\nContent-Length: {len(content)}\r\n{headers}\r\n".encode() + content


BUSY = reply(b"a stack trace with http://10.0.0.5", "503 Service Unavailable")


class Upstream:
    """Answers each request with the next of its replies, and repeats the last. An empty reply closes the connection."""

    def __init__(self, replies: Sequence[bytes]) -> None:
        self.replies = list(replies)
        self.requests: list[tuple[str, dict]] = []
        self.url = ""
        self.asked = asyncio.Event()
        self.left = asyncio.Event()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with closing(writer):
            try:
                while True:
                    head = (await reader.readuntil(b"\r\n\r\n")).decode()
                    length = next(
                        int(line.split(":")[1]) for line in head.splitlines() if line.lower().startswith("content-length")
                    )
                    self.requests.append((head, json.loads(await reader.readexactly(length))))
                    answer = self.replies.pop(0) if len(self.replies) > 1 else self.replies[0]
                    self.asked.set()
                    if answer == HANG:
                        await reader.read()
                        self.left.set()
                        return
                    writer.write(answer)
                    await writer.drain()
                    if not answer.startswith(b"HTTP/1.1") or b"Content-Length" not in answer:
                        return
            except (asyncio.IncompleteReadError, ConnectionError):
                self.left.set()


@asynccontextmanager
async def upstream(*replies: bytes) -> AsyncIterator[Upstream]:
    """Run the server on a free port for the length of the block."""
    scripted = Upstream(replies)
    server = await asyncio.start_server(scripted.serve, "127.0.0.1", 0)
    scripted.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    async with server:
        yield scripted


@asynccontextmanager
async def client(url: str, clock: Callable[[], float] | None = None, **fields: object) -> AsyncIterator[RewardModel]:
    """Yield a client of the route `classify` without retries, unless `fields` say otherwise."""
    options = RewardModelOptions(**{"url": url, "route": "classify", "retries": 0, **fields})
    model = RewardModel("armo", options, clock) if clock else RewardModel("armo", options)
    try:
        yield model
    finally:
        await model.close()


@asynccontextmanager
async def both(*replies: bytes, **fields: object) -> AsyncIterator[tuple[RewardModel, Upstream]]:
    async with upstream(*replies) as server, client(server.url, **fields) as model:
        yield model, server


class Account:
    """The part of a `Model` that pays for verification."""

    def __init__(self, *, has_room: bool = True) -> None:
        self.has_room = has_room
        self.spent: list[tuple[int, int]] = []

    def spend(self, tokens: int, flops: int) -> bool:
        self.spent.append((tokens, flops))
        return self.has_room


async def score(
    model: RewardModel, candidates: Sequence[Candidate] = CANDIDATES, account: Account | None = None
) -> list[float]:
    return await model.score(TASK, candidates, account or Account())


async def failure(model: RewardModel) -> str:
    """Return the message of a failure, which must hold nothing but the name of the reward model and what it did."""
    with pytest.raises(VerifierFailed) as caught:
        await score(model)
    message = str(caught.value)
    assert message.startswith("the reward model armo ")
    assert "http" not in message
    assert "127.0.0.1" not in message
    assert SECRET not in message
    return message


@pytest.fixture(autouse=True)
def _short_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reward_model, "FIRST_PAUSE_S", 0.01)


async def test_classify_sends_all_candidates_at_once_and_reads_the_class() -> None:
    """A placeholder that is part of a question or an answer stays as it is."""
    fields = {
        "model": "m",
        "api_key": SECRET,
        "template": "Q {question} S {step} A {answer} {other} {}",
        "use_activation": False,
    }
    async with both(reply(), **fields) as (model, server):
        assert await score(model) == [0.25, 0.9]
    [(head, body)] = server.requests
    assert head.startswith("POST /classify HTTP/1.1\r\n")
    assert f"authorization: bearer {SECRET}" in head.lower()
    assert "content-type: application/json" in head.lower()
    assert body == {
        "model": "m",
        "use_activation": False,
        "input": [
            "Q What is {answer} + 1? S So {question} A It is 1.\nSo {question} {other} {}",
            "Q What is {answer} + 1? S It is 2. A It is 2. {other} {}",
        ],
    }


async def test_the_class_is_the_operators_to_choose() -> None:
    """A class that the reply does not have is a failure."""
    async with both(reply(), label_index=0) as (model, _):
        assert await score(model) == [0.75, 0.1]
    async with both(reply(), label_index=2) as (model, _):
        assert "gave no usable scores" in await failure(model)


async def test_score_sends_a_pair() -> None:
    """`text_1` is the question and `text_2` the answers; there is no template."""
    rated = {"data": [{"index": 1, "object": "score", "score": 1}, {"index": 0, "object": "score", "score": 0.5}]}
    async with both(reply(rated), route="score") as (model, server):
        assert await score(model) == [0.5, 1.0]
    [(head, body)] = server.requests
    assert head.startswith("POST /score HTTP/1.1\r\n")
    assert "authorization" not in head.lower()
    assert body == {"text_1": QUESTION, "text_2": [candidate.text for candidate in CANDIDATES]}


async def test_pooling_takes_the_last_value_of_the_last_step() -> None:
    """Replies may have steps or not."""
    pooled = {"data": [{"index": 0, "data": [[0.9, 0.1], [0.2, 0.8]]}, {"index": 1, "data": [0.5, 0.25]}]}
    async with both(reply(pooled), route="pooling", add_special_tokens=False) as (model, server):
        assert await score(model) == [0.8, 0.25]
    [(head, body)] = server.requests
    assert head.startswith("POST /pooling HTTP/1.1\r\n")
    assert body["add_special_tokens"] is False


async def test_numbers_beyond_the_unit_interval_need_an_activation() -> None:
    """All numbers pass through the activation then, since else their order could change."""
    rated = reply({"data": [{"index": 0, "score": 0.5}, {"index": 1, "score": -3000.0}]})
    async with both(rated, route="score") as (model, _):
        assert "gave no usable scores" in await failure(model)
    async with both(rated, route="score", activation="sigmoid") as (model, _):
        assert await score(model) == pytest.approx([1 / (1 + exp(-0.5)), 0.0])


async def test_rounding_errors_of_the_server_are_accepted() -> None:
    """1.0000001 counts as 1."""
    rated = reply({"data": [{"index": 0, "score": 1.0000001}, {"index": 1, "score": -1e-9}]})
    async with both(rated, route="score") as (model, _):
        assert await score(model) == [1.0, 0.0]


async def test_without_candidates_no_request_is_sent() -> None:
    """The scores of no candidates are an empty list."""
    async with both(reply()) as (model, server):
        assert await score(model, []) == []
    assert server.requests == []


async def test_it_is_charged_once_and_first() -> None:
    """The tokens of prompt and answer of each candidate are charged once for all tries. Without room in the budget nothing is sent."""
    async with both(BUSY, reply(), retries=1, parameters=7e9) as (model, server):
        account = Account()
        assert await score(model, account=account) == [0.25, 0.9]
        assert account.spent == [(25, 2 * 7_000_000_000 * 25)]
        assert len(server.requests) == 2
        with pytest.raises(VerifierFailed, match="the budget has no room"):
            await score(model, account=Account(has_room=False))
        assert len(server.requests) == 2
    async with both(reply()) as (model, _):
        account = Account()
        await score(model, account=account)
        assert account.spent == [(25, 0)]


@pytest.mark.parametrize(
    "failing",
    [BUSY, reply(b"", "429 Too Many Requests"), b"", b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\n{"],
    ids=["503", "429", "connection lost", "cut reply"],
)
async def test_transient_failures_are_tried_again(failing: bytes) -> None:
    """There are as many retries as the operator allows."""
    async with both(failing, failing, reply(), retries=2) as (model, server):
        assert await score(model) == [0.25, 0.9]
        assert len(server.requests) == 3
    async with both(failing, failing, reply(), retries=1) as (model, server):
        assert "did not answer" in await failure(model)
        assert len(server.requests) == 2


async def test_a_server_that_does_not_reply_is_tried_again() -> None:
    """The retry comes after the time-out, on another connection. A slow machine may need more than one."""
    async with both(HANG, reply(), retries=5, timeout_seconds=0.5) as (model, server):
        assert await score(model) == [0.25, 0.9]
        assert len(server.requests) >= 2
    async with both(HANG, retries=1, timeout_seconds=0.1) as (model, server):
        assert "did not answer" in await failure(model)
        assert len(server.requests) <= 2


@pytest.mark.parametrize(
    "answer",
    [
        reply(b"", "302 Found", "Location: http://127.0.0.1:9/classify\r\n"),
        reply(b"", "307 Temporary Redirect", "Location: /elsewhere\r\n"),
        reply(b"", "401 Unauthorized"),
        reply(b"", "404 Not Found"),
        reply(b"", "501 Not Implemented"),
        reply(b"", "204 No Content"),
    ],
)
async def test_permanent_failures_are_not_tried_again(answer: bytes) -> None:
    """Redirects are among them: they are not followed."""
    async with both(answer, retries=3) as (model, server):
        assert "did not answer" in await failure(model)
        assert len(server.requests) == 1


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"not JSON",
        b"[]",
        b"[" * 100_000,
        gzip.compress(json.dumps(PASS).encode(), mtime=0),
        b'{"data": [{"index": 0, "probs": [NaN]}, {"index": 1, "probs": [0.5]}]}',
        b'{"data": [{"index": 0, "probs": [1e999]}, {"index": 1, "probs": [0.5]}]}',
        {"data": None},
        {"data": [{"index": 0, "probs": [0.5]}]},
        {"data": [{"index": i, "probs": [0.5]} for i in range(3)]},
        {"data": [{"index": 0, "probs": [0.5]}, {"index": 0, "probs": [0.5]}]},
        {"data": [{"index": 0, "probs": []}, {"index": 1, "probs": [0.5]}]},
        {"data": [{"index": 0, "probs": ["0.5"]}, {"index": 1, "probs": [0.5]}]},
        {"data": [{"index": 0, "probs": [True]}, {"index": 1, "probs": [0.5]}]},
        {"data": [{"index": 0, "probs": [1.5]}, {"index": 1, "probs": [0.5]}]},
        {"data": [{"index": 0, "score": 0.5}, {"index": 1, "score": 0.5}]},
        {"error": {"message": "http://10.0.0.5 says no"}},
    ],
)
async def test_a_reply_without_usable_scores_is_a_failure(body: object) -> None:
    """It is not tried again."""
    async with both(reply(body), retries=3) as (model, server):
        assert "gave no usable scores" in await failure(model)
        assert len(server.requests) == 1


async def test_long_replies_are_not_read_to_the_end() -> None:
    """The rest of an endless reply is not read, and a compressed reply is not unpacked."""
    endless = b"HTTP/1.1 200 OK\r\n\r\n" + b" " * 10_000_000
    async with both(endless, max_reply_bytes=2048) as (model, _):
        assert "gave no usable scores" in await failure(model)
    bomb = reply(gzip.compress(b" " * 100_000_000), headers="Content-Encoding: gzip\r\n")
    async with both(bomb) as (model, server):
        assert "gave no usable scores" in await failure(model)
        assert "accept-encoding: identity" in server.requests[0][0].lower()


async def test_a_refused_connection_is_tried_again() -> None:
    """When all tries are refused, it is a failure."""
    async with upstream(reply()) as server:
        pass
    async with client(server.url, retries=1) as model:
        assert "did not answer" in await failure(model)


@pytest.mark.parametrize("url", ["http://a..b", f"http://{'a' * 70}", "http://127.0.0.1:0"])
async def test_an_address_that_does_not_resolve_is_a_failure(url: str) -> None:
    """An error of the resolver is a failure like any other."""
    async with client(url) as model:
        assert "did not answer" in await failure(model)


async def test_the_environments_proxy_is_not_used(monkeypatch: pytest.MonkeyPatch) -> None:
    """The server is where the operator says, whatever the environment holds."""
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    async with both(reply()) as (model, _):
        assert await score(model) == [0.25, 0.9]


async def test_a_slow_reply_ends_at_the_time_out() -> None:
    """The time-out holds for a whole try, not for each read."""

    async def drip(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with closing(writer):
            writer.write(b"HTTP/1.1 200 OK\r\n\r\n")
            while not writer.is_closing():
                writer.write(b" ")
                await asyncio.sleep(0.02)

    server = await asyncio.start_server(drip, "127.0.0.1", 0)
    url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    async with server, client(url, timeout_seconds=0.2) as model:
        async with asyncio.timeout(20):
            assert "did not answer" in await failure(model)
        server.close()
        await asyncio.sleep(0.1)  # the drip notices


async def test_a_caller_that_leaves_closes_the_connection_and_is_no_failure() -> None:
    """A caller that disconnects must not put the reward model out of service for others."""
    async with both(HANG, HANG, HANG, reply(), failures=2, retries=2, timeout_seconds=60) as (model, server):
        for _ in range(3):
            server.asked.clear()
            server.left.clear()
            scoring = asyncio.create_task(score(model))
            await server.asked.wait()
            scoring.cancel()
            with pytest.raises(asyncio.CancelledError):
                await scoring
            async with asyncio.timeout(20):
                await server.left.wait()
        assert await score(model) == [0.25, 0.9]
        assert len(server.requests) == 4


async def test_a_deadline_of_the_caller_is_no_failure() -> None:
    """The caller sees a time-out of its own, and the circuit breaker counts nothing."""
    async with both(HANG, reply(), failures=1, timeout_seconds=60) as (model, server):

        async def score_until_asked() -> None:
            async with asyncio.timeout(None) as deadline, asyncio.TaskGroup() as group:
                group.create_task(score(model))
                await server.asked.wait()
                deadline.reschedule(asyncio.get_running_loop().time())

        with pytest.raises(TimeoutError):
            await score_until_asked()
        assert await score(model) == [0.25, 0.9]


async def test_a_server_that_keeps_failing_is_not_called_for_a_while() -> None:
    """Nothing is sent or charged in the meantime. Then one request tries it, and others are refused meanwhile."""
    now = [0.0]
    async with (
        upstream(BUSY, BUSY, BUSY, reply()) as server,
        client(server.url, lambda: now[0], failures=2, rest_seconds=30) as model,
    ):
        await failure(model)
        await failure(model)
        account = Account()
        with pytest.raises(VerifierFailed, match="out of service"):
            await score(model, account=account)
        assert account.spent == []
        assert len(server.requests) == 2
        now[0] = 30
        outcomes = await asyncio.gather(*(score(model) for _ in range(5)), return_exceptions=True)
        assert all(isinstance(outcome, VerifierFailed) for outcome in outcomes)
        assert len(server.requests) == 3
        now[0] = 60
        assert await score(model) == [0.25, 0.9]
        assert await asyncio.gather(*(score(model) for _ in range(5))) == [[0.25, 0.9]] * 5


@pytest.mark.parametrize("status", ["400 Bad Request", "413 Content Too Large", "422 Unprocessable Content"])
async def test_answers_that_the_server_refuses_do_not_count(status: str) -> None:
    """If they counted, one caller with answers that are too long would put it out of service for others."""
    refusal = reply(b"too long", status)
    async with both(refusal, refusal, refusal, reply(), failures=2, retries=2) as (model, server):
        for _ in range(3):
            assert "does not take these answers" in await failure(model)
        assert await score(model) == [0.25, 0.9]
        assert len(server.requests) == 4


async def test_the_log_says_why_without_secrets(caplog: pytest.LogCaptureFixture) -> None:
    """The log holds no key, no prompt and nothing of the reply."""
    caplog.set_level(logging.DEBUG, "ponder.reward")
    spill = reply({"data": [{"index": 0, "probs": [SECRET]}, {"index": QUESTION, SECRET: 1}]})
    async with both(BUSY, spill, failures=2, api_key=SECRET) as (model, _):
        await failure(model)
        await failure(model)
        assert SECRET not in repr(model.__dict__)
    lines = [record.getMessage() for record in caplog.records if record.name == "ponder.reward"]
    assert lines == [
        "reward model armo: status 503",
        "reward model armo: data.0.probs.0: float_type; it is not called for a while",
    ]


async def test_a_closed_client_fails_like_any_other() -> None:
    """A client can be closed twice."""
    async with both(reply()) as (model, _):
        await model.close()
        assert "did not answer" in await failure(model)


async def test_a_lone_surrogate_is_sent_unchanged() -> None:
    """JSON can hold it as an escape; UTF-8 cannot hold it."""
    async with both(reply()) as (model, server):
        await model.score(TASK, [Candidate(0, "\ud83d", (1,), "stop"), CANDIDATES[1]], Account())
        assert "\ud83d" in server.requests[0][1]["input"][0]


async def test_a_request_is_answered_with_the_candidate_that_the_reward_model_prefers(serve) -> None:
    """The request names it as `PONDER_REWARD_MODELS` does. When it fails, the request is answered all the same and notes it."""
    ask = {"strategy": "best_of_n", "n": 2, "verifier": {"reward_model": "armo"}}
    async with upstream(reply(), BUSY) as server:
        armo = {"url": server.url, "route": "classify", "retries": 0, "parameters": 100}
        async with serve(["It is 41.", "It is 42."], reward_models={"armo": armo}) as served:
            chosen = (await served.chat(ponder=ask)).json()
            fallen = (await served.chat(ponder=ask)).json()
            unknown = await served.chat(ponder={**ask, "verifier": {"reward_model": "nobody"}})
    assert chosen["choices"][0]["message"]["content"] == "It is 42."
    assert len(server.requests) == 2
    assert "the reward model armo did not answer" in json.dumps(fallen)
    assert server.url not in json.dumps(fallen)
    assert unknown.status_code == 400


async def test_a_reward_model_rejects_partial_answers(serve) -> None:
    """It is asked about all that have been begun, and then about the one that goes on."""
    ask = {"strategy": "best_of_n", "n": 2, "verifier": {"reward_model": "armo"}, "reject": 0.5, "wave_tokens": 2}
    async with upstream(reply(), reply({"data": [{"index": 0, "probs": [0.1, 0.9]}]})) as server:
        armo = {"url": server.url, "route": "classify", "template": "{step}|{answer}", "retries": 0, "parameters": 100}

        def script(prompt: str, number: int) -> str:
            return " 42." if prompt.endswith(" It is") else [" We guess 41.", " It is 42."][number % 2]

        async with serve(script, reward_models={"armo": armo}) as served:
            body = (await served.chat(ponder=ask)).json()
    assert [request["input"] for _, request in server.requests] == [
        [" We guess| We guess", " It is| It is"], [" It is 42.| It is 42."]
    ]  # fmt: skip
    assert body["choices"][0]["message"]["content"].strip() == "It is 42."


@pytest.mark.vllm
def test_vllm_understands_the_bodies_and_is_understood() -> None:
    """The classes of vLLM read our requests, and we read what they write. They would ignore a misspelt field silently."""
    from pydantic import TypeAdapter
    from vllm.entrypoints.pooling.classify.protocol import ClassificationData, ClassificationRequest, ClassificationResponse
    from vllm.entrypoints.pooling.pooling.protocol import PoolingRequest, PoolingResponse, PoolingResponseData
    from vllm.entrypoints.pooling.scoring.protocol import ScoreRequest, ScoreResponse, ScoreResponseData
    from vllm.entrypoints.serve.engine.protocol import UsageInfo

    kinds = {
        "classify": (
            ClassificationRequest,
            ClassificationResponse,
            [ClassificationData(index=i, label=None, probs=[0.5, i / 2], num_classes=2) for i in range(2)],
        ),
        "score": (ScoreRequest, ScoreResponse, [ScoreResponseData(index=i, score=i / 2) for i in range(2)]),
        "pooling": (PoolingRequest, PoolingResponse, [PoolingResponseData(index=i, data=[[0.5, i / 2]]) for i in range(2)]),
    }
    for route, (request, response, data) in kinds.items():
        flags = {} if route == "score" else {"add_special_tokens": False}
        options = RewardModelOptions(url="http://h", route=route, model="m", use_activation=False, **flags)
        body = json.loads(request_body(options, TASK, CANDIDATES))
        read = TypeAdapter(request).validate_python(body)
        assert body.keys() <= type(read).model_fields.keys()
        written = response(model="m", data=data, usage=UsageInfo()).model_dump_json().encode()
        assert read_scores(options, written, 2) == [0.0, 0.5]


NUMBERS = st.one_of(st.floats(0, 1), st.floats(0, 1), st.floats(), st.integers(), st.booleans(), st.none(), st.text(max_size=3))
VECTORS = st.lists(st.floats(0, 1) | NUMBERS, max_size=3)
ITEMS = st.fixed_dictionaries(
    {},
    optional={"index": NUMBERS, "probs": VECTORS, "score": NUMBERS, "data": st.one_of(VECTORS, st.lists(VECTORS, max_size=2))},
)
FULL = st.fixed_dictionaries({"probs": VECTORS, "score": NUMBERS, "data": st.one_of(VECTORS, st.lists(VECTORS, max_size=2))})
PAIRS = st.tuples(FULL, FULL).map(lambda items: [{"index": place, **item} for place, item in enumerate(items)])
BODIES = st.one_of(
    st.binary(max_size=200),
    st.one_of(ITEMS, st.lists(ITEMS, max_size=3), PAIRS).map(lambda items: json.dumps({"data": items}).encode()),
    PAIRS.map(lambda items: json.dumps({"data": items}).encode()),
)
ANSWERS = st.one_of(st.binary(max_size=200).filter(lambda answer: answer != HANG), BODIES.map(reply))


@pytest.mark.parametrize("activation", ["none", "sigmoid"])
@pytest.mark.parametrize("route", ["classify", "score", "pooling"])
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(answer=ANSWERS)
async def test_any_reply_gives_scores_or_a_failure(answer: bytes, route: str, activation: str) -> None:
    """There is one score from 0 to 1 for each candidate, or `VerifierFailed`, and no other exception."""
    async with both(answer, route=route, activation=activation) as (model, _):
        try:
            scores = await score(model)
        except VerifierFailed:
            return
    assert len(scores) == len(CANDIDATES)
    assert all(type(value) is float and 0 <= value <= 1 for value in scores)
