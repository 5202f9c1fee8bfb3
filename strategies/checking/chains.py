"""Answers that are checked line by line while they are written, and gone on with behind the right result or the last true line.

A line with a false equation is not worth going on from: its branch is ended there. Where the result can be computed
(`strategies.checking.calculator`) the answer is continued behind the right one, as likely or at random as before; else, or
where that line comes to nothing again, from before the line, by sampling. Where the same line fails again and again, the fault
may lie before it: after every second failure it goes back one line more. So a slip costs a line, where a vote pays for whole
answers. What is checked are equations (`strategies.verifiers.equations`); lines without any pass.
"""

import asyncio
from collections.abc import AsyncIterator, Callable, Collection, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import replace
from itertools import accumulate

from strategies.checking.calculator import corrected
from strategies.core.ports import Emit, Model
from strategies.core.results import NodeState, Progress, TraceNode
from strategies.core.values import Candidate, Draw, ScoredCandidate, Step, Task, TokenLogprob
from strategies.verifiers.equations import is_refuted
from strategies.voting.selection import opening_words

LONGEST_LINE = 250
"""Characters of a line that is still looked at: it is done between two tokens."""


class Chain:
    """One answer in progress.

    Attributes:
        number: among its like, from 0.
        path: what has been written last, joined to what was kept before it.
        said: what of it is true and gone on from; `given`, the end of it that the calculator wrote.
        is_true: no line of what was written last is false, as far as it came.

    """

    def __init__(self, number: int, encode: Callable[[str], tuple[int, ...]], *, has_checks: bool = True) -> None:
        self.number = number
        self._encode = encode
        self._has_checks = has_checks
        self.path: Candidate | None = None
        self.said = Candidate(0, "", (), "step")
        self.is_true = False
        self.given = ""
        self.nodes: list[TraceNode] = []
        self._verdicts: dict[str, bool] = {}
        self._corrections: dict[str, str | None] = {}
        self._fails: dict[int, int] = {}
        self._whole: Candidate | None = None
        self._pieces: list[tuple[int, int]] = []
        """Where what is kept of each attempt begins, and its index."""

    @property
    def attempts(self) -> int:
        """How often it was begun, or gone on with."""
        return len(self.nodes)

    @property
    def is_sound(self) -> bool:
        """Whether it is whole, and no line of it is false."""
        return self.is_true and self.path is not None and self.path.is_complete

    @property
    def answer(self) -> Candidate:
        """The last attempt where that is whole, or none was; else the last that was."""
        assert self.path is not None
        return self.path if self.path.is_complete or self._whole is None else self._whole

    def is_false(self, text: str) -> bool:
        """Whether the last line that is complete is false."""
        line = text[: text.rfind("\n") + 1].rstrip("\n").rpartition("\n")[2]
        if line not in self._verdicts:
            self._verdicts[line] = self._has_checks and len(line) <= LONGEST_LINE and is_refuted(line)
        return self._verdicts[line]

    def is_astray(self, text: str) -> bool:
        """The same of what is being written after what was said, which may end in the middle of a line."""
        return self.is_false(self.said.text.rpartition("\n")[2] + text)

    def take(self, new: Candidate) -> TraceNode:
        """Join it to what was said, and keep of that what is true; its node."""
        path = replace(
            new,
            text=self.said.text + new.text,
            token_ids=self.said.token_ids + new.token_ids,
            logprobs=self.said.logprobs + new.logprobs,
        )
        end = self._true_until(path)
        self.is_true = end is None
        node = TraceNode(
            id=new.index, parent=self._pieces[-1][1] if self._pieces else None, text=self.given + new.text, tokens=len(new.token_ids),
            finish_reason=new.finish_reason, state=NodeState.FINAL if end is None else NodeState.PRUNED,
            verdict=float(end is None), cost=new.cost,
        )  # fmt: skip
        self._pieces.append((len(self.said.text) - len(self.given), new.index))
        self.path, self._whole = path, path if path.is_complete else self._whole
        self.nodes.append(node)
        if end is not None:
            self._go_back(path, end)
        return node

    def look(self, new: Candidate) -> None:
        """Judge the lines that `take` will ask for; apart from it, since many lines take a while."""
        for line in (self.said.text + new.text).split("\n"):
            if self.is_false(line + "\n"):
                if line not in self._corrections:
                    self._corrections[line] = corrected(line)
                return

    def _true_until(self, path: Candidate) -> int | None:
        """Where the first false line begins, None where there is none. A line that was cut says nothing yet."""
        *lines, last = path.text.split("\n")
        begin = 0
        for line in [*lines, last] if path.is_complete else lines:
            if self.is_false(line + "\n"):
                return begin
            begin += len(line) + 1
        return None

    def _go_back(self, path: Candidate, begin: int) -> None:
        """To before the result that is wrong, or to the beginning of its line, or further."""
        line = path.text[begin:].partition("\n")[0]
        right = self._corrections.get(line) or ""
        sign = begin + right.rfind("=")
        if right and sign >= len(self.said.text):  # else it is what was said of a right result that is false
            self._keep(path, sign + 1, path.text[:begin] + right)
            return
        fails = self._fails[begin] = self._fails.get(begin, 0) + 1
        for _ in range((fails - 1) // 2):
            begin = path.text.rfind("\n", 0, max(begin - 1, 0)) + 1
        self._keep(path, begin, "")

    def _keep(self, path: Candidate, end: int, wanted: str) -> None:
        """What whole tokens say of the first `end` characters, and after it what is left of `wanted`."""
        lengths = accumulate(len(entry.token) for entry in path.logprobs)
        num = sum(length <= end for length in lengths)
        while num and not path.logprobs[num - 1].token:  # the first bytes of a character that comes later
            num -= 1
        text = "".join(entry.token for entry in path.logprobs[:num])
        if not path.text.startswith(text):  # tokens that are no text of their own, as parts of a character: from the beginning
            num, text = 0, ""
        self._pieces = [(place, index) for place, index in self._pieces if place < len(text)]
        self.given = wanted[len(text) :]
        ids = self._encode(self.given) if self.given else ()
        texts = [""] * (len(ids) - 1) + [self.given] * bool(ids)
        entries = [TokenLogprob(text, one, 0.0, is_given=True) for text, one in zip(texts, ids, strict=True)]
        self.said = replace(
            path, text=text + self.given, token_ids=(*path.token_ids[:num], *ids), logprobs=(*path.logprobs[:num], *entries)
        )


class Writer:
    """Writes several chains at once.

    Args:
        most: chains that there may ever be; so who is ready first changes no index, and with it no seed.
        first: temperature of the first attempt of the first chain, None for the same as the others'.
        has_checks: look at lines at all.

    Attributes:
        chains: those that were begun and got anything, by number.

    """

    def __init__(
        self, task: Task, model: Model, emit: Emit, *, most: int, first: float | None, has_checks: bool = True
    ) -> None:
        self._task = task
        self._model = model
        self._emit = emit
        self._most = most
        self._first = first
        # an answer that cannot be continued as if nothing had been is drawn whole
        self._has_checks = has_checks and task.is_seamless and not task.is_constrained
        self._begun: list[Chain] = []

    @property
    def chains(self) -> list[Chain]:
        """See the class."""
        return [chain for chain in self._begun if chain.path is not None]

    @property
    def num_attempts(self) -> int:
        """Of all chains together."""
        return sum(chain.attempts for chain in self._begun)

    def nodes(self, scored: Mapping[int, ScoredCandidate], winners: Collection[int]) -> tuple[TraceNode, ...]:
        """The tree, by id, with the answers that were read; `winners` were chosen."""
        every = sorted((node for chain in self._begun for node in chain.nodes), key=lambda node: node.id)
        told = (replace(node, answer=scored[node.id].answer) if node.id in scored else node for node in every)
        return tuple(replace(node, state=NodeState.CHOSEN) if node.id in winners else node for node in told)

    async def write(self, num: int, attempts: int) -> None:
        """Until there are `num` chains each of which is true or has had so many attempts."""
        waiting = [chain for chain in self._begun if not chain.is_true]
        encode = self._task.encode
        new = [Chain(number, encode, has_checks=self._has_checks) for number in range(len(self._begun), num)]
        self._begun += new
        async with asyncio.TaskGroup() as group:
            for chain in waiting:
                group.create_task(self._go_on(chain, attempts))
            alone = new[:1] if self._first is not None and new and new[0].number == 0 else []
            for some, temperature in ((alone, self._first), (new[len(alone) :], None)):
                if some:
                    group.create_task(self._begin(some, attempts, group, temperature))

    async def _begin(self, chains: Sequence[Chain], attempts: int, group: asyncio.TaskGroup, temperature: float | None) -> None:
        """The first attempts, all together; each chain goes on as soon as its own has ended."""
        async with self._draw(chains[0], 0, len(chains), temperature, is_whole=attempts == 1) as samples:
            async for candidate in samples:
                chain = chains[candidate.index - chains[0].number]
                await self._take(chain, candidate)
                if not chain.is_true:
                    group.create_task(self._go_on(chain, attempts))

    async def _go_on(self, chain: Chain, attempts: int) -> None:
        while chain.attempts < attempts and not chain.is_true and self._has_checks and self._model.stopped is None:
            temperature = self._first if chain.number == 0 and chain.given else None
            is_whole = chain.attempts == attempts - 1  # there must be an answer
            async with self._draw(chain, chain.attempts, 1, temperature, is_whole=is_whole) as samples:
                drawn = [candidate async for candidate in samples]
            if not drawn:
                return
            await self._take(chain, drawn[0])

    def _draw(
        self, chain: Chain, attempt: int, num: int, temperature: float | None, *, is_whole: bool
    ) -> AbstractAsyncContextManager[AsyncIterator[Candidate]]:
        draw = Draw(
            (*self._task.prefix, *chain.said.token_ids),
            num,
            first_index=attempt * self._most + chain.number,
            num_logprobs=self._task.num_logprobs or 0,
            # those that are begun together share what is asked: nothing was said yet, and by the time one of them has, others write on
            step=Step() if is_whole or not self._has_checks else Step(until=chain.is_astray if attempt else chain.is_false),
            temperature=temperature,
        )
        return self._model.sample(draw)

    async def _take(self, chain: Chain, candidate: Candidate) -> None:
        await asyncio.to_thread(chain.look, candidate)
        node = chain.take(candidate)
        what = f"Answer {chain.number + 1}" + (f", attempt {chain.attempts}" if chain.attempts > 1 else "")
        self._emit(Progress(f"{what}: {opening_words(node.text)}", (node,)))
