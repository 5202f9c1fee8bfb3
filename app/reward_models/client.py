"""The client of a reward model on another server: a `Verifier` over HTTP.

When it fails it raises `VerifierFailed`, and the search goes on with likelihood. Callers learn that it failed and no more. The reason
is in the log, without prompts, replies or keys.
"""

import asyncio
import logging
import time
from collections.abc import Callable, Mapping, Sequence
from typing import NoReturn

import httpx
from tenacity import AsyncRetrying, retry_if_exception_type, stop_after_attempt, wait_random_exponential

from app.reward_models.breaker import Breaker, CircuitOpen
from app.reward_models.options import RewardModelOptions
from app.reward_models.routes import UnusableReply, read_scores, request_body
from strategies.core.errors import VerifierFailed
from strategies.core.ports import Model
from strategies.core.values import Candidate, Task
from strategies.core.verifier import Verifier

logger = logging.getLogger("ponder.reward")

FIRST_PAUSE_S = 0.2
"""The longest pause before the first retry, in seconds. It doubles with each retry, up to `LONGEST_PAUSE_S`.

The length is random between 0 and the longest ("full jitter"), so that requests that failed together do not come back together.
"""

LONGEST_PAUSE_S = 5.0

IDLE_CONNECTION_S = 2.0
"""Idle connections are closed after this many seconds. vLLM closes them after 5; a request sent just then would fail."""

REFUSED = frozenset({400, 413, 422})
"""Statuses of a server that works but refuses these answers, for example because they are longer than its context."""


class _Failed(Exception):
    """The server gave no scores. The circuit breaker counts these.

    Args:
        reason: for the log.
        for_caller: what the caller of the request may know, in words that continue "the reward model NAME".

    """

    def __init__(self, reason: str, for_caller: str = "did not answer") -> None:
        super().__init__(reason)
        self.for_caller = for_caller


class _Transient(_Failed):
    """A failure after which another try may succeed."""


class RewardModel(Verifier):
    """A verifier that asks one reward model over HTTP. Close it with `close`.

    Args:
        label: the operator's name for it, which callers may see.
        options: how it is called.
        clock: of the circuit breaker: returns seconds that never decrease.
        trace_headers: returns the headers that join the reward model's own spans to the trace of a request, from its model.

    """

    name = "reward_model"
    num_logprobs: int | None = 0  # log-probabilities are drawn too, because likelihood takes its place when it fails

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
            timeout=None,  # noqa: S113 - `_try` bounds the whole call; httpx would bound each operation
            limits=httpx.Limits(keepalive_expiry=IDLE_CONNECTION_S),
            follow_redirects=False,  # a redirect could take answers and the key to another server
            trust_env=False,  # no proxies and no .netrc of the environment
        )

    async def close(self) -> None:
        """Close its connections."""
        await self._client.aclose()

    async def score(self, task: Task, candidates: Sequence[Candidate], model: Model) -> list[float]:
        """Return a score, 0 to 1, for each candidate, all by one HTTP request.

        The FLOPs are charged once, also when the request is tried again.

        Raises:
            VerifierFailed: the reward model gave no scores, or the budget has no room for them.

        """
        if not candidates:
            return []
        was_closed = self._breaker.is_closed
        try:
            with self._breaker.passing():
                self._charge(task, candidates, model)
                return await self._ask(task, candidates, self._trace_headers(model))
        except CircuitOpen:
            self._fail("is out of service for the moment")
        except _Failed as failure:
            pause = "; it is not called for a while" if was_closed and not self._breaker.is_closed else ""
            logger.warning("reward model %s: %s%s", self.label, failure, pause)
            self._fail(failure.for_caller)

    def _charge(self, task: Task, candidates: Sequence[Candidate], model: Model) -> None:
        tokens = sum(len(task.prefix) + len(candidate.token_ids) for candidate in candidates)
        # 2 FLOPs for each parameter and token: one forward pass (Kaplan et al. 2020, arXiv 2001.08361).
        flops = round(2 * (self._options.parameters or 0) * tokens)
        if not model.spend(tokens, flops):
            self._fail("was not called, since the budget has no room for it")

    async def _ask(self, task: Task, candidates: Sequence[Candidate], headers: Mapping[str, str]) -> list[float]:
        body = request_body(self._options, task, candidates)
        trying = AsyncRetrying(  # made anew for each call, since it keeps the state of its tries
            retry=retry_if_exception_type(_Transient),
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
        """Send the request once, and return the body of a reply with status 200."""
        if self._client.is_closed:
            raise _Failed("its client is closed")
        seconds = self._options.timeout_seconds
        try:
            async with asyncio.timeout(seconds):
                async with self._client.stream("POST", self._options.address, content=body, headers=headers) as response:
                    self._check(response.status_code)
                    return await self._read(response)
        except TimeoutError:
            raise _Transient(f"no reply within {seconds:g} s") from None
        except (httpx.NetworkError, httpx.RemoteProtocolError) as error:
            raise _Transient(type(error).__name__) from None
        except httpx.HTTPError as error:
            raise _Failed(type(error).__name__) from None

    def _check(self, status: int) -> None:
        """Raise the error that a status stands for; return for 200."""
        if status in REFUSED:
            logger.info("reward model %s: status %d", self.label, status)
            self._fail("does not take these answers")
        if status == httpx.codes.TOO_MANY_REQUESTS or (status >= 500 and status != httpx.codes.NOT_IMPLEMENTED):
            raise _Transient(f"status {status}")
        if status != httpx.codes.OK:
            raise _Failed(f"status {status}")

    async def _read(self, response: httpx.Response) -> bytes:
        """Read the body, up to `max_reply_bytes`.

        It is read as it was sent. A compressed body, which was not asked for, is then no JSON: so no small reply can grow in memory.
        """
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
