"""The cascade that holds now: the fitted one, as far as its members are served, else the general one."""

from collections.abc import Iterator, Mapping, Sequence

from app.routing.cascade import CascadePolicy, GeneralCascade
from app.routing.cascade_file import CascadeFile
from app.routing.fitted_cascade import FittedCascade
from app.serving.members import adapters_of
from app.serving.service import Service

Served = tuple[tuple[Service, str, str | None], ...]
"""Who is served: the service, the name, and the hash of the adapter, None for a base model."""


class CurrentCascade:
    """Returns the cascade that holds now. It is made anew where the file or the served adapters have changed.

    Args:
        services: of all base models. The cascade is among the policies of the first one.

    """

    def __init__(self, services: Sequence[Service]) -> None:
        self._services = services
        self._general = GeneralCascade(services[0].planning.planner.general.file.prices)
        self._made_of: tuple[CascadeFile, Served] | None = None
        self._fitted: CascadePolicy = self._general

    def __call__(self) -> CascadePolicy:
        """Return the cascade."""
        file = self._services[0].planning.planner.policies.cascade
        if file is None:
            return self._general
        served = tuple(self._served())
        if self._made_of is None or self._made_of[0] is not file or self._made_of[1] != served:
            self._made_of = file, served
            self._fitted = FittedCascade(file, places(file, served), self._general)
        return self._fitted

    def places(self, file: CascadeFile) -> Mapping[str, int]:
        """Return the places in a file of those that are served, by name."""
        return places(file, tuple(self._served()))

    def _served(self) -> Iterator[tuple[Service, str, str | None]]:
        for service in self._services:
            yield service, service.names.base, None
            for version in adapters_of(service):
                yield service, version.name, version.version


def places(file: CascadeFile, served: Served) -> Mapping[str, int]:
    """Return the place in a file of each that is served and in it, by name. The earlier of two with the same name counts."""
    found: dict[str, int] = {}
    names: set[str] = set()
    for service, name, adapter in served:
        if name in names:
            continue
        names.add(name)
        ref = None if adapter is None else service.names.find_adapter(name)
        for place, member in enumerate(file.members):
            if service.planning.planner.mismatch(ref, member) is None:
                found[name] = place
                break
    return found
