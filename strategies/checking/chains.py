"""Answers that are checked line by line while they are written, and continued behind the corrected result or the last true line.

A branch ends at its first line with a false equation. Where the result can be computed (`strategies.checking.calculator`), the answer is
continued behind the right result, at the same temperature as before. Else, or where that line fails again, it is continued by sampling
from before the line. A line that keeps failing may be wrong because of an earlier one, so after every second failure the answer goes back
one line more. A false line thus costs a line, where a vote would lose a whole answer.

Only equations are checked (`strategies.verifiers.equations`). A line without one is never false.
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

NUM_FIRST_TOKENS = 32
"""The tokens of an answer that are its first ones."""

LONGEST_LINE = 250
"""Characters of a line that is still checked. The check runs between two tokens, so it must be quick."""


class Chain:
    """One answer in progress.

    Attributes:
        number: its position among the answers that are written together, from 0.
        latest: the latest attempt, joined to what was kept before it; None before the first attempt.
        kept: the part of it that is true, which the next attempt continues.
        inserted: the end of `kept` that the calculator wrote; empty if it wrote none.
        is_true: no line of the latest attempt is false.
        nodes: one for each attempt.
        first_logprobs: log-probabilities of the first tokens of its first attempt.

    """

    def __init__(self, number: int, encode: Callable[[str], tuple[int, ...]], *, has_checks: bool = True) -> None:
        self.number = number
        self._encode = encode
        self._has_checks = has_checks
        self.latest: Candidate | None = None
        self.kept = Candidate(0, "", (), "step")
        self.is_true = False
        self.inserted = ""
        self.nodes: list[TraceNode] = []
        self.first_logprobs: tuple[float, ...] = ()
        self._last_whole: Candidate | None = None
        self._is_false: dict[str, bool] = {}
        self._corrections: dict[str, str | None] = {}
        self._num_failures: dict[int, int] = {}
        """By the character at which a line begins."""
        self._starts: list[tuple[int, int]] = []
        """The character at which the kept part of each attempt begins, and the attempt's index."""

    @property
    def num_attempts(self) -> int:
        """How often the answer was begun or continued."""
        return len(self.nodes)

    @property
    def is_sound(self) -> bool:
        """Whether the answer is whole and has no false line."""
        return self.is_true and self.latest is not None and self.latest.is_complete

    @property
    def answer(self) -> Candidate:
        """The latest attempt, or the last whole one if the latest was cut. There must have been an attempt."""
        if self.latest is None:
            raise RuntimeError("this chain has no attempt yet")
        return self.latest if self.latest.is_complete or self._last_whole is None else self._last_whole

    def ends_false(self, text: str) -> bool:
        """Return whether the last complete line of a text is false."""
        line = text[: text.rfind("\n") + 1].rstrip("\n").rpartition("\n")[2]
        if line not in self._is_false:
            self._is_false[line] = self._has_checks and len(line) <= LONGEST_LINE and is_refuted(line)
        return self._is_false[line]

    def continues_false(self, text: str) -> bool:
        """Return the same for a text that continues `kept`, which may end in the middle of a line."""
        return self.ends_false(self.kept.text.rpartition("\n")[2] + text)

    def add_attempt(self, new: Candidate) -> TraceNode:
        """Join an attempt to what was kept, keep what is true of both, and return the attempt's node."""
        if self.latest is None:
            self.first_logprobs = tuple(entry.logprob for entry in new.logprobs[:NUM_FIRST_TOKENS])
        latest = replace(
            new,
            text=self.kept.text + new.text,
            token_ids=self.kept.token_ids + new.token_ids,
            logprobs=self.kept.logprobs + new.logprobs,
            num_thinking=self.kept.num_thinking + new.num_thinking,
            num_inserted=self.kept.num_inserted + new.num_inserted,
            is_thinking_cut=self.kept.is_thinking_cut or new.is_thinking_cut,
        )
        end = self._first_false_line(latest)
        self.is_true = end is None
        node = TraceNode(
            id=new.index,
            parent=self._starts[-1][1] if self._starts else None,
            text=self.inserted + new.text,
            tokens=len(new.token_ids),
            finish_reason=new.finish_reason,
            state=NodeState.FINAL if end is None else NodeState.PRUNED,
            score=float(end is None),
            cost=new.cost,
        )
        self._starts.append((len(self.kept.text) - len(self.inserted), new.index))
        self.latest, self._last_whole = latest, latest if latest.is_complete else self._last_whole
        self.nodes.append(node)
        if end is not None:
            self._go_back(latest, end)
        return node

    def check(self, new: Candidate) -> None:
        """Check the lines that `add_attempt` will ask for and remember the results. Runs in a thread: many lines take a while."""
        for line in (self.kept.text + new.text).split("\n"):
            if self.ends_false(line + "\n"):
                if line not in self._corrections:
                    self._corrections[line] = corrected(line)
                return

    def _first_false_line(self, latest: Candidate) -> int | None:
        """Return where the first false line begins, None if there is none. A line that was cut is not checked."""
        *lines, last = latest.text.split("\n")
        begin = 0
        for line in [*lines, last] if latest.is_complete else lines:
            if self.ends_false(line + "\n"):
                return begin
            begin += len(line) + 1
        return None

    def _go_back(self, latest: Candidate, begin: int) -> None:
        """Keep what comes before the false line and the line's correction, or what comes before the line, or even less."""
        line = latest.text[begin:].partition("\n")[0]
        correction = self._corrections.get(line) or ""
        sign = begin + correction.rfind("=")
        # a sign within `kept` means that a corrected result is what is false: correcting it again would not end
        if correction and sign >= len(self.kept.text):
            self._keep(latest, sign + 1, latest.text[:begin] + correction)
            return
        failures = self._num_failures[begin] = self._num_failures.get(begin, 0) + 1
        for _ in range((failures - 1) // 2):
            begin = latest.text.rfind("\n", 0, max(begin - 1, 0)) + 1
        self._keep(latest, begin, "")

    def _keep(self, latest: Candidate, end: int, target: str) -> None:
        """Keep the whole tokens within the first `end` characters, and insert what is then missing of the `target` text."""
        lengths = accumulate(len(entry.token) for entry in latest.logprobs)
        num = sum(length <= end for length in lengths)
        while num and not latest.logprobs[num - 1].token:  # the first bytes of a character that comes later
            num -= 1
        text = "".join(entry.token for entry in latest.logprobs[:num])
        if not latest.text.startswith(text):  # tokens that are not text of their own, as parts of a character: begin anew
            num, text = 0, ""
        self._starts = [(place, index) for place, index in self._starts if place < len(text)]
        self.inserted = target[len(text) :]
        ids = self._encode(self.inserted) if self.inserted else ()
        texts = [""] * (len(ids) - 1) + [self.inserted] * bool(ids)  # the text of several tokens stands at the last one
        entries = [TokenLogprob(text, one, 0.0, is_inserted=True) for text, one in zip(texts, ids, strict=True)]
        self.kept = replace(
            latest,
            text=text + self.inserted,
            token_ids=(*latest.token_ids[:num], *ids),
            num_thinking=num + len(ids) if latest.is_thinking or num < latest.num_thinking else latest.num_thinking,
            num_inserted=sum(entry.is_inserted for entry in latest.logprobs[:num]) + len(ids),
            logprobs=(*latest.logprobs[:num], *entries),
        )


class Writer:
    """Writes several chains at once.

    Args:
        task: to be answered.
        model: draws the attempts.
        emit: receives the progress.
        max_chains: the most chains that there may ever be. Candidates are numbered by it, so that neither an index nor a seed depends on
            which chain is ready first.
        first_temperature: of the first attempt of the first chain; None for the request's.
        has_checks: whether lines are checked at all.

    """

    def __init__(
        self,
        task: Task,
        model: Model,
        emit: Emit,
        *,
        max_chains: int,
        first_temperature: float | None,
        has_checks: bool = True,
    ) -> None:
        self._task = task
        self._model = model
        self._emit = emit
        self._max_chains = max_chains
        self._first_temperature = first_temperature
        # an answer that cannot be continued from its middle is drawn whole, and never checked
        self._has_checks = has_checks and task.is_continuable and not task.is_constrained
        self._begun: list[Chain] = []

    @property
    def chains(self) -> list[Chain]:
        """The chains that have an attempt, by number."""
        return [chain for chain in self._begun if chain.latest is not None]

    @property
    def num_attempts(self) -> int:
        """The number of attempts of all chains together."""
        return sum(chain.num_attempts for chain in self._begun)

    def nodes(self, scored: Mapping[int, ScoredCandidate], winners: Collection[int]) -> tuple[TraceNode, ...]:
        """Return the attempts as a tree, by id, with the answers that were read; `winners` are the ids of the chosen ones."""
        nodes = sorted((node for chain in self._begun for node in chain.nodes), key=lambda node: node.id)
        with_answers = (replace(node, answer=scored[node.id].answer) if node.id in scored else node for node in nodes)
        return tuple(replace(node, state=NodeState.CHOSEN) if node.id in winners else node for node in with_answers)

    async def write(self, num_chains: int, max_attempts: int) -> None:
        """Write until there are so many chains, each of which is true or has had so many attempts."""
        unfinished = [chain for chain in self._begun if not chain.is_true]
        numbers = range(len(self._begun), num_chains)
        new = [Chain(number, self._task.encode, has_checks=self._has_checks) for number in numbers]
        self._begun += new
        async with asyncio.TaskGroup() as group:
            for chain in unfinished:
                group.create_task(self._continue(chain, max_attempts))
            # a draw has one temperature, so the first chain is drawn apart from the others where it has its own
            has_own = self._first_temperature is not None and bool(new) and new[0].number == 0
            alone, others = (new[:1], new[1:]) if has_own else ([], new)
            for chains, temperature in ((alone, self._first_temperature), (others, None)):
                if chains:
                    group.create_task(self._begin(chains, max_attempts, group, temperature))

    async def _begin(
        self, chains: Sequence[Chain], max_attempts: int, group: asyncio.TaskGroup, temperature: float | None
    ) -> None:
        """Draw the first attempts together; each chain is continued as soon as its own attempt has ended."""
        async with self._draw(chains[0], 0, len(chains), temperature, is_whole=max_attempts == 1) as samples:
            async for candidate in samples:
                chain = chains[candidate.index - chains[0].number]
                await self._add(chain, candidate)
                if not chain.is_true:
                    group.create_task(self._continue(chain, max_attempts))

    async def _continue(self, chain: Chain, max_attempts: int) -> None:
        while chain.num_attempts < max_attempts and not chain.is_true and self._has_checks and self._model.stopped is None:
            # behind a corrected result the first chain goes on as it was; a line that failed must not be repeated greedily
            temperature = self._first_temperature if chain.number == 0 and chain.inserted else None
            is_whole = chain.num_attempts == max_attempts - 1  # the last attempt runs to its end: there must be an answer
            async with self._draw(chain, chain.num_attempts, 1, temperature, is_whole=is_whole) as samples:
                drawn = [candidate async for candidate in samples]
            if not drawn:
                return
            await self._add(chain, drawn[0])

    def _draw(
        self, chain: Chain, attempt: int, num: int, temperature: float | None, *, is_whole: bool
    ) -> AbstractAsyncContextManager[AsyncIterator[Candidate]]:
        # Chains that are begun together share the `until` of the first of them, so it must not read the first one's `kept`, which changes
        # while the others are still being written. `ends_false` reads the text alone.
        until = chain.continues_false if attempt else chain.ends_false
        draw = Draw(
            (*self._task.prefix, *chain.kept.token_ids),
            num,
            first_index=attempt * self._max_chains + chain.number,
            num_logprobs=self._task.num_logprobs or 0,  # to know which tokens lie before a false line
            step=Step() if is_whole or not self._has_checks else Step(until=until),
            temperature=temperature,
            ends_loops=self._task.ends_loops,
        )
        return self._model.sample(draw)

    async def _add(self, chain: Chain, candidate: Candidate) -> None:
        await asyncio.to_thread(chain.check, candidate)
        node = chain.add_attempt(candidate)
        attempt = f", attempt {chain.num_attempts}" if chain.num_attempts > 1 else ""
        self._emit(Progress(f"Answer {chain.number + 1}{attempt}: {opening_words(node.text)}", (node,)))
