"""A fixed table of named things."""

from collections.abc import Iterable, Iterator
from typing import Generic, TypeVar

T = TypeVar("T")


class Registry(Generic[T]):
    """Looks things up by their `name`. A name given twice is refused when the table is made."""

    def __init__(self, kind: str, things: Iterable[T]) -> None:
        self._kind = kind
        self._things: dict[str, T] = {}
        for thing in things:
            name: str = thing.name  # type: ignore[attr-defined] # a class or an instance with a `name`
            if name in self._things:
                message = f"there are two {kind} entries named {name}"
                raise ValueError(message)
            self._things[name] = thing

    def names(self) -> tuple[str, ...]:
        """All names, in the order of the table."""
        return tuple(self._things)

    def __getitem__(self, name: str) -> T:
        """The thing of that name; `KeyError` says which names there are."""
        if name not in self._things:
            message = f"no {self._kind} is named {name}; there are {', '.join(self._things)}"
            raise KeyError(message)
        return self._things[name]

    def __iter__(self) -> Iterator[T]:
        return iter(self._things.values())
