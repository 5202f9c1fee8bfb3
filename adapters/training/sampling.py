"""Collects answers of a model to many prompts, and keeps each as it comes, so that a stopped command loses nothing.

Samples are JSON lines, one for each prompt: `{"key": …, "answers": [{"text", "is_whole"}…], "tokens": …, "flops": …,
"settings": …}`.
"""

import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from adapters.concurrency import for_each
from adapters.disk import append_line, whole_lines
from adapters.training.errors import DataRefused, TeacherGone, Unanswerable
from adapters.training.ports import Answer, P, Sampler, Samples


@dataclass(frozen=True, slots=True)
class SamplingSettings:
    """How a model is sampled.

    Attributes:
        temperature: 0 is greedy.
        max_tokens: the most that an answer may have.
        seed: of the first prompt; the others' follow from it.
        concurrency: prompts that are asked at the same time.

    """

    temperature: float
    max_tokens: int
    seed: int
    concurrency: int


class SampleFile:
    """Samples in a file of JSON lines.

    A last line that was cut off by a kill is removed, so that the next one stands on a line of its own.

    Args:
        path: of the file, which need not exist.
        settings: hash of everything but the prompt that decides what is answered. Samples of other settings stay in the
            file, unused.

    Attributes:
        path: as given.
        samples: those of these settings, by the key of their prompt.

    Raises:
        DataRefused: the file holds something else.

    """

    def __init__(self, path: Path, settings: str) -> None:
        self.path = path
        self._settings = settings
        self.samples = {samples.key: samples for samples in _read(path) if samples.settings == settings}

    def add(self, samples: Samples) -> None:
        """Append samples to the file at once."""
        samples = self.samples[samples.key] = replace(samples, settings=self._settings)
        append_line(self.path, json.dumps(asdict(samples)))


async def collect(
    prompts: Sequence[P],
    sampler: Sampler[P],
    file: SampleFile,
    *,
    n: int,
    seed: int,
    at_once: int,
    report: Callable[[int, int], None] = lambda _done, _all: None,
) -> dict[str, Samples]:
    """Return `n` samples of each prompt, by key.

    Those in the file are taken from it, the others are drawn and added to it.

    A prompt's seed depends only on its place among all prompts, so that a run that was stopped draws what it would have
    drawn. A prompt that the model refuses has no answers.

    Raises what the sampler raises, but for single refusals; `TeacherGone` when the first `at_once` prompts are all
    refused.
    """
    wanted = {prompt.key: prompt for prompt in prompts}
    missing = [(place, prompt) for place, prompt in enumerate(wanted.values()) if prompt.key not in file.samples]
    refused: set[str] = set()

    async def draw(job: tuple[int, P]) -> None:
        place, prompt = job
        try:
            file.add(await sampler(prompt, n, seed + place * n))
        except Unanswerable as error:
            refused.add(prompt.key)
            if not file.samples and len(refused) >= min(at_once, len(missing)):
                raise TeacherGone(str(error)) from error
        report(sum(key in file.samples or key in refused for key in wanted), len(wanted))

    await for_each(missing, draw, at_once)
    # Refusals are kept only now: a server that is set up wrongly refuses everything, and must be asked again at the
    # next start.
    for key in refused:
        file.add(Samples(key, (), 0, 0))
    return {key: file.samples[key] for key in wanted}


def _read(path: Path) -> Iterable[Samples]:
    for number, line in enumerate(whole_lines(path), 1):
        try:
            fields = json.loads(line)
            answers = tuple(Answer(**answer) for answer in fields.pop("answers"))
            if "how" in fields:  # the name of `settings` in ponder 0.1
                fields["settings"] = fields.pop("how")
            yield Samples(answers=answers, **fields)
        except (ValueError, TypeError, KeyError) as error:
            raise DataRefused(f"{path}, line {number}: these are not samples of ours ({error})") from error
