"""A deterministic engine without a model: for fast tests, for the HTTP surface and for timing the orchestration.

Tokens are words with the white space before them. What it answers is scripted; everything else (limits, stop strings, deltas,
log-probabilities, a prefix cache, halting, death) behaves as the port asks. It proves nothing about real generation.
"""

import asyncio
import itertools
import re
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from typing import Any

from adapters.errors import AdapterFailed
from adapters.ports import EngineAdapter
from app.engine.architecture import Architecture
from app.engine.base import Branch, ModelCard, Output, Prompt, ReplyParser
from app.engine.vllm.reply_parsers import PlainReply, ToolReply
from app.errors import EngineDead, InvalidRequest
from strategies.core.values import TokenLogprob

SMALL = Architecture(
    num_layers=2, hidden_size=64, num_heads=4, num_kv_heads=2, head_dim=16, intermediate_size=128, vocab_size=1000
)
BLOCK = 16
"""Tokens in a block of the pretended prefix cache."""

Script = Callable[[str, int], str]
"""(text of the prompt, how many answers to it came before) -> the answer. With an adapter, the name that the engine knows it by and
a colon come before it; or those of another that computed the prefix found in the cache: what a stale cache does to a real engine."""


def cycle(replies: Sequence[str]) -> Script:
    """A script that gives these answers in turn, whatever is asked."""
    return lambda _prompt, serial: replies[serial % len(replies)]


class ScriptedEngine:
    """An `Engine` that answers from a script.

    Args:
        script: what to answer.
        seconds_per_token: pretended speed; 0 yields to the event loop once per branch only.

    """

    def __init__(
        self,
        script: Script,
        *,
        seconds_per_token: float = 0.0,
        max_model_len: int = 2048,
        max_branches: int = 64,
        adapter_slots: int = 4,
    ) -> None:
        self.card = ModelCard("scripted", max_model_len, max_branches, SMALL, "scripted", adapter_slots, max_adapter_rank=16)
        self._script = script
        self._seconds_per_token = seconds_per_token
        self._ids: dict[str, int] = {}
        self._words: list[str] = []
        self._serials: dict[str, itertools.count[int]] = {}
        self._cached: dict[tuple[str | None, tuple[int, ...]], str] = {}
        self.adapters: dict[int, EngineAdapter] = {}
        self.refused: set[str] = set()
        self.live: dict[str, asyncio.Event] = {}
        self.branches: list[Branch] = []
        self.running: dict[str, Branch] = {}
        self._failure: str | None = None

    async def start(self) -> None:
        """Nothing to load."""

    async def close(self) -> None:
        """End every branch."""
        await self.halt(list(self.live))

    def die(self) -> None:
        """Behave from now on like an engine whose process died."""
        self._failure = "killed by its script"
        for event in self.live.values():
            event.set()

    @property
    def failure(self) -> str | None:
        """Why it is dead."""
        return self._failure

    def tokenise(self, text: str) -> tuple[int, ...]:
        """Words with the space before them, so that joining them gives the text back."""
        return tuple(self._id(word) for word in re.findall(r"\s*\S+|\s+$", text))

    def _id(self, word: str) -> int:
        if word not in self._ids:
            self._ids[word] = len(self._words)
            self._words.append(word)
        return self._ids[word]

    async def load_adapter(self, adapter: EngineAdapter) -> None:
        """Hold it; refused, with its path, when a test said so."""
        self._check()
        await asyncio.sleep(self._seconds_per_token)
        if self.refused & {adapter.path.split("/")[-2], "load"}:
            raise AdapterFailed("The engine could not load it.")
        if len(self.adapters) >= self.card.adapter_slots:
            raise RuntimeError("more adapters than slots")
        self.adapters[adapter.id] = adapter

    async def probe_adapter(self, adapter: EngineAdapter) -> None:  # noqa: ARG002 - the port's signature
        """Refused when a test said so."""
        self._check()
        if "probe" in self.refused:
            raise AdapterFailed("The engine computes nonsense with it.")

    async def unload_adapter(self, adapter: EngineAdapter) -> None:
        """Let it go; whoever still runs on it would be cut off, so that is an error."""
        await asyncio.sleep(self._seconds_per_token)
        if any(branch.adapter == adapter for branch in self.running.values()):
            raise RuntimeError("unloaded under a running branch")
        del self.adapters[adapter.id]

    async def loaded_adapters(self) -> frozenset[int]:
        """Those that it holds."""
        return frozenset(self.adapters)

    def encode(self, text: str) -> tuple[int, ...]:
        """Words, as everywhere here."""
        return self.tokenise(text)

    def follow_up(self, text: str) -> tuple[int, ...]:
        """As `render_chat` would go on."""
        return self.tokenise(f"\nuser: {text}\nassistant:")

    async def render_chat(self, body: Mapping[str, Any]) -> Prompt:
        """One line per message."""
        lines = [f"{message['role']}: {_text(message.get('content'))}" for message in body["messages"]]
        return self._prompt("\n".join([*lines, "assistant:"]), body, "messages")

    async def render_completion(self, body: Mapping[str, Any]) -> Prompt:
        """The text itself, or token ids that it gave out before."""
        prompt = body["prompt"]
        if not isinstance(prompt, str):
            if any(token >= len(self._words) for token in prompt):
                raise InvalidRequest("There is no such token id.", parameter="prompt")
            prompt = "".join(self._words[token] for token in prompt)
        return self._prompt(prompt, body, "prompt")

    def _prompt(self, text: str, body: Mapping[str, Any], parameter: str) -> Prompt:
        token_ids = self.tokenise(text)
        left = self.card.max_model_len - len(token_ids)
        if left < 1:
            raise InvalidRequest(f"The prompt has {len(token_ids)} tokens, too many.", parameter=parameter)
        wanted = body.get("max_completion_tokens") or body.get("max_tokens") or 512
        constrained = (body.get("response_format") or {}).get("type") in ("json_object", "json_schema")
        return Prompt(token_ids, min(wanted, left), body, body, text, stop=tuple(_stops(body)), is_constrained=constrained)

    def parser(self, prompt: Prompt) -> ReplyParser:
        """Hermes-style tool calls when the request offers tools, else plain text."""
        return ToolReply() if prompt.request.get("tools") else PlainReply()

    async def generate(self, branch: Branch) -> AsyncIterator[Output]:
        """Answer from the script, word by word when streamed."""
        self._check()
        if branch.adapter is not None and branch.adapter.id not in self.adapters:
            raise RuntimeError("a branch of an adapter that is not loaded")
        self.branches.append(branch)
        self.running[branch.id] = branch
        halted = self.live[branch.id] = asyncio.Event()
        try:
            cached, voice = self._cached_tokens(branch)
            words, finish, stop = self._reply(branch, voice)
            tokens = [self._token(word, branch.num_logprobs) for word in words]
            sent = 0
            if branch.is_streamed or self._seconds_per_token:
                for sent in range(len(tokens)):
                    await self._pause(halted)
                    if halted.is_set():
                        finish, stop, tokens = "abort", None, tokens[:sent]
                        break
                    if branch.is_streamed and sent < len(tokens) - 1:
                        yield self._output(branch, cached, tokens[sent : sent + 1])
            else:
                await asyncio.sleep(0)
            self._check()
            yield self._output(branch, cached, tokens[sent:] if branch.is_streamed else tokens, finish, stop)
        finally:
            self.live.pop(branch.id, None)
            self.running.pop(branch.id, None)

    def _check(self) -> None:
        if self._failure:
            raise EngineDead("The engine died.")

    async def _pause(self, halted: asyncio.Event) -> None:
        try:
            async with asyncio.timeout(self._seconds_per_token):
                await halted.wait()
        except TimeoutError:
            pass

    def _cached_tokens(self, branch: Branch) -> tuple[int, str]:
        """Whole blocks seen before under the same salt, never the whole prefix; and which adapter computed the first of them.

        Nothing but the salt tells adapters apart here, as in an engine whose adapter was replaced in place.
        """
        keys = [(branch.cache_salt, branch.prefix[:end]) for end in range(BLOCK, len(branch.prefix), BLOCK)]
        hits = sum(1 for _ in itertools.takewhile(self._cached.__contains__, keys))
        own = branch.adapter.name if branch.adapter else ""
        for key in keys:
            self._cached.setdefault(key, own)
        return hits * BLOCK, self._cached[keys[0]] if keys else own

    def _reply(self, branch: Branch, voice: str) -> tuple[list[str], str, str | None]:
        text = "".join(self._words[token] for token in branch.prefix)
        serial = next(self._serials.setdefault(text, itertools.count()))
        reply = self._script(text, branch.seed if branch.seed is not None else serial)
        if voice:
            reply = f"{voice}: {reply}"
        stops = _stops(branch.prompt.request)
        found = [(reply.index(stop), stop) for stop in (*stops, *branch.separators) if stop in reply]
        if not found:
            return self._cut(reply, branch, "stop", None)
        place, stop = min(found)
        return self._cut(reply[: place + (0 if stop in stops else len(stop))], branch, "stop", stop)

    def _cut(self, reply: str, branch: Branch, finish: str, stop: str | None) -> tuple[list[str], str, str | None]:
        words = re.findall(r"\s*\S+|\s+$", reply)
        if len(words) > branch.max_tokens:
            return words[: branch.max_tokens], "length", None
        return words, finish, stop

    def _token(self, word: str, num_logprobs: int | None) -> TokenLogprob:
        """Longer words are less probable; alternatives are made up."""
        logprob = -0.1 * len(word.strip())
        top = [(word, logprob), *((f"alternative {i}", logprob - i) for i in range(1, num_logprobs or 0))]
        return TokenLogprob(word, self._id(word), logprob, tuple(top[: num_logprobs or 0]))

    def _output(
        self,
        branch: Branch,
        cached: int,
        tokens: list[TokenLogprob],
        finish: str | None = None,
        stop: str | None = None,
    ) -> Output:
        return Output(
            "".join(token.token for token in tokens),
            tuple(token.token_id for token in tokens),
            len(branch.prefix),
            cached,
            finish,
            stop,
            tuple(tokens) if branch.num_logprobs is not None else (),
            {option: -1.0 - rank for rank, option in enumerate(branch.options)},
        )

    async def halt(self, ids: list[str]) -> None:
        """Tell the branches to hand in what they have."""
        for branch_id in ids:
            if branch_id in self.live:
                self.live[branch_id].set()

    def metrics(self, *, is_openmetrics: bool) -> bytes:  # noqa: ARG002 - the port's signature
        """None of its own."""
        return b""

    async def num_running(self) -> int:
        """Branches between their first and their last output."""
        return len(self.live)


def _text(content: Any) -> str:
    if isinstance(content, list):
        return "".join(part["text"] for part in content)
    return content or ""


def _stops(request: Mapping[str, Any]) -> list[str]:
    stop = request.get("stop") or []
    return [stop] if isinstance(stop, str) else list(stop)
