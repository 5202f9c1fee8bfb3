"""A model behind an OpenAI-compatible URL that answers for training: a `Sampler` over HTTP."""

from dataclasses import dataclass
from typing import Any

import httpx
from tenacity import AsyncRetrying, RetryError, retry_if_exception_type, stop_after_delay, wait_random_exponential

from adapters.training.data import DatasetQuestion
from adapters.training.errors import RecipeRefused, TeacherGone, Unanswerable
from adapters.training.ports import Answer, Samples

MAX_RETRY_S = 300.0
"""Seconds that a model may fail to answer one prompt before it counts as gone."""

TIMEOUT_S = 1800.0
"""Of one HTTP request: a server on CPU may take minutes for many long answers."""

RETRIED = frozenset({408, 409, 425, 429, 500, 502, 503, 504})
"""Statuses after which the same request may succeed."""

STRATEGY_HEADER = "X-Ponder-Strategy"

REFUSED = frozenset({400, 413, 422})
"""Statuses of one request that can never be answered, such as one that is longer than the model's context."""


class _TransientError(Exception):
    """The request failed in a way that a retry may help."""


class HttpSampler:
    """Samples one model over HTTP.

    The address comes from the operator alone, never from the data, so that a data set cannot make this machine call
    other hosts.

    Args:
        client: with the base URL and the key.
        model: its name at that server.
        temperature: of sampling.
        max_tokens: the most that an answer may have.
        max_retry: seconds after which a model that does not answer is given up.

    """

    def __init__(
        self, client: httpx.AsyncClient, model: str, *, temperature: float, max_tokens: int, max_retry: float = MAX_RETRY_S
    ) -> None:
        self._client = client
        self._model = model
        self._options = {"temperature": temperature, "max_tokens": max_tokens}
        # Without this, a ponder server would run `auto` and vote. A name like `model@strategy` asks for a strategy on
        # purpose.
        self._headers = {} if "@" in model else {STRATEGY_HEADER: "direct"}
        self._max_retry = max_retry

    async def sample(self, question: DatasetQuestion, n: int, seed: int) -> Samples:
        """Return `n` answers. They are asked for in one request, and again for the rest where a server gives fewer.

        Raises:
            Unanswerable: the server refuses this question.
            TeacherGone: it has stopped answering.

        """
        messages = [message.model_dump() for message in question.messages]
        return await self._draw("/v1/chat/completions", {"messages": messages}, question.key, n, seed)

    async def continued(self, prompt: list[int], key: str, n: int, seed: int) -> Samples:
        """Return `n` continuations of a prompt of token ids; `key` identifies it. Raises what `sample` raises."""
        return await self._draw("/v1/completions", {"prompt": prompt}, key, n, seed)

    async def _draw(self, path: str, prompt: dict[str, Any], key: str, n: int, seed: int) -> Samples:
        answers: list[Answer] = []
        tokens, flops = 0, 0
        reports_flops = True
        while len(answers) < n:
            body = {"model": self._model, **prompt, **self._options, "n": n - len(answers), "seed": seed + len(answers)}
            reply = await self._post(path, body)
            answers += reply.answers
            tokens += reply.tokens
            reports_flops = reports_flops and reply.flops is not None
            flops += reply.flops or 0
        return Samples(key, tuple(answers[:n]), tokens, flops if reports_flops else None)

    async def _post(self, path: str, body: dict[str, Any]) -> "_Reply":
        retrying = AsyncRetrying(
            retry=retry_if_exception_type(_TransientError),
            wait=wait_random_exponential(multiplier=0.5, max=20),
            stop=stop_after_delay(self._max_retry),
        )
        try:
            async for attempt in retrying:
                with attempt:
                    return _read(await self._request(path, body))
        except RetryError as error:
            raise TeacherGone(
                f"{self._model} has stopped answering ({error.last_attempt.exception()}); what it answered is kept: start again"
            ) from error
        raise RuntimeError("unreachable: the retries return or raise")

    async def _request(self, path: str, body: dict[str, Any]) -> httpx.Response:
        try:
            response = await self._client.post(path, json=body, headers=self._headers, timeout=TIMEOUT_S)
        except httpx.TransportError as error:
            raise _TransientError(f"{type(error).__name__}: {error}") from error
        if response.status_code in RETRIED:
            raise _TransientError(f"status {response.status_code}")
        if response.status_code in REFUSED:
            raise Unanswerable(f"{self._model} refuses the question: {response.status_code} {response.text[:300]}")
        if response.is_error:
            raise TeacherGone(f"{self._model} refuses to answer: {response.status_code} {response.text[:300]}")
        return response


@dataclass(frozen=True, slots=True)
class _Reply:
    answers: list[Answer]
    tokens: int
    flops: int | None


def _read(response: httpx.Response) -> _Reply:
    """Parse an OpenAI-compatible reply, and the FLOPs that ponder adds; raises `TeacherGone` for anything else."""
    try:
        reply = response.json()
        answers = [_answer(choice) for choice in reply["choices"]]
        tokens = int((reply.get("usage") or {}).get("completion_tokens", 0))
        account = (reply.get("ponder") or {}).get("flops")
        flops = int(account["total"]) if account else None
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise TeacherGone(f"what answers at {response.url.host} is no OpenAI-compatible server") from error
    if not answers:
        raise TeacherGone(f"what answers at {response.url.host} gives no answers")
    return _Reply(answers, tokens, flops)


def _answer(choice: dict[str, Any]) -> Answer:
    text = choice["message"]["content"] if "message" in choice else choice["text"]
    return Answer(str(text or ""), choice.get("finish_reason") == "stop")


async def only_model(client: httpx.AsyncClient) -> str:
    """Return the name of the server's base model; raises `RecipeRefused` when it has several or none."""
    try:
        response = await client.get("/v1/models", timeout=30)
        names = [model["id"] for model in response.json()["data"] if not model.get("parent")]  # adapters have one
    except (httpx.HTTPError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise RecipeRefused(f"{client.base_url} does not list its models ({error}): name one with --teacher-model") from error
    if len(names) != 1:
        raise RecipeRefused(f"{client.base_url} has the models {', '.join(names)}: name one with --teacher-model")
    return str(names[0])
