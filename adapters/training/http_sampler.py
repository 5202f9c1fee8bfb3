"""A model behind an OpenAI-compatible URL that answers questions for training: a `Sampler` over HTTP."""

from dataclasses import dataclass
from typing import Any

import httpx
from tenacity import AsyncRetrying, RetryError, retry_if_exception_type, stop_after_delay, wait_random_exponential

from adapters.training.data import Question
from adapters.training.errors import RecipeRefused, TeacherGone, Unanswerable
from adapters.training.sampling import Answer, Samples

PATIENCE_S = 300.0
"""How long a model may fail to answer one question before it counts as gone."""

TIMEOUT_S = 1800.0
AGAIN = frozenset({408, 409, 425, 429, 500, 502, 503, 504})
"""Statuses after which the same request may succeed."""

STRATEGY_HEADER = "X-Ponder-Strategy"

REFUSED = frozenset({400, 413, 422})
"""Statuses of one request that cannot be answered, as one that is longer than the model's context."""


class _Passing(Exception):
    """Trying again may help."""


class HttpSampler:
    """Answers of one model. The operator names the URL; nothing of the data does.

    Args:
        client: with the address and the key.
        model: its name there.
        temperature: of sampling, `max_tokens` the most that an answer may have.
        patience: seconds before a model that does not answer is given up.

    """

    def __init__(
        self, client: httpx.AsyncClient, model: str, *, temperature: float, max_tokens: int, patience: float = PATIENCE_S
    ) -> None:
        self._client = client
        self._model = model
        self._options = {"temperature": temperature, "max_tokens": max_tokens}
        # One answer is a sample like the others, not what `auto` makes of several; `model@strategy` says itself what is wanted.
        self._headers = {} if "@" in model else {STRATEGY_HEADER: "direct"}
        self._patience = patience

    async def sample(self, question: Question, n: int, seed: int) -> Samples:
        """`n` answers, asked for together; servers that give fewer are asked for the rest. Raises `Unanswerable` and `TeacherGone`."""
        messages = [message.model_dump() for message in question.messages]
        return await self._draw("/v1/chat/completions", {"messages": messages}, question.key, n, seed)

    async def continued(self, prompt: list[int], key: str, n: int, seed: int) -> Samples:
        """`n` continuations of token ids."""
        return await self._draw("/v1/completions", {"prompt": prompt}, key, n, seed)

    async def _draw(self, path: str, what: dict[str, Any], key: str, n: int, seed: int) -> Samples:
        """Ask until there are `n`."""
        answers: list[Answer] = []
        tokens, flops = 0, 0
        tells = True
        while len(answers) < n:
            body = {"model": self._model, **what, **self._options, "n": n - len(answers), "seed": seed + len(answers)}
            reply = await self._post(path, body)
            answers += reply.answers
            tokens += reply.tokens
            tells = tells and reply.flops is not None
            flops += reply.flops or 0
        return Samples(key, tuple(answers[:n]), tokens, flops if tells else None)

    async def _post(self, path: str, body: dict[str, Any]) -> "_Reply":
        retrying = AsyncRetrying(
            retry=retry_if_exception_type(_Passing),
            wait=wait_random_exponential(multiplier=0.5, max=20),
            stop=stop_after_delay(self._patience),
        )
        try:
            async for attempt in retrying:
                with attempt:
                    return _read(await self._once(path, body))
        except RetryError as error:
            raise TeacherGone(
                f"{self._model} has stopped answering ({error.last_attempt.exception()}); what it answered is kept: start again"
            ) from error
        raise AssertionError  # the loop returns or raises

    async def _once(self, path: str, body: dict[str, Any]) -> httpx.Response:
        try:
            response = await self._client.post(path, json=body, headers=self._headers, timeout=TIMEOUT_S)
        except httpx.TransportError as error:
            raise _Passing(f"{type(error).__name__}: {error}") from error
        if response.status_code in AGAIN:
            raise _Passing(f"status {response.status_code}")
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
    """What any OpenAI-compatible server says, and what ours adds; raises `TeacherGone` for anything else."""
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
    """The name of the model that a server has, when it is the only base there; raises `RecipeRefused` otherwise."""
    try:
        response = await client.get("/v1/models", timeout=30)
        names = [model["id"] for model in response.json()["data"] if not model.get("parent")]  # adapters have one
    except (httpx.HTTPError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise RecipeRefused(f"{client.base_url} does not tell its models ({error}): name one with --teacher-model") from error
    if len(names) != 1:
        raise RecipeRefused(f"{client.base_url} has the models {', '.join(names)}: name one with --teacher-model")
    return str(names[0])
