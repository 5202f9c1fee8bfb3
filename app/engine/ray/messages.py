"""What crosses to a replica on Ray and back: our own values as MessagePack. Ray carries bytes, so nothing of a request is unpickled."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, Literal

import msgspec

from adapters.errors import AdapterFailed
from adapters.ports import EngineAdapter
from app.engine.replica import (
    ReplicaCard,
    ReplicaFailed,
    ReplicaLoad,
    ReplicaUnfit,
    RequestFailed,
    RequestRefused,
    TokenPart,
    TokenRequest,
    UnknownAdapter,
)

Kind = Literal["adapter", "failed", "lost", "refused", "unfit", "unknown_adapter"]

ERRORS: Mapping[Kind, type[Exception]] = MappingProxyType(
    {
        "adapter": AdapterFailed,
        "failed": RequestFailed,
        "refused": RequestRefused,
        "unfit": ReplicaUnfit,
        "unknown_adapter": UnknownAdapter,
        "lost": ReplicaFailed,  # the last, since it is the base of others
    }
)
"""What may go wrong at a replica, by its name in a message."""


class Failure(msgspec.Struct, frozen=True, array_like=True):
    """An error of the port `Replica` in a message."""

    kind: Kind
    text: str

    @classmethod
    def of(cls, error: Exception) -> "Failure":
        """Return an error as it is sent. One that is not of the port means that the replica failed."""
        kind = next((kind for kind, known in ERRORS.items() if isinstance(error, known)), None)
        return cls(kind, str(error)) if kind else cls("lost", f"{type(error).__name__} at its engine")

    def error(self) -> Exception:
        """Return the error that was sent."""
        return ERRORS[self.kind](self.text)


class Item(msgspec.Struct, frozen=True, array_like=True):
    """What came of one branch, by its id in the session: a part, or how it failed."""

    id: str
    part: TokenPart | None
    failure: Failure | None = None


_TAKES: Mapping[str, Any] = MappingProxyType(
    {
        "describe": tuple[()],
        "load": tuple[()],
        "metrics": tuple[()],
        "tokenize": tuple[str],
        "load_adapter": tuple[EngineAdapter],
        "unload_adapter": tuple[EngineAdapter],
        "submit": tuple[str, list[TokenRequest]],
        "pull": tuple[str],
        "halt": tuple[str, list[str]],
        "drop": tuple[str, list[str]],
    }
)
"""The methods of a replica with what they take: those of the port, and those of a session, which take its id first."""

_GIVES: Mapping[str, Any] = MappingProxyType(
    {"describe": ReplicaCard, "load": ReplicaLoad, "metrics": bytes, "tokenize": tuple[int, ...], "pull": list[Item]}
)
"""What they return; the others return nothing."""


class Codec:
    """Writes and reads the messages of one kind of call."""

    def __init__(self, method: str) -> None:
        self._call = msgspec.msgpack.Decoder(_TAKES[method])
        gives = _GIVES[method] | None if method in _GIVES else None
        self._answer = msgspec.msgpack.Decoder(tuple[Failure | None, gives])  # type: ignore[valid-type]

    def read_call(self, data: bytes) -> tuple[Any, ...]:
        """Return the arguments of a call. Raises `msgspec.DecodeError`."""
        arguments: tuple[Any, ...] = self._call.decode(data)
        return arguments

    def read_answer(self, data: bytes) -> Any:
        """Return what an answer holds, or raise the error in it. Raises `ReplicaFailed` where it cannot be read."""
        try:
            failure, result = self._answer.decode(data)
        except msgspec.DecodeError as error:
            raise ReplicaFailed(f"an answer that cannot be read: {error}"[:200]) from None
        if failure is not None:
            raise failure.error()
        return result


CODECS: Mapping[str, Codec] = MappingProxyType({method: Codec(method) for method in _TAKES})


def call(*arguments: Any) -> bytes:
    """Write the arguments of a call."""
    return msgspec.msgpack.encode(arguments)


def answer(result: Any = None, failure: Failure | None = None) -> bytes:
    """Write an answer."""
    return msgspec.msgpack.encode((failure, result))
