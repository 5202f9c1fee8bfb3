"""What training is given by the program that starts it, and the values that cross that border.

`adapters` may not import the service, so everything that needs the service comes in through these ports: the arithmetic
of FLOPs and a place to report to (`TrainingEnvironment`), a server for a model that answers (`SamplingEnvironment`),
and someone who knows which answers are right (`Grader`). `app/lab/training` implements them. Nothing here imports
torch, so that programs that only grade or sample start quickly.
"""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol, TypeVar

from adapters.training.data import DatasetQuestion


@dataclass(frozen=True, slots=True)
class Answer:
    """One sampled answer. `is_whole` is False where the answer was cut off at the most tokens that it may have."""

    text: str
    is_whole: bool


@dataclass(frozen=True, slots=True)
class Samples:
    """The answers to one prompt, with what they cost.

    Attributes:
        key: of the prompt.
        tokens: generated tokens, of all answers together.
        flops: of all answers together; None where the server does not report them.
        settings: hash of everything but the prompt that decides what is answered; empty until the samples are in a
            file.

    """

    key: str
    answers: tuple[Answer, ...]
    tokens: int
    flops: int | None = None
    settings: str = ""


class Prompt(Protocol):
    """Anything that a model can be asked. `key` identifies it in a file of samples."""

    @property
    def key(self) -> str: ...


P = TypeVar("P", bound=Prompt)

Sampler = Callable[[P, int, int], Awaitable[Samples]]
"""(prompt, n, seed) -> n answers of a model, drawn together.

Raises `Unanswerable` when the model refuses this prompt, and `TeacherGone` when it has stopped answering for good.
"""


class Grader(Protocol):
    """Knows which answers are right."""

    async def grade(self, question: DatasetQuestion, answers: Sequence[Answer]) -> list[bool]:
        """Return whether each answer is right.

        Without a reference answer or a rule, the answer of the majority is right.
        """
        ...


@dataclass(frozen=True, slots=True)
class ModelAddress:
    """Where a model answers over OpenAI's API. `model` is None when it is the only one there."""

    url: str
    model: str | None
    key: str | None = field(default=None, repr=False)


class ServeModel(Protocol):
    """Starts a server for a model."""

    def __call__(self, model: str, adapter: Path | None, log: Path) -> AbstractContextManager[ModelAddress]:
        """Serve `model` (a folder or an id), with the adapter in `adapter` if there is one, until the context ends.

        Raises `MachineRefused` when the server does not start; what it prints goes to `log`.
        """
        ...


CountProgress = Callable[[str], AbstractContextManager[Callable[[int, int], None]]]
"""Shows a progress bar with this title while the context lasts; the context's value takes (done, total)."""


@dataclass(frozen=True)
class SamplingEnvironment:
    """What the collection of answers needs of the program that starts it.

    Attributes:
        serve: starts a server for a local model.
        say: shows a line to the user.
        count: shows the progress of work that is counted.

    """

    serve: ServeModel
    say: Callable[[str], None]
    count: CountProgress


@dataclass(frozen=True, slots=True)
class BatchPass:
    """The sizes of one pass over a batch, from which its FLOPs follow.

    Attributes:
        tokens: positions that are computed, padding among them.
        attention_pairs: pairs of a token and one that it attends to: the causal triangle of each example.
        logit_rows: positions whose logits are computed.
        recomputed_logit_rows: those of them whose logits are computed once more in the backward pass.
        has_backward: whether it is forward and backward, or forward alone.

    """

    tokens: int
    attention_pairs: int
    logit_rows: int
    recomputed_logit_rows: int
    has_backward: bool


FlopsCounter = Callable[[BatchPass], int]
"""Returns the FLOPs of one pass."""

FlopsCounterFactory = Callable[[Mapping[str, Any], int | None, bool], FlopsCounter]
"""(model config, LoRA parameters or None when all weights are trained, whether activations are recomputed) -> its
`FlopsCounter`."""


@dataclass
class RunCost:
    """What a run has cost, summed over all of its starts. `peak_bytes` is the largest of them."""

    tokens: int = 0
    flops: int = 0
    seconds: float = 0.0
    peak_bytes: int = 0


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a run is.

    Attributes:
        loss: mean of the last steps; None before it is first logged.
        validation_loss: of the last evaluation; None before the first.
        cost: up to now.

    """

    step: int
    num_steps: int
    loss: float | None
    validation_loss: float | None
    cost: RunCost


@dataclass(frozen=True)
class TrainingEnvironment:
    """What a run needs of the program that starts it.

    Attributes:
        flops_counter: arithmetic of FLOPs for a model.
        report: called after each step.
        say: shows a line to the user.
        machine: description of the processor, for the run card.
        callbacks: more of transformers' `TrainerCallback`s, for benchmarks that look closer.

    """

    flops_counter: FlopsCounterFactory
    report: Callable[[Progress], None]
    say: Callable[[str], None]
    machine: str = ""
    callbacks: tuple[Any, ...] = ()


@dataclass(frozen=True)
class Provenance:
    """Where training data come from, for the run card.

    Attributes:
        settings: what decides the data, such as the teacher and its temperature. They are part of the run's
            fingerprint.
        cost: what making the data cost. It is not part of the fingerprint.

    """

    settings: Mapping[str, Any] = field(default_factory=dict)
    cost: Mapping[str, Any] = field(default_factory=dict)


USER_DATA = Provenance()
"""Of data that the user brought: there is nothing to tell."""
