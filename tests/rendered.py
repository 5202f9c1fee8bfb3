"""The documents that `kubectl kustomize` makes of the folders in deploy/kubernetes."""

from collections.abc import Callable
from pathlib import Path

Documents = list[dict]
Render = Callable[[str | Path], Documents]

FOLDERS = ("base", "overlays/gpu", "overlays/fleet", "overlays/fleet-gpu")
FLEETS = FOLDERS[2:]
OPERATOR = "monitoring.coreos.com/v1"


def of_kind(documents: Documents, kind: str) -> dict:
    """Return the only document of a kind."""
    (found,) = [document for document in documents if document["kind"] == kind]
    return found
