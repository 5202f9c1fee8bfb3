"""The documents that `kubectl kustomize` makes of the folders in deploy/kubernetes, and what they mean."""

import subprocess
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import yaml

from tests.tools import ROOT, tool

Documents = list[dict[str, Any]]
Render = Callable[[str | Path], Documents]

FOLDERS = ("base", "overlays/gpu", "overlays/fleet", "overlays/fleet-gpu")
FLEETS = FOLDERS[2:]
OPERATOR = "monitoring.coreos.com/v1"


def _has_new_kustomize(kubectl: str) -> bool:
    """Whether kubectl has a kustomize with components, as it has and says since version 1.24."""
    said = subprocess.run([kubectl, "version", "--client", "--output=yaml"], capture_output=True, text=True)
    return "kustomizeVersion" in said.stdout


@cache
def kubectl() -> str:
    """Return the path of a kubectl that will do."""
    return tool("kubectl", is_good=_has_new_kustomize)


def rendered(folder: str | Path) -> Documents:
    """Return the documents that `kubectl kustomize` makes of a folder in deploy/kubernetes."""
    run = subprocess.run([kubectl(), "kustomize", ROOT / "deploy/kubernetes" / folder], capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
    assert not run.stderr, "deprecated fields are warned of there"
    return list(yaml.safe_load_all(run.stdout))


def of_kind(documents: Documents, kind: str, name: str = "") -> dict[str, Any]:
    """Return the only document of a kind, or of a kind and a name."""
    (found,) = [one for one in documents if one["kind"] == kind and name in ("", one["metadata"]["name"])]
    return found


def workloads(documents: Documents) -> dict[str, dict[str, Any]]:
    """Return what starts pods, by name."""
    return {one["metadata"]["name"]: one for one in documents if one["kind"] in {"Deployment", "StatefulSet"}}


def pod_of(workload: dict[str, Any]) -> dict[str, Any]:
    """Return the pods' part of what starts them."""
    return workload["spec"]["template"]["spec"]


def container_of(workload: dict[str, Any]) -> dict[str, Any]:
    """Return the only container of what a workload starts."""
    (only,) = pod_of(workload)["containers"]
    return only


def matches(selector: dict[str, Any], labels: dict[str, str]) -> bool:
    """Whether a selector takes these labels. It may have `matchLabels`, and expressions with `In`; an empty one takes all."""
    assert set(selector) <= {"matchLabels", "matchExpressions"}
    listed = {one["key"]: one["values"] for one in selector.get("matchExpressions", ()) if one["operator"] == "In"}
    assert len(listed) == len(selector.get("matchExpressions", ()))
    return selector.get("matchLabels", {}).items() <= labels.items() and all(
        labels.get(key) in values for key, values in listed.items()
    )


def may_connect(documents: Documents, source: dict[str, str], target: dict[str, str], port: int, names: dict[str, int]) -> bool:
    """Whether the network policies let a pod with the labels `source` reach this port of a pod with the labels `target`.

    Args:
        documents: with the policies.
        source: labels of a pod, in the same namespace.
        target: labels of a pod.
        port: number of the target's port.
        names: the numbers of the target's named ports.

    """
    policies = [one["spec"] for one in documents if one["kind"] == "NetworkPolicy"]

    def allows(direction: str, side: str, own: dict[str, str], other: dict[str, str]) -> bool:
        selecting = [one for one in policies if direction in one["policyTypes"] and matches(one["podSelector"], own)]
        rules = [rule for one in selecting for rule in one.get(direction.lower(), ())]
        return not selecting or any(
            (side not in rule or any(matches(peer["podSelector"], other) for peer in rule[side] if "podSelector" in peer))
            and ("ports" not in rule or port in {names.get(one["port"], one["port"]) for one in rule["ports"]})
            for rule in rules
        )

    return allows("Egress", "to", source, target) and allows("Ingress", "from", target, source)
