"""Fake models that give scripted answers, in any order of completion, and what else the tests of strategies share."""

import asyncio
import json
import random
import re
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace

import pytest
from pydantic import TypeAdapter

from strategies.answers.equivalence import Equivalence
from strategies.core.values import AnswerKind, Candidate, Delta, Draw, Step, StopReason, Task, TokenLogprob, Watch
from strategies.core.verifier import StrategyContext
from strategies.verifiers import AnyVerifier


def candidate(index: int, text: str, *, finish: str = "stop", logprob: float | None = None) -> Candidate:
    """A candidate of one token per word, all with the same log-probability when one is given."""
    words = text.split()
    entries = tuple(TokenLogprob(w, i, logprob, ((w, logprob),)) for i, w in enumerate(words)) if logprob is not None else ()
    return Candidate(index, text, tuple(range(len(words))), finish, logprobs=entries)


def _watched(one: Candidate, watch: Callable[[], Watch] | None) -> Candidate:
    """The candidate as far as its watch lets it come."""
    is_over = (lambda _tokens: False) if watch is None else watch()
    end = next((end for end, entry in enumerate(one.logprobs, 1) if is_over([entry])), len(one.logprobs))
    if end == len(one.logprobs):
        return one  # it ends by itself before it is halted
    text = " ".join(one.text.split()[:end])
    return replace(one, text=text, token_ids=one.token_ids[:end], logprobs=one.logprobs[:end], finish_reason="cut")


@dataclass
class FakeModel:
    """A `Model` over candidates given by index.

    Attributes:
        order: completes the branches of each draw in this order of their positions; the rest follow.
        cut_after: the budget is spent after so many candidates.
        hang: nothing ever completes.

    """

    candidates: Sequence[Candidate]
    order: Sequence[int] = ()
    cut_after: int | None = None
    reason: StopReason = StopReason.TOKENS
    hang: bool = False
    stopped: StopReason | None = None
    num_drawn: int = 0
    num_delivered: int = 0
    num_open: int = 0
    most_at_once: int = 0
    asked_logprobs: list[int | None] = field(default_factory=list)
    temperatures: list[float | None] = field(default_factory=list)

    @asynccontextmanager
    async def sample(self, draw: Draw) -> AsyncIterator[AsyncIterator[Candidate]]:
        self.asked_logprobs.append(draw.num_logprobs)
        self.temperatures.append(draw.temperature)
        self.num_drawn += draw.n
        self.most_at_once = max(self.most_at_once, draw.n)
        self.num_open += 1
        try:
            yield self._deliver(
                list(self.candidates[draw.first_index : draw.first_index + draw.n]), draw.on_delta, draw.step.watch
            )
        finally:
            self.num_open -= 1

    async def _deliver(
        self, drawn: list[Candidate], on_delta: Callable[[Delta], None] | None, watch: Callable[[], Watch] | None
    ) -> AsyncIterator[Candidate]:
        if self.hang:
            await asyncio.Event().wait()
        first = [position for position in self.order if position < len(drawn)]
        for position in [*first, *(p for p in range(len(drawn)) if p not in first)]:
            if self.cut_after is not None and self.num_delivered >= self.cut_after:
                self.stopped = self.reason
                return
            await asyncio.sleep(0)
            self.num_delivered += 1
            one = _watched(drawn[position], watch)
            if on_delta is not None:
                on_delta(Delta(one.index, one.text, one.token_ids, one.logprobs, one.finish_reason))
            yield one

    async def score_options(self, prefix: Sequence[int], options: Sequence[int]) -> list[float]:
        return [0.0] * len(options)

    def using(self, adapter: str) -> "FakeModel":
        return self

    def spend(self, tokens: int, flops: int) -> bool:
        return True

    verifier_prompt = None
    deadline = None
    tokens_left = None


class Words:
    """A vocabulary: words with the white space before them are tokens, and joining them gives the text back."""

    def __init__(self) -> None:
        self._ids: dict[str, int] = {}

    def encode(self, text: str) -> tuple[int, ...]:
        return tuple(self._ids.setdefault(word, len(self._ids)) for word in re.findall(r"\s*\S+|\s+$", text))

    def decode(self, token_ids: Sequence[int]) -> str:
        words = list(self._ids)
        return "".join(words[token] for token in token_ids)


class TreeModel:
    """A `Model` that grows a scripted tree.

    Args:
        script: (what was said so far, position among those drawn together) -> the rest of the answer. It is cut into steps as asked.
        weigh: (the whole text, the word) -> log-probability of a word as the next one.
        logprob: (a word) -> its log-probability.
        tokens: may be generated before the budget is spent; `shuffle` lets branches complete in an order drawn from it.

    """

    def __init__(
        self,
        words: Words,
        script: Callable[[str, int], str],
        *,
        weigh: Callable[[str, str], float] = lambda _text, _word: 0.0,
        logprob: Callable[[str], float] = lambda word: -0.1 * len(word.strip()),
        tokens: int | None = None,
        shuffle: random.Random | None = None,
        hang_after: int | None = None,
    ) -> None:
        self.words, self._script, self._weigh, self._logprob = words, script, weigh, logprob
        self._left, self._shuffle, self._hang_after = tokens, shuffle, hang_after
        self.stopped: StopReason | None = None
        self.deadline: float | None = None
        self.verifier_prompt = None
        self.used: list[str] = []
        self.temperatures: list[float | None] = []
        self.num_open = self.most_open = self.num_drawn = 0
        self.asked: list[str] = []

    @property
    def tokens_left(self) -> int | None:
        return self._left

    def using(self, adapter: str) -> "TreeModel":
        self.used.append(adapter)
        return self

    def spend(self, tokens: int, flops: int) -> bool:
        return True

    @asynccontextmanager
    async def sample(self, draw: Draw) -> AsyncIterator[AsyncIterator[Candidate]]:
        self.temperatures.append(draw.temperature)
        self.num_open += draw.n
        self.most_open = max(self.most_open, self.num_open)
        try:
            yield self._deliver(self.words.decode(draw.prefix), draw.n, draw.first_index, draw.step)
        finally:
            self.num_open -= draw.n

    async def _deliver(self, text: str, n: int, first: int, step: Step) -> AsyncIterator[Candidate]:
        said = text.partition("|")[2]
        order = list(range(n))
        if self._shuffle is not None:
            self._shuffle.shuffle(order)
        for position in order:
            if self._hang_after is not None and self.num_drawn >= self._hang_after:
                await asyncio.Event().wait()
            for _ in range(self._shuffle.randrange(6) if self._shuffle else 1):
                await asyncio.sleep(0)
            candidate = self._cut(first + position, self._script(said, position), step)
            if candidate is None:
                return
            self.num_drawn += 1
            yield candidate

    def _cut(self, index: int, rest: str, step: Step) -> Candidate | None:
        ends = [rest.index(separator) + len(separator) for separator in step.separators if separator in rest]
        text, finish = (rest[: min(ends)], "step") if ends else (rest, "stop")
        tokens = self.words.encode(text)
        if step.until is not None:
            grown = [self.words.decode(tokens[:num]) for num in range(1, len(tokens) + 1)]
            ended = next((num for num, some in enumerate(grown, 1) if num < len(tokens) and step.until(some)), None)
            tokens, finish = (tokens, finish) if ended is None else (tokens[:ended], "step")
        if step.max_tokens is not None and len(tokens) > step.max_tokens:
            tokens, finish = tokens[: step.max_tokens], "step"
        if self._left is not None:
            if self._left <= 0:
                self.stopped = StopReason.TOKENS
                return None
            if len(tokens) > self._left:
                tokens, finish, self.stopped = tokens[: self._left], "length", StopReason.TOKENS
            self._left -= len(tokens)
        entries = tuple(TokenLogprob(word, t, self._logprob(word)) for t in tokens if (word := self.words.decode([t])))
        return Candidate(index, self.words.decode(tokens), tokens, finish, None, entries)

    async def score_options(self, prefix: Sequence[int], options: Sequence[int]) -> list[float]:
        text = self.words.decode(prefix)
        self.asked.append(text)
        await asyncio.sleep(0)
        return [self._weigh(text, self.words.decode([option])) for option in options]


@pytest.fixture
def words():
    """A vocabulary of its own for each test."""
    return Words()


@pytest.fixture
def grow(words):
    """`grow(script, **of_the_model)`: a model over a scripted tree.

    A script may be a table from the text so far to the possible continuations.
    """

    def model(script: Callable[[str, int], str] | dict[str, list[str]], **fields: object) -> TreeModel:
        if isinstance(script, dict):
            table = script

            def of_table(said: str, position: int) -> str:
                nexts = table[said]
                return nexts[position % len(nexts)]

            return TreeModel(words, of_table, **fields)
        return TreeModel(words, script, **fields)

    return model


@pytest.fixture
def question(words):
    """`question(kind, **fields)`: a task whose prompt ends where the answer begins, marked by a bar."""

    def of(kind: AnswerKind = AnswerKind.MATH, **fields: object) -> Task:
        return Task(
            question="?",
            prefix=words.encode("Q|"),
            kind=kind,
            encode=words.encode,
            follow_up=lambda text: words.encode(f"\nuser: {text}\nassistant:"),
            **fields,
        )

    return of


@pytest.fixture
def asked(question):
    """A task about numbers for a `TreeModel`."""
    return question()


@pytest.fixture
def make():
    """`make(*texts, **of_the_model)`: a fake model that answers these texts."""

    def model(*texts: str | Candidate, **fields: object) -> FakeModel:
        made = [candidate(i, one) if isinstance(one, str) else one for i, one in enumerate(texts)]
        return FakeModel(made, **fields)

    return model


@pytest.fixture
def says():
    """`says(index, text, finish=…, logprob=…)`: one candidate."""
    return candidate


@pytest.fixture
def task():
    """`task(kind, num_choices)`: a task."""

    def of(kind: AnswerKind = AnswerKind.MATH, num_choices: int = 1) -> Task:
        return Task(question="?", prefix=(1, 2, 3), kind=kind, num_choices=num_choices, encode=lambda _text: (7,))

    return of


@pytest.fixture
def verifier_of(context):
    """`verifier_of(choice)`: the verifier that a request chooses, spelled as in its JSON."""
    return lambda choice: TypeAdapter(AnyVerifier).validate_json(json.dumps(choice)).build(context)


@pytest.fixture
def context():
    """A context whose equivalence has its worker closed at the end."""
    equivalence = Equivalence()
    yield StrategyContext(equivalence, vocab_size=1000)
    equivalence.close()
