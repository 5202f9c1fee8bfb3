"""A model behind a URL, asked as any OpenAI client would, and asked again when it fails for a moment."""

import httpx
import pytest

from adapters.training.data import DatasetQuestion
from adapters.training.errors import RecipeRefused, TeacherGone, Unanswerable
from adapters.training.http_sampler import HttpSampler, only_model

QUESTION = DatasetQuestion(messages=[{"role": "user", "content": "What is 17 + 25?"}])


def sampler(client: httpx.AsyncClient, model: str = "scripted", max_retry: float = 0.0) -> HttpSampler:
    return HttpSampler(client, model, temperature=0.7, max_tokens=50, max_retry=max_retry)


def other_server(*replies: httpx.Response | Exception) -> tuple[httpx.AsyncClient, list[httpx.Request]]:
    """A server that gives these replies, one after another."""
    waiting, asked = list(replies), []

    def handle(request: httpx.Request) -> httpx.Response:
        asked.append(request)
        reply = waiting.pop(0)
        if isinstance(reply, Exception):
            raise reply
        return reply

    return httpx.AsyncClient(base_url="http://other", transport=httpx.MockTransport(handle)), asked


def reply(*texts: str, finish_reason: str = "stop") -> httpx.Response:
    choices = [{"message": {"content": text}, "finish_reason": finish_reason} for text in texts]
    return httpx.Response(200, json={"choices": choices, "usage": {"completion_tokens": 3 * len(texts)}})


@pytest.mark.anyio
async def test_ponder_answers_together_and_tells_the_cost(serve):
    async with serve() as served:
        samples = await sampler(served.client).sample(QUESTION, 4, seed=1)
        assert [answer.is_whole for answer in samples.answers] == [True] * 4
        assert samples.key == QUESTION.key
        assert samples.tokens > 0
        assert samples.flops > 0
        continued = await sampler(served.client).continued([5, 6, 7], "beginning", 2, seed=1)
        assert len(continued.answers) == 2


@pytest.mark.anyio
async def test_one_answer_is_one_sample_and_not_the_winner_of_a_vote(serve):
    """`auto` would let several candidates vote. A model name with a strategy in it is used as it is."""
    async with serve() as served:
        await sampler(served.client).sample(QUESTION, 1, seed=1)
        assert len(served.engine.branches) == 1
        await sampler(served.client, "scripted@self_consistency").sample(QUESTION, 1, seed=1)
        assert len(served.engine.branches) > 2


@pytest.mark.anyio
async def test_a_server_that_gives_one_answer_is_asked_for_the_rest():
    client, asked = other_server(reply("a"), reply("b"), reply("c", finish_reason="length"))
    samples = await sampler(client).sample(QUESTION, 3, seed=5)
    assert [(answer.text, answer.is_whole) for answer in samples.answers] == [("a", True), ("b", True), ("c", False)]
    assert samples.tokens == 9
    assert samples.flops is None
    assert len(asked) == 3


@pytest.mark.anyio
async def test_a_transient_failure_is_retried():
    client, asked = other_server(httpx.ConnectError("refused"), httpx.Response(503), reply("a"))
    samples = await sampler(client, max_retry=30).sample(QUESTION, 1, seed=5)
    assert samples.answers[0].text == "a"
    assert len(asked) == 3


@pytest.mark.anyio
@pytest.mark.parametrize("status", [400, 413, 422])
async def test_a_question_that_is_refused(status):
    client, _ = other_server(httpx.Response(status, text="longer than the context"))
    with pytest.raises(Unanswerable, match="longer than the context"):
        await sampler(client).sample(QUESTION, 1, seed=5)


@pytest.mark.anyio
@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        (httpx.ConnectError("refused"), "has stopped answering .*what it answered is kept"),
        (httpx.Response(500), "status 500"),
        (httpx.Response(404, text="no such model"), "refuses to answer: 404 no such model"),
        (httpx.Response(200, text="<html>"), "no OpenAI-compatible server"),
        (httpx.Response(200, json={"choices": []}), "gives no answers"),
        (httpx.Response(200, json=[]), "no OpenAI-compatible server"),
        (httpx.Response(200, json={"choices": 5}), "no OpenAI-compatible server"),
        (httpx.Response(200, json={"choices": [{"message": "hi"}]}), "no OpenAI-compatible server"),
    ],
)
async def test_a_teacher_that_is_gone(answer, reason):
    client, _ = other_server(answer)
    with pytest.raises(TeacherGone, match=reason):
        await sampler(client).sample(QUESTION, 1, seed=5)


@pytest.mark.anyio
async def test_the_only_model_of_a_server_need_not_be_named():
    client, _ = other_server(httpx.Response(200, json={"data": [{"id": "big"}, {"id": "big@direct", "parent": "big"}]}))
    assert await only_model(client) == "big"
    client, _ = other_server(httpx.Response(200, json={"data": [{"id": "big"}, {"id": "small"}]}))
    with pytest.raises(RecipeRefused, match="big, small: name one with --teacher-model"):
        await only_model(client)
    client, _ = other_server(httpx.ConnectError("refused"))
    with pytest.raises(RecipeRefused, match="does not list its models"):
        await only_model(client)
