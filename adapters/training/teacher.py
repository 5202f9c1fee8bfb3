"""Models that answer for training: one behind a URL, or one that is served here for as long as it is needed."""

import asyncio
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

import httpx

from adapters.digest import digest
from adapters.training.data import DatasetQuestion
from adapters.training.http_sampler import HttpSampler, only_model
from adapters.training.labelling import PartialAnswer
from adapters.training.ports import ModelAddress, P, Provenance, Sampler, Samples, SamplingEnvironment
from adapters.training.sampling import SampleFile, SamplingSettings, collect
from adapters.weights import digest_of


@dataclass(frozen=True, slots=True)
class Teacher:
    """The model that answers: a local one, with or without an adapter, or one behind a URL.

    Attributes:
        model: folder or id; behind a URL its name there, "" when it is the only one.
        adapter: folder, for a local model.
        url: None for a local model.
        key: for the API at the URL.

    """

    model: str
    adapter: Path | None = None
    url: str | None = None
    key: str | None = field(default=None, repr=False)

    @property
    def identity(self) -> list[Any]:
        """JSON values that tell the model apart from others, wherever its folder lies."""
        folder = Path(self.model)
        if self.url is not None or not folder.is_dir():
            return [self.url, self.model]
        return [self.description, *sorted((file.name, file.stat().st_size) for file in folder.iterdir())]

    @property
    def description(self) -> str:
        """For the run card: names and hashes, but no paths and no URLs."""
        if self.url is not None:
            return self.model or "a server"
        if self.adapter is None:
            return Path(self.model).name
        return f"{Path(self.model).name} with the adapter {digest_of(self.adapter)[:12]}"


class AnswerCollector:
    """Collects answers of a teacher, and keeps them beside the result of a run.

    A context manager, which ends the teacher's server.

    A local teacher is started at the first prompt that has no answers in the files yet.

    Args:
        teacher: the model that answers.
        settings: how it is sampled.
        out: folder of the run's result; `OUT.samples.jsonl` and `OUT.rollouts.jsonl` beside it keep the answers.
        environment: what the program that starts the run provides.

    """

    def __init__(self, teacher: Teacher, settings: SamplingSettings, out: Path, environment: SamplingEnvironment) -> None:
        self._teacher = teacher
        self._settings = settings
        self._out = out
        self._environment = environment
        self._servers = ExitStack()
        self._address: ModelAddress | None = None
        self._collected: list[Samples] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._servers.close()

    def answers(self, questions: Sequence[DatasetQuestion], n: int) -> dict[str, Samples]:
        """Return `n` answers to each question, by key. Raises what `collect` raises."""
        return self._collect(questions, "samples", n, lambda sampler: sampler.sample)

    def rollouts(self, prefixes: Sequence[PartialAnswer], n: int, tokenizer: Any) -> dict[str, Samples]:
        """Return `n` continuations of each partial answer, by key. Raises what `collect` raises."""

        def continue_with(sampler: HttpSampler) -> Sampler[PartialAnswer]:
            return lambda prefix, n, seed: sampler.continued(prefix.prompt(tokenizer), prefix.key, n, seed)

        return self._collect(prefixes, "rollouts", n, continue_with)

    def _collect(
        self, prompts: Sequence[P], kind: str, n: int, sampler_of: Callable[[HttpSampler], Sampler[P]]
    ) -> dict[str, Samples]:
        settings = self._settings
        decides = [self._teacher.identity, settings.temperature, settings.max_tokens, settings.seed, n]
        file = SampleFile(beside(self._out, f"{kind}.jsonl"), digest(decides))
        if all(prompt.key in file.samples for prompt in prompts):
            found = {prompt.key: file.samples[prompt.key] for prompt in prompts}
        else:
            found = asyncio.run(self._ask(self._start(), prompts, file, sampler_of, kind=kind, n=n))
        if refused := sum(not samples.answers for samples in found.values()):
            self._environment.say(f"{refused} of {len(found)} questions are refused and left out")
        self._collected += found.values()
        return found

    def _start(self) -> ModelAddress:
        """Return where the teacher answers.

        A local one is started once, outside the event loop, since that blocks for minutes.
        """
        if self._address is None:
            teacher = self._teacher
            if teacher.url is not None:
                self._address = ModelAddress(teacher.url, teacher.model or None, teacher.key)
            else:
                self._environment.say(f"starting {teacher.model}")
                server = self._environment.serve(teacher.model, teacher.adapter, beside(self._out, "server.log"))
                self._address = self._servers.enter_context(server)
        return self._address

    async def _ask(
        self,
        address: ModelAddress,
        prompts: Sequence[P],
        file: SampleFile,
        sampler_of: Callable[[HttpSampler], Sampler[P]],
        *,
        kind: str,
        n: int,
    ) -> dict[str, Samples]:
        settings = self._settings
        headers = {"Authorization": f"Bearer {address.key}"} if address.key else {}
        async with httpx.AsyncClient(base_url=address.url, headers=headers) as client:
            model = address.model or await only_model(client)
            sampler = HttpSampler(client, model, temperature=settings.temperature, max_tokens=settings.max_tokens)
            with self._environment.count(kind) as report:
                return await collect(
                    prompts, sampler_of(sampler), file, n=n, seed=settings.seed, at_once=settings.concurrency, report=report
                )

    @property
    def cost(self) -> str:
        """The cost of all collected answers, in words. Those that an earlier start has drawn are included."""
        flops = [samples.flops for samples in self._collected if samples.flops is not None]
        in_flops = f", {sum(flops) / 1e12:,.1f} TFLOP" if len(flops) == len(self._collected) else ""
        return f"{sum(samples.tokens for samples in self._collected):,} tokens{in_flops}"

    def provenance(self, answers_each: int) -> Provenance:
        """Return, for the run card, who answered in which way, and what it cost."""
        settings = {
            "answers of": self._teacher.description,
            "answers each": answers_each,
            "temperature": self._settings.temperature,
            "most tokens": self._settings.max_tokens,
        }
        return Provenance(settings, {"cost of the answers": self.cost})


def beside(out: Path, name: str) -> Path:
    """Return the path of a file that belongs to a run but not into its folder."""
    return out.with_name(f"{out.name}.{name}")
