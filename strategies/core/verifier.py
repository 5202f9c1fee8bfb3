"""What a verifier is: a class with a name, typed parameters and a method that scores candidates.

A new one is a file and a line in the registry. A verifier declares everything that others need to know of it. The field that a request
chooses it by, the forecast, the documentation and the API's schema are built from these declarations.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar

from pydantic import GetCoreSchemaHandler
from pydantic_core import CoreSchema, core_schema

from strategies.core.parameters import Params
from strategies.core.ports import AnswerEquivalence, Model
from strategies.core.registry import Registry
from strategies.core.stopping_rule import StoppingRule
from strategies.core.thinking import ExitThreshold
from strategies.core.values import Candidate, Task


@dataclass(frozen=True, slots=True)
class StrategyContext:
    """What one server gives to every strategy and verifier.

    Attributes:
        equivalence: tells whether two answers are the same.
        vocab_size: of the served model, for self-certainty.
        reward_models: verifiers outside the engine, by the names that the operator gave them.
        rule: the plan's stopping rule, for a strategy that draws in waves; None where the plan has none.
        exits: the thresholds of early exits that were measured for the model or adapter that answers, cheapest first.
        watched: returns what is used in place of a verifier, such as one that traces its calls.

    """

    equivalence: AnswerEquivalence
    vocab_size: int
    reward_models: Mapping[str, "Verifier"] = field(default_factory=dict)
    rule: StoppingRule | None = None
    exits: Sequence[ExitThreshold] = ()
    watched: Callable[["Verifier"], "Verifier"] = lambda verifier: verifier


class Verifier(ABC):
    """Scores candidates, all of them at once. One is built for each run, so that requests share no state.

    Attributes:
        name: by which requests choose it.
        summary: one sentence for the documentation.
        Params: its parameters. If it has any, one of them has the verifier's name: `{"regex": "yes|no"}` chooses `regex`.
        is_exact: it never errs. A complete answer with score 1 is right, and the search ends.
        scores_steps: it can score answers that are not finished.
        ranks_steps: these scores differ, so that the worst of such answers can be told; False where all of them have the same score.
        num_logprobs: what it needs of `Draw.num_logprobs`; None if it needs no log-probabilities.

    """

    name: str
    summary: str = ""
    Params: ClassVar[type[Params]] = Params
    is_exact: bool = False
    scores_steps: bool = True
    ranks_steps: bool = True
    num_logprobs: int | None = None

    def __init__(self, params: Any, context: StrategyContext) -> None:
        self.params = params
        self.context = context

    @classmethod
    def build(cls, params: Any, context: StrategyContext) -> "Verifier":
        """Return the verifier for one run. Raises `UnsupportedTask` for parameters that this server cannot honour."""
        return cls(params, context)

    @classmethod  # noqa: B027 - most have nothing to refuse
    def check(cls, task: Task) -> None:
        """Raise `UnsupportedTask` if answers to this task cannot be scored; called before anything is generated."""

    @classmethod
    def num_calls(cls, num_candidates: int) -> int:  # noqa: ARG003 - most ask no model
        """How many calls of the model it takes to score that many candidates; 0 for a verifier that asks no model."""
        return 0

    def state(self, task: Task, candidate: Candidate) -> str:  # noqa: ARG002 - for verifiers that read the task
        """Return what the candidate has come to. Of two partial answers in the same state a search continues only one.

        By default its text.
        """
        return candidate.text.strip()

    @abstractmethod
    async def score(self, task: Task, candidates: Sequence[Candidate], model: Model) -> list[float]:
        """Return one score in [0, 1] for each candidate, in the given order; higher is better. Raises `VerifierFailed`."""


@dataclass(frozen=True, slots=True)
class VerifierChoice:
    """A verifier with its parameters, as a request chose it."""

    verifier: type[Verifier]
    params: Params

    @property
    def name(self) -> str:
        """The verifier's name."""
        return self.verifier.name

    @property
    def is_exact(self) -> bool:
        """Whether the verifier never errs."""
        return self.verifier.is_exact

    @property
    def adapters(self) -> tuple[str, ...]:
        """Adapters that the verifier needs."""
        return self.params.adapters

    @property
    def models(self) -> tuple[str, ...]:
        """Other models that the verifier needs."""
        return self.params.models

    def build(self, context: StrategyContext) -> Verifier:
        """Return the verifier for one run. Raises `UnsupportedTask` for parameters that this server cannot honour."""
        return context.watched(self.verifier.build(self.params, context))

    def to_json(self) -> str | dict[str, Any]:
        """Return the choice as a request spells it: the name, or the parameters as an object."""
        return self.params.model_dump(mode="json") if type(self.params).model_fields else self.name


@dataclass(frozen=True, slots=True)
class VerifierField:
    """Marks a parameter as the choice of a verifier: `Annotated[VerifierChoice, VerifierField(registry)]`.

    Attributes:
        registry: the verifiers that may be chosen.
        steps_only: only those that can score answers that are not finished.

    """

    registry: Registry[type[Verifier]]
    steps_only: bool = False

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        """Validate a name or an object of parameters; the JSON schema lists all of them."""
        verifiers = [one for one in self.registry if one.scores_steps or not self.steps_only]
        by_params = {one.Params: one for one in verifiers if one.Params.model_fields}
        names = [one.name for one in verifiers if is_chosen_by_name(one)]
        forms: list[CoreSchema | tuple[CoreSchema, str]] = [
            core_schema.literal_schema(names),
            *(handler.generate_schema(params) for params in by_params),
        ]

        def chosen(value: Any, validate: core_schema.ValidatorFunctionWrapHandler) -> VerifierChoice:
            if isinstance(value, VerifierChoice):  # made in Python
                return value
            form = validate(value)
            if isinstance(form, str):
                return VerifierChoice(self.registry[form], self.registry[form].Params())
            return VerifierChoice(by_params[type(form)], form)

        return core_schema.no_info_wrap_validator_function(
            chosen,
            core_schema.union_schema(forms),
            serialization=core_schema.plain_serializer_function_ser_schema(_to_json),
        )


def is_chosen_by_name(verifier: type[Verifier]) -> bool:
    """Whether the name alone chooses it: none of its parameters must be given."""
    return not any(field.is_required() for field in verifier.Params.model_fields.values())


def _to_json(value: VerifierChoice | str) -> str | dict[str, Any]:
    return value if isinstance(value, str) else value.to_json()  # a default is written as its name
