"""An engine without a model, which answers from a script: the test double for strategies, verifiers and the HTTP surface.

It is what `httpx.MockTransport` is to httpx. Authors of plugins use it as `ponder.ScriptedEngine`, and so do our own tests:

    engine = ScriptedEngine("The answer is 42.")                         # the same answer always
    engine = ScriptedEngine(["42", "41", "42"])                          # these answers in turn
    engine = ScriptedEngine(lambda prompt, number: f"answer {number}")   # whatever a function returns

Only the texts are scripted. Everything else behaves as the port asks: limits, stop strings, loops, deltas, log-probabilities, a
prefix cache, adapters, halting, and death. A token is a word with the white space before it.
"""

import asyncio
import itertools
import re
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from adapters.errors import AdapterFailed
from adapters.ports import EngineAdapter
from app.engine.architecture import Architecture
from app.engine.base import Branch, InProcess, ModelCard, Output, Prompt, PromptLogprobs, RankedToken, Repetition, ReplyParser
from app.engine.flops.vision import ImageTokens
from app.engine.reply_parsers import PlainReply, ThinkingReply, ToolReply
from app.engine.simulated import PrefixCache, WordTokenizer, loop_end, words_of
from app.errors import EngineDead, InvalidRequest
from app.images.loading import IMAGE
from strategies.core.thinking import Thinking
from strategies.core.values import TokenLogprob

# FLOPs are counted for this architecture.
SMALL = Architecture.dense(
    num_layers=2, hidden_size=64, num_heads=4, num_kv_heads=2, head_dim=16, intermediate_size=128, vocab_size=1000
)
MAX_ADAPTER_RANK = 16
IMAGE_TOKENS = 4
_IMAGE_WORD = re.compile(r" <\d+x\d+>")
DEFAULT_MAX_TOKENS = 512

Script = Callable[[str, int], str]
"""A function of the prompt's text and of a number, which returns the answer.

The number is the branch's seed where it has one, else how many branches with the same prompt there were before. The prompt is
everything that the branch continues, earlier steps of the answer included.
"""


def cycle(replies: Sequence[str]) -> Script:
    """Return a script that gives these answers in turn, to any prompt."""
    return lambda _prompt, number: replies[number % len(replies)]


class ScriptedEngine(InProcess):
    """An `Engine` that answers from a script.

    Answers of an adapter begin with its name in the engine and a colon. When the simulated cache holds a prefix that another adapter
    computed, they begin with that adapter's name instead: this is what a stale prefix cache does to a real engine.

    Args:
        script: the answers: one text, several texts in turn, or a `Script`.
        seconds_per_token: simulated speed. At 0, a branch ends at its first turn on the event loop.
        max_model_len: the most tokens of a prompt and its answer together.
        max_branches: branches that may run at the same time.
        adapter_slots: adapters that it holds at the same time.
        thinking: the texts before and behind the thinking of a model that thinks, such as `<think>` and `</think>`. A conversation then
            ends with the first one, so that the script begins with thinking; unless the request has `enable_thinking: false` among
            its `chat_template_kwargs`, or no reasoning effort. An adapter with a chat template that has `<think>` thinks likewise.
        opens_thinking: whether a conversation ends with the text before the thinking. Without it, the script writes that text.
        max_images: the most images of a prompt; 0 for a model that reads none. An image becomes `IMAGE_TOKENS` words with its size.

    Attributes:
        card: describes the model, as of every engine.
        branches: all branches that were run, in the order in which they began.
        running: branches that run now, by id.
        live: an event for each of these, by id; setting it halts the branch.
        adapters: adapters that are loaded, by id.
        refused: what a test wants the engine to refuse: an adapter's name, `load` (every load) or `probe` (every probe).

    """

    def __init__(
        self,
        script: Script | str | Sequence[str],
        *,
        seconds_per_token: float = 0.0,
        max_model_len: int = 2048,
        max_branches: int = 64,
        adapter_slots: int = 4,
        thinking: tuple[str, str] | None = None,
        opens_thinking: bool = True,
        max_images: int = 0,
    ) -> None:
        self.card = ModelCard(
            name="scripted",
            max_model_len=max_model_len,
            max_branches=max_branches,
            architecture=SMALL,
            description="scripted",
            adapter_slots=adapter_slots,
            max_adapter_rank=MAX_ADAPTER_RANK,
            modalities=frozenset({IMAGE} if max_images else ()),
            max_images=max_images,
        )
        self.branches: list[Branch] = []
        self.running: dict[str, Branch] = {}
        self.live: dict[str, asyncio.Event] = {}
        self.adapters: dict[int, EngineAdapter] = {}
        self.refused: set[str] = set()
        self._script = script if callable(script) else cycle([script] if isinstance(script, str) else script)
        self._seconds_per_token = seconds_per_token
        self._thinking = thinking
        self._opens_thinking = opens_thinking
        self._tokenizer = WordTokenizer()
        self._cache = PrefixCache()
        self._serials: dict[str, itertools.count[int]] = {}
        self._failure: str | None = None

    async def start(self) -> None:
        """Do nothing: there is no model to load."""

    async def close(self) -> None:
        """End every branch."""
        await self.halt(list(self.live))

    def die(self) -> None:
        """Behave from now on like an engine whose process died, for tests of failures."""
        self._failure = "killed by its script"
        for event in self.live.values():
            event.set()

    @property
    def failure(self) -> str | None:
        """Why the engine is dead, None unless `die` was called."""
        return self._failure

    async def load_adapter(self, adapter: EngineAdapter) -> None:
        """Hold an adapter. Raises `AdapterFailed` where `refused` says so, `RuntimeError` without a free slot."""
        self._check()
        await asyncio.sleep(self._seconds_per_token)
        # The folder of a version is in the folder of its adapter.
        if self.refused & {adapter.path.split("/")[-2], "load"}:
            raise AdapterFailed("The engine could not load it.")
        if len(self.adapters) >= self.card.adapter_slots:
            raise RuntimeError("more adapters than slots")
        self.adapters[adapter.id] = adapter

    async def probe_adapter(self, adapter: EngineAdapter) -> None:  # noqa: ARG002 - the port's signature
        """Do nothing; raises `AdapterFailed` where `refused` says so."""
        self._check()
        if "probe" in self.refused:
            raise AdapterFailed("The engine computes nonsense with it.")

    async def unload_adapter(self, adapter: EngineAdapter) -> None:
        """Remove an adapter. Raises `RuntimeError` when a branch still runs on it, which a real engine would cut off."""
        await asyncio.sleep(self._seconds_per_token)
        if any(branch.adapter == adapter for branch in self.running.values()):
            raise RuntimeError("unloaded under a running branch")
        del self.adapters[adapter.id]

    async def loaded_adapters(self) -> frozenset[int]:
        """Return the ids of the adapters that are loaded."""
        return frozenset(self.adapters)

    def encode(self, text: str) -> tuple[int, ...]:
        """Return the ids of the words of a text."""
        return self._tokenizer.encode(text)

    def decode(self, token_ids: Sequence[int]) -> str:
        """Return the text of token ids that this engine returned before."""
        try:
            return self._tokenizer.decode(token_ids)
        except IndexError as error:
            raise InvalidRequest("There is no such token id.", parameter="prompt") from error

    def follow_up(self, prompt: Prompt, text: str, *, thinks: bool = False) -> tuple[int, ...]:
        """Return the ids of the lines that `render_chat` would write for another turn of the user."""
        opens = thinks and prompt.thinking is not None and self._opens_thinking
        opening = f" {prompt.thinking.start}" if opens and prompt.thinking is not None else ""
        return self._tokenizer.encode(f"\nuser: {text}\nassistant:{opening}")

    async def render_chat(self, body: Mapping[str, Any], *, template: str | None = None) -> Prompt:
        """Render a conversation as one line for each message."""
        text, thinking = _conversation(body), self._thinking
        if template is not None:
            thinking = ("<think>", "</think>") if "<think>" in template else None
        if thinking is None or not text.endswith("assistant:") or not _thinks(body):
            return self._prompt(text, body, "messages")
        start, end = thinking
        prompt = self._prompt(f"{text} {start}" if self._opens_thinking else text, body, "messages")
        return replace(prompt, thinking=Thinking(start, end, self.encode(f" {end}"), is_open=self._opens_thinking))

    async def render_completion(self, body: Mapping[str, Any]) -> Prompt:
        """Render a prompt: its text itself, or token ids that this engine returned before."""
        prompt = body["prompt"]
        if not isinstance(prompt, str):
            prompt = self.decode(prompt)
        return self._prompt(prompt, body, "prompt")

    def _prompt(self, text: str, body: Mapping[str, Any], parameter: str) -> Prompt:
        token_ids = self._tokenizer.encode(text)
        left = self.card.max_model_len - len(token_ids)
        if left < 1:
            raise InvalidRequest(f"The prompt has {len(token_ids)} tokens, too many.", parameter=parameter)
        wanted = body.get("max_completion_tokens") or body.get("max_tokens") or DEFAULT_MAX_TOKENS
        constrained = (body.get("response_format") or {}).get("type") in ("json_object", "json_schema")
        images = self._images(token_ids) if self.card.max_images else ()
        asked = {name: value for name, value in body.items() if name != "messages" or not images}  # they hold the pixels
        return Prompt(
            token_ids, min(wanted, left), asked, asked, text, stop=tuple(_stops(body)), min_tokens=body.get("min_tokens") or 0,
            is_constrained=constrained, images=images,
        )  # fmt: skip

    def _images(self, token_ids: tuple[int, ...]) -> tuple[ImageTokens, ...]:
        words = [self._tokenizer.decode([token]) for token in token_ids]
        places = [place for place, word in enumerate(words) if _IMAGE_WORD.fullmatch(word)]
        return tuple(ImageTokens(place, IMAGE_TOKENS, IMAGE_TOKENS) for place in places[::IMAGE_TOKENS])

    async def tokenize(self, body: Mapping[str, Any], *, template: str | None = None) -> tuple[int, ...]:
        """Return the ids of the words of a text or of a conversation."""
        if template is not None and "messages" in body:
            return (await self.render_chat(body, template=template)).token_ids
        return self._tokenizer.encode(_conversation(body) if "messages" in body else body["prompt"])

    async def detokenize(self, token_ids: Sequence[int]) -> str:
        """Return the words of these ids. Raises `InvalidRequest` for an id that was never given."""
        return "".join(await self.token_texts(token_ids))

    async def token_texts(self, token_ids: Sequence[int]) -> list[str]:
        """Return the word of each id. Raises `InvalidRequest` for an id that was never given."""
        try:
            return [self._tokenizer.decode([token]) for token in token_ids]
        except IndexError as error:
            raise InvalidRequest("There is no such token id.", parameter="tokens") from error

    def parser(self, prompt: Prompt) -> ReplyParser:
        """Return a parser of thinking, if there is any, and of tool calls in the form of Hermes models where the request offers tools."""
        answer: ReplyParser = PlainReply()
        if prompt.request.get("tools"):
            answer = ToolReply(max_calls=1 if prompt.request.get("parallel_tool_calls") is False else None)
        return answer if prompt.thinking is None else ThinkingReply(prompt.thinking, answer)

    async def generate(self, branch: Branch) -> AsyncIterator[Output]:
        """Answer from the script, word by word where the branch is streamed."""
        self._check()
        if branch.adapter is not None and branch.adapter.id not in self.adapters:
            raise RuntimeError("a branch of an adapter that is not loaded")
        self.branches.append(branch)
        self.running[branch.id] = branch
        halted = self.live[branch.id] = asyncio.Event()
        try:
            own_adapter = branch.adapter.name if branch.adapter else ""
            cached, adapter = self._cache.use(branch.prefix, branch.cache_salt, own_adapter)
            words, finish, stop = self._reply(branch, adapter)
            if branch.num_prompt_logprobs is not None:
                cached = 0
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
        """Wait as long as a token takes, or until the branch is halted."""
        try:
            async with asyncio.timeout(self._seconds_per_token):
                await halted.wait()
        except TimeoutError:
            pass

    def _reply(self, branch: Branch, adapter: str) -> tuple[list[str], str, str | None]:
        """Return the words of the answer, its finish reason, and the string that stopped it."""
        if branch.num_prompt_logprobs is not None:
            return ["."], "length", None  # nobody reads its token, and the answers in turn stay as they are
        text = self._tokenizer.decode(branch.prefix)
        serial = next(self._serials.setdefault(text, itertools.count()))
        reply = self._script(text, branch.seed if branch.seed is not None else serial)
        if adapter:
            reply = f"{adapter}: {reply}"
        stops = _stops(branch.prompt.request)
        num_before = len(branch.prefix) - len(branch.prompt.token_ids)
        first = len("".join(words_of(reply)[: min(max(branch.prompt.min_tokens - num_before, 0), branch.max_tokens)]))
        found = [(reply.index(stop, first), stop) for stop in (*stops, *branch.separators) if stop in reply[first:]]
        if not found:
            return self._cut(reply, branch, "stop", None)
        place, stop = min(found)
        return self._cut(reply[: place + (0 if stop in stops else len(stop))], branch, "stop", stop)

    def _cut(self, reply: str, branch: Branch, finish: str, stop: str | None) -> tuple[list[str], str, str | None]:
        words = words_of(reply)
        end = loop_end(words[: branch.max_tokens], loop) if (loop := _loop(branch)) else None
        if end is not None and end < branch.max_tokens:  # the length comes first, as in vLLM
            return words[:end], "repetition", "repetition_detected"
        if len(words) > branch.max_tokens:
            return words[: branch.max_tokens], "length", None
        return words, finish, stop

    def _token(self, word: str, num_logprobs: int | None) -> TokenLogprob:
        """Return a token with made-up log-probabilities: longer words are less probable."""
        logprob = -0.1 * len(word.strip())
        top = [(word, logprob), *((f"alternative {i}", logprob - i) for i in range(1, num_logprobs or 0))][: num_logprobs or 0]
        ids = tuple(self._tokenizer.id_of(token) for token, _ in top)
        return TokenLogprob(word, self._tokenizer.id_of(word), logprob, tuple(top), top_ids=ids)

    def _prompt_logprobs(self, branch: Branch) -> PromptLogprobs:
        """Return the made-up log-probabilities of the prefix: each of its words is the most probable one."""
        if branch.num_prompt_logprobs is None:
            return ()
        num = max(branch.num_prompt_logprobs, 1)
        tokens = [self._token(self._tokenizer.decode([token]), num) for token in branch.prefix[1:]]
        return (
            (),
            *(
                tuple(
                    RankedToken(token_id, *entry, rank)
                    for rank, (entry, token_id) in enumerate(zip(token.top, token.top_ids, strict=True), 1)
                )
                for token in tokens
            ),
        )

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
            self._prompt_logprobs(branch) if finish else (),
        )

    async def halt(self, ids: list[str]) -> None:
        """End these branches; each yields a last output with what it has."""
        for branch_id in ids:
            if branch_id in self.live:
                self.live[branch_id].set()

    async def metrics(self, *, is_openmetrics: bool) -> bytes:  # noqa: ARG002 - the port's signature
        """Return nothing: it has no metrics of its own."""
        return b""

    async def num_running(self) -> int:
        """Return the number of branches that run."""
        return len(self.live)


def _conversation(body: Mapping[str, Any]) -> str:
    lines = [f"{message['role']}: {_text(message.get('content'))}" for message in body["messages"]]
    has_opening = body.get("add_generation_prompt", True) and not body.get("continue_final_message")
    return "\n".join([*lines, "assistant:"] if has_opening else lines)


def _thinks(body: Mapping[str, Any]) -> bool:
    """Return whether the model is to think, by the rule of vLLM: a variable of the template comes before the reasoning effort."""
    variables = body.get("chat_template_kwargs") or {}
    return bool(variables.get("enable_thinking", body.get("reasoning_effort") != "none"))


def _text(content: Any) -> str:
    if isinstance(content, list):
        return "".join(_image(part[IMAGE]) if part["type"] == IMAGE else part["text"] for part in content)
    return content or ""


def _image(image: Any) -> str:
    return f" <{image.width}x{image.height}>" * IMAGE_TOKENS + "\n"


def _loop(branch: Branch) -> Repetition | None:
    """Return what ends the branch as a loop: what the request says comes first."""
    own = branch.prompt.request.get("repetition_detection")
    return branch.repetition if own is None else Repetition(**{"max_pattern_size": 0, "min_pattern_size": 0, **own})


def _stops(request: Mapping[str, Any]) -> list[str]:
    stop = request.get("stop") or []
    return [stop] if isinstance(stop, str) else list(stop)
