"""Who may answer a request that leaves it open: the models and adapters of the server, each with its difficulty and its cost."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from adapters.errors import AdapterError
from adapters.names import AdapterRef
from adapters.version import AdapterVersion
from app.request import InferenceRequest
from app.routing.cascade import Attempt, CascadePolicy, Choice, Member
from app.routing.difficulty import Difficulty
from app.routing.general import MEASURED_KINDS
from app.routing.learning.words import Words
from app.routing.policy import Query
from app.serving.planning import kind_of
from app.serving.service import Service

CHARS_PER_TOKEN = 4
"""Roughly, of English text: a member's cost is estimated before its tokenizer has read the prompt."""

TOKEN_FIELDS = ("logit_bias", "stop_token_ids", "allowed_token_ids")
"""Fields of a body that name tokens by their ids, which are other tokens to another model."""


@dataclass(frozen=True, slots=True)
class Seat:
    """A model or adapter that may answer.

    Attributes:
        service: of its pool.
        adapter: None for the base model.
        token_flops: the FLOPs that it takes for a token.
        member: what is estimated of it; None where no answer can be right or wrong.

    """

    service: Service
    adapter: AdapterRef | None
    token_flops: float
    member: Member | None

    @property
    def name(self) -> str:
        """Under which it is served."""
        return str(self.adapter or self.service.names.base)

    def asked(self, request: InferenceRequest, choice: Choice) -> InferenceRequest:
        """Return the request to this model, which was chosen."""
        return replace(request, adapter=self.adapter, flop_price=choice.price, is_followed=not choice.is_last)


class Members:
    """Those that may answer one request, and the choice among them.

    These are the base models and the adapters that somebody has measured: each with a policy for this kind of answer, and those that the
    cascade was fitted to. Nothing tells what another adapter was taught. Models that generate nothing for the moment are left out, unless
    that is so of all.

    Args:
        services: of all base models. Of the first one are the tokens that a request names by their ids.
        policy: chooses where an answer can be right or wrong. Elsewhere the largest base model answers.
        request: to be answered.

    Attributes:
        seats: by name.
        notes: which models are down, in words for the caller.

    """

    def __init__(self, services: Sequence[Service], policy: CascadePolicy, request: InferenceRequest) -> None:
        self._policy = policy
        self._request = request
        kind = kind_of(request)
        self._is_compared = kind in MEASURED_KINDS and not request.has_tools and not request.modalities
        self._query = Query(kind, request.effort, request.question)
        services = services[:1] if _names_tokens(request) else services
        up = [one for one in services if (one.engine.failure or one.engine.outage) is None]
        self.notes = tuple(f"{one.names.base} is down, and was not asked" for one in services if up and one not in up)
        self.seats: dict[str, Seat] = {}
        for service in up or services:
            for seat in self._seats(service):
                self.seats.setdefault(seat.name, seat)

    @property
    def is_one_answer(self) -> bool:
        """Whether another model may answer after the first one: there is one prompt, and one answer to it is wanted."""
        one = self._request
        is_single = len(one.bodies) == 1 and one.num_choices == 1
        return self._is_compared and is_single and one.generates and one.num_prompt_logprobs is None

    def choose(self, attempts: Sequence[Attempt]) -> Choice:
        """Return who answers next; nobody where the answer that there is shall be given, or where nobody is left."""
        tried = {one.member for one in attempts}
        left = [name for name in self.seats if name not in tried]
        if not left:
            return Choice(None, "there is no other model to ask")
        if not self._is_compared:
            return Choice(self._largest(), "no estimate tells whose answer is best: the largest model", is_last=True)
        members = [seat.member for seat in self.seats.values() if seat.member is not None]
        choice = self._policy.choose(self._request.question, members, attempts, self._request.effort)
        if choice.member not in left:
            return Choice(None, choice.why) if attempts else Choice(left[0], "it is the first one that can answer")
        return replace(choice, is_last=choice.is_last or len(left) == 1 or not self.is_one_answer)

    def _largest(self) -> str:
        """Return the base model that takes most FLOPs for a token, of those that can read the request; the first one of several."""

        def suitability(seat: Seat) -> tuple[bool, bool, float]:
            reads = not self._request.modalities or seat.service.engine.card.max_images > 0
            return reads, seat.adapter is None, seat.token_flops

        return max(self.seats.values(), key=suitability).name

    def drop(self, seat: Seat, error: Exception) -> None:
        """Leave out who could not answer: an adapter alone where it is the adapter's fault, else its whole pool."""
        is_whole = not isinstance(error, AdapterError)
        self.seats = {
            name: one for name, one in self.seats.items() if one is not seat and not (is_whole and one.service is seat.service)
        }

    def _seats(self, service: Service) -> Iterator[Seat]:
        planner = service.planning.planner
        query = replace(self._query, token_flops=planner.token_flops(None))
        # The general estimator knows a model by its size alone, so it says the same of a model and of its adapters.
        general = planner.general.difficulty(query) if self._is_compared else None
        if general is None:  # the largest base model answers
            yield Seat(service, None, query.token_flops, None)
            return
        words = Words.of(self._request.question)
        for adapter in (None, *self._measured_adapters(service)):
            own = replace(query, lessons=planner.lessons(adapter, self._request.owner, words))
            calibrated = planner.calibrated_difficulty(adapter, own)
            if adapter is None or calibrated is not None or self._policy.knows(str(adapter)):
                seat = Seat(service, adapter, planner.token_flops(adapter), None)
                difficulty = calibrated or own.corrected(general, planner.general.digest)
                yield replace(seat, member=self._member(seat, difficulty))

    def _measured_adapters(self, service: Service) -> Iterator[AdapterRef]:
        """Yield the adapters that may be estimated better than their base model. A server may have thousands of others."""
        policies = service.planning.planner.policies
        for one in adapters_of(service):
            if policies.find(one.name) is not None or self._policy.knows(one.name):
                yield AdapterRef(one.name)

    def _member(self, seat: Seat, difficulty: Difficulty) -> Member:
        service = seat.service
        limits = [body.get("max_completion_tokens") or body.get("max_tokens") for body in self._request.bodies]
        limit = min(one or service.engine.card.max_model_len for one in limits)
        answer = service.observers.throughput.answer_tokens(limit)
        prompt = self._request.num_chars // CHARS_PER_TOKEN + 1
        flops = sum(service.planning.planner.architecture_of(seat.adapter).branch_cost(prompt, 0, answer))
        return Member(seat.name, difficulty, flops, seat.token_flops, service.admission.load)


def _names_tokens(request: InferenceRequest) -> bool:
    return any(
        not isinstance(body.get("prompt", ""), str) or any(body.get(name) for name in TOKEN_FIELDS) for body in request.bodies
    )


def adapters_of(service: Service) -> Iterator[AdapterVersion]:
    """Yield the versions that answer under the names of the adapters of a service, but for those that were trained to verify."""
    for one in service.adapters.adapters() if service.adapters else ():
        if (current := one.current) and current.version not in one.unusable and current.verifier_prompt is None:
            yield current
