"""The answers of a pool as ballots: what the agreement model reads of them (`app.routing.agreement`)."""

from collections.abc import Sequence
from dataclasses import dataclass

from app.routing.agreement import AgreementModel, Ballot, ballot_of
from app.routing.pool_file import Continuation, Generation, PoolEntry
from app.routing.pooled_answers import candidate_of
from strategies.answers.reading import read_answer
from strategies.core.ports import AnswerEquivalence
from strategies.core.values import AnswerKind, Candidate, TokenLogprob


@dataclass(frozen=True, slots=True)
class GenerationBallot:
    """A generation of a pool with its ballot.

    Attributes:
        generation: an answer, or an attempt that continues one. The ballot is that of the whole answer which ends with it.

    """

    generation: Generation
    ballot: Ballot


async def ballots_of(entry: PoolEntry, equivalence: AnswerEquivalence) -> list[GenerationBallot]:
    """Return a ballot for each generation of an entry: of each answer, its attempts in their order."""
    kind, spellings, found = AnswerKind(entry.kind), list[str](), list[GenerationBallot]()
    for place, answer in enumerate(entry.answers):
        whole = candidate_of(answer)
        for generation in (answer, *answer.continuations):
            if isinstance(generation, Continuation):
                whole = _continued(whole, generation)
            text = _read(entry, whole)
            value = read_answer(kind, text) if whole.is_complete and kind is not AnswerKind.OPEN else None
            spelled = None if value is None else await _spelled(kind, value, spellings, equivalence)
            found.append(GenerationBallot(generation, ballot_of(whole, spelled, is_first=place == 0)))
    return found


def labels_of(ballots: Sequence[GenerationBallot], model: AgreementModel) -> list[float]:
    """Return the probability that it is right of each generation of an entry. An answer that cannot be read is wrong."""
    probabilities = model.probabilities([one.ballot for one in ballots])
    return [0.0 if one.ballot.answer is None else probabilities[one.ballot.answer] for one in ballots]


def _continued(before: Candidate, continuation: Continuation) -> Candidate:
    """Return the whole answer: what was kept of it before, what the calculator inserted, and the continuation."""
    num_kept = continuation.kept_tokens - len(continuation.inserted_ids)
    kept = before.logprobs[:num_kept]
    # the text of an inserted passage stands at its first token
    texts = [continuation.inserted, *[""] * len(continuation.inserted_ids)][: len(continuation.inserted_ids)]
    inserted = tuple(
        TokenLogprob(text, token_id, 0.0, is_inserted=True)
        for text, token_id in zip(texts, continuation.inserted_ids, strict=True)
    )
    new = candidate_of(continuation)
    return Candidate(
        0,
        "".join(one.token for one in kept) + continuation.inserted + continuation.text,
        (*before.token_ids[:num_kept], *continuation.inserted_ids, *continuation.token_ids),
        continuation.finish_reason,
        continuation.stop_reason,
        (*kept, *inserted, *new.logprobs),
    )


def _read(entry: PoolEntry, whole: Candidate) -> str:
    return whole.text if entry.thinking is None else entry.thinking.thinking.split(whole.text)[1] or ""


async def _spelled(kind: AnswerKind, value: str, spellings: list[str], equivalence: AnswerEquivalence) -> str:
    """Return the spelling of the first answer that is the same; add the value to the spellings where it is new."""
    if value not in spellings:
        for spelling in spellings:
            if await equivalence.same(kind, value, spelling):
                return spelling
        spellings.append(value)
    return value
