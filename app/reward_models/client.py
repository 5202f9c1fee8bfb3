"""The client of a reward model that the operator runs elsewhere: a `Verifier` over HTTP that fails politely.

Clients learn that it failed, and not more; why is in the log, without prompts, replies and keys.
"""

import asyncio
import logging
import time
from collections.abc import Callable, Mapping, Sequence
from typing import NoReturn

import httpx
from tenacity import AsyncRetrying, retry_if_exception_type, stop_after_attempt, wait_random_exponential

from app.reward_models.breaker import Breaker, Resting
from app.reward_models.options import RewardModelOptions
from app.reward_models.routes import UnusableReply, read_scores, request_body
from strategies.core.errors import VerifierFailed
from strategies.core.ports import Model
from strategies.core.values import Candidate, Task
from strategies.core.verifier import Verifier

logger = logging.getLogger("ponder.reward")

FIRST_PAUSE_S = 0.2
"""Before the first retry at most; twice that before the next, and so on up to `LONGEST_PAUSE_S`; the length is drawn by chance."""
LONGEST_PAUSE_S = 5.0

IDLE_CONNECTION_S = 2.0
"""vLLM closes connections that were idle for 5 s; ours leave first, or a request could meet the closing."""

TOO_LONG_OR_ODD = frozenset({400, 413, 422})
"""The server works, and does not want these answers (they are longer than its context, say)."""


class _Failed(Exception):
    """The server gave no scores; the breaker counts these. `told` is for clients, the message for the log."""

    def __init__(self, reason: str, told: str = "did not answer") -> None:
        super().__init__(reason)
        self.told = told


class _Passing(_Failed):
    """Trying again may help."""


class RewardModel(Verifier):
    """Scores by one reward model. Closed with `close`.

    Args:
        label: the operator's name for it, which clients may see.
        options: how it is reached and asked.
        clock: of the breaker.
        trace_headers: returns the headers that join the reward model's own spans to the trace of a request, from its model.

    """

    name = "reward_model"
    num_logprobs: int | None = 0  # likelihood steps in when it fails

    def __init__(
        self,
        label: str,
        options: RewardModelOptions,
        clock: Callable[[], float] = time.monotonic,
        *,
        trace_headers: Callable[[Model], Mapping[str, str]] = lambda _model: {},
    ) -> None:
        self.label = label
        self._trace_headers = trace_headers
        self._options = options
        self._breaker = Breaker(options.failures, options.rest_seconds, _Failed, clock)
        headers = {"Content-Type": "application/json", "Accept": "application/json", "Accept-Encoding": "identity"}
        if options.api_key is not None:
            headers["Authorization"] = f"Bearer {options.api_key.get_secret_value()}"
        self._client = httpx.AsyncClient(
            headers=headers,
            timeout=None,  # noqa: S113 - `_try` bounds the whole, not each operation
            limits=httpx.Limits(keepalive_expiry=IDLE_CONNECTION_S),
            follow_redirects=False,
            trust_env=False,
        )

    async def close(self) -> None:
        """End its connections."""
        await self._client.aclose()

    async def score(self, task: Task, candidates: Sequence[Candidate], model: Model) -> list[float]:
        """In [0, 1], all candidates in one request, which is charged once however often it is tried."""
        if not candidates:
            return []
        was_closed = self._breaker.is_closed
        try:
            with self._breaker.passing():
                self._charge(task, candidates, model)
                return await self._ask(task, candidates, self._trace_headers(model))
        except Resting:
            self._fail("is out of service for the moment")
        except _Failed as failure:
            rests = "; it is left alone for a while" if was_closed and not self._breaker.is_closed else ""
            logger.warning("reward model %s: %s%s", self.label, failure, rests)
            self._fail(failure.told)

    def _charge(self, task: Task, candidates: Sequence[Candidate], model: Model) -> None:
        tokens = sum(len(task.prefix) + len(candidate.token_ids) for candidate in candidates)
        flops = round(2 * (self._options.parameters or 0) * tokens)
        if not model.spend(tokens, flops):
            self._fail("was not asked, since the budget has no room for it")

    async def _ask(self, task: Task, candidates: Sequence[Candidate], headers: Mapping[str, str]) -> list[float]:
        body = request_body(self._options, task, candidates)
        trying = AsyncRetrying(  # a new one each time: it keeps the state of its tries in itself
            retry=retry_if_exception_type(_Passing),
            stop=stop_after_attempt(1 + self._options.retries),
            wait=wait_random_exponential(multiplier=FIRST_PAUSE_S, max=LONGEST_PAUSE_S),
            reraise=True,
        )
        reply: bytes = await trying(self._try, body, headers)
        try:
            return read_scores(self._options, reply, len(candidates))
        except UnusableReply as error:
            raise _Failed(str(error), "gave no usable scores") from None

    async def _try(self, body: bytes, headers: Mapping[str, str]) -> bytes:
        """The bytes of a reply with status 200."""
        if self._client.is_closed:
            raise _Failed("its client is closed")
        seconds = self._options.timeout_seconds
        try:
            async with asyncio.timeout(seconds):
                async with self._client.stream("POST", self._options.address, content=body, headers=headers) as response:
                    self._check(response.status_code)
                    return await self._read(response)
        except TimeoutError:
            raise _Passing(f"no reply within {seconds:g} s") from None
        except (httpx.NetworkError, httpx.RemoteProtocolError) as error:
            raise _Passing(type(error).__name__) from None
        except httpx.HTTPError as error:
            raise _Failed(type(error).__name__) from None

    def _check(self, status: int) -> None:
        if status in TOO_LONG_OR_ODD:
            logger.info("reward model %s: status %d", self.label, status)
            self._fail("does not take these answers")
        if status == httpx.codes.TOO_MANY_REQUESTS or (status >= 500 and status != httpx.codes.NOT_IMPLEMENTED):
            raise _Passing(f"status {status}")
        if status != httpx.codes.OK:
            raise _Failed(f"status {status}")

    async def _read(self, response: httpx.Response) -> bytes:
        """As sent: a reply that is compressed all the same is no JSON, so that none can grow while it is unpacked."""
        chunks: list[bytes] = []
        left = self._options.max_reply_bytes
        async for chunk in response.aiter_raw():
            chunks.append(chunk)
            left -= len(chunk)
            if left < 0:
                raise _Failed(f"a reply of more than {self._options.max_reply_bytes} bytes", "gave no usable scores")
        return b"".join(chunks)

    def _fail(self, what: str) -> NoReturn:
        raise VerifierFailed(f"the reward model {self.label} {what}") from None
