#!/usr/bin/env python3
"""Write the chart's templates from deploy/kubernetes/overlays/fleet. With `--check`, write nothing and fail where a file would change.

The chart's own part is which fields are values and which objects are optional: the tables below, and `values.yaml`. Needs kubectl.
"""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import yaml

HERE = Path(__file__).parent
CHART = HERE / "ponder"
MANIFESTS = HERE.parent / "kubernetes" / "overlays" / "fleet"
HEAD = "{{- /* Written by deploy/helm/generate.py from deploy/kubernetes: change it there. */ -}}\n"

POD = "spec.template.spec"
CONTAINER = f"{POD}.containers.0"
CLAIM = "spec.volumeClaimTemplates.0.spec"


def server(name: str, kind: str, own: str) -> dict[tuple[str, str, str], str]:
    """Return the values of what runs ponder. `name` is that of its values, `own` that of its objects."""
    return {
        (
            kind,
            own,
            "spec.template.metadata.annotations.checksum/settings",
        ): "{{ toYaml .Values.settings | sha256sum | quote }}",
        (kind, own, f"{POD}.imagePullSecrets"): "with .Values.image.pullSecrets",
        (kind, own, f"{POD}.nodeSelector"): f"with .Values.{name}.nodeSelector",
        (kind, own, f"{POD}.tolerations"): f"with .Values.{name}.tolerations",
        (kind, own, f"{CONTAINER}.image"): f"{{{{ .Values.image.repository }}}}:{{{{ .Values.{name}.tag }}}}",
        (kind, own, f"{CONTAINER}.imagePullPolicy"): "{{ .Values.image.pullPolicy }}",
        (kind, own, f"{CONTAINER}.resources"): f"yaml .Values.{name}.resources",
        ("HorizontalPodAutoscaler", own, "spec.minReplicas"): f"{{{{ .Values.{name}.replicas.min }}}}",
        ("HorizontalPodAutoscaler", own, "spec.maxReplicas"): f"{{{{ .Values.{name}.replicas.max }}}}",
    }


def storage(kind: str, own: str, path: str, name: str) -> dict[tuple[str, str, str], str]:
    """Return the values of a volume."""
    return {
        (kind, own, f"{path}.resources.requests.storage"): f"{{{{ .Values.{name}.storage.size }}}}",
        (kind, own, f"{path}.storageClassName"): f"with .Values.{name}.storage.className",
    }


FIELDS: dict[tuple[str, str, str], str] = {
    ("ConfigMap", "ponder", "data"): "yaml .Values.settings",
    **server("frontEnd", "Deployment", "ponder"),
    **server("replica", "StatefulSet", "ponder-replica"),
    **storage("StatefulSet", "ponder-replica", CLAIM, "replica"),
    **storage("PersistentVolumeClaim", "ponder-adapters", "spec", "adapters"),
    **storage("StatefulSet", "ponder-valkey", CLAIM, "valkey"),
    ("StatefulSet", "ponder-valkey", f"{CONTAINER}.image"): "{{ .Values.valkey.image }}",
    ("StatefulSet", "ponder-valkey", f"{CONTAINER}.resources"): "yaml .Values.valkey.resources",
}
"""Which fields are values, by kind, name and path. `yaml` begins one of several lines, `with` one that is left out where it is empty."""

CONDITIONS = {
    ("Service", "ponder-valkey"): ".Values.valkey.enabled",
    ("StatefulSet", "ponder-valkey"): ".Values.valkey.enabled",
    ("NetworkPolicy", "ponder-valkey"): "and .Values.networkPolicies.enabled .Values.valkey.enabled",
    ("NetworkPolicy", "ponder-to-valkey"): "and .Values.networkPolicies.enabled .Values.valkey.enabled",
    ("NetworkPolicy", "ponder-outside"): "and .Values.networkPolicies.enabled .Values.networkPolicies.outside",
    ("NetworkPolicy", ""): ".Values.networkPolicies.enabled",
    ("ServiceMonitor", ""): ".Values.monitoring.enabled",
}
"""Which objects are there only under a condition, by kind and name; an empty name stands for all others of the kind."""

FREE = {"settings": {"additionalProperties": {"type": "string"}}, "resources": {}, "nodeSelector": {}}
"""Values whose fields are not the chart's, and what is known of them."""

VALUE = re.compile(r"^( *)(\S+): '?@(?:(yaml|with) )?(.*?)@'?$", re.MULTILINE)


def template(document: dict[str, Any], config: str) -> str:
    """Return the template of a document. `config` is the name of the config map, which ends in a hash of what is in it."""
    kind, name = document["kind"], document["metadata"]["name"].replace(config, "ponder")
    made = with_names(document, {config: "ponder", "ponder-keys": "@{{ .Values.keys }}@"})
    made["metadata"]["namespace"] = "@{{ .Release.Namespace }}@"
    for (of_kind, of_name, path), value in FIELDS.items():
        if (of_kind, of_name) == (kind, name):
            put(made, path.split("."), f"@{value}@")
    text = VALUE.sub(expression, yaml.safe_dump(made, sort_keys=False, width=1000))
    condition = CONDITIONS.get((kind, name)) or CONDITIONS.get((kind, ""))
    return HEAD + (f"{{{{- if {condition} }}}}\n{text}{{{{- end }}}}\n" if condition else text)


def with_names(value: Any, names: dict[str, str]) -> Any:
    """Return a copy with other texts in the place of these."""
    if isinstance(value, dict):
        return {key: with_names(one, names) for key, one in value.items()}
    if isinstance(value, list):
        return [with_names(one, names) for one in value]
    return names.get(value, value) if isinstance(value, str) else value


def put(value: Any, path: list[str], new: str) -> None:
    """Set a field. Numbers in the path are places in lists."""
    for step in path[:-1]:
        value = value[int(step)] if isinstance(value, list) else value.setdefault(step, {})
    value[path[-1]] = new


def expression(line: re.Match[str]) -> str:
    """Return the lines of a template for a line with a value."""
    indent, key, form, value = line.groups()
    if form is None:
        return f"{indent}{key}: {value}"
    if form == "yaml":
        return f"{indent}{key}: {{{{- toYaml {value} | nindent {len(indent) + 2} }}}}"
    own = f"{indent}{key}: {{{{- toYaml . | nindent {len(indent) + 2} }}}}"
    return f"{indent}{{{{- with {value} }}}}\n{own}\n{indent}{{{{- end }}}}"


def schema(value: Any, name: str = "") -> dict[str, Any]:
    """Return a JSON schema: the types of the chart's own values, and no other names."""
    if not isinstance(value, dict):
        kinds = {bool: "boolean", int: "integer", str: "string", list: "array"}
        return {"type": kinds[type(value)]}
    if name in FREE:
        return {"type": "object"} | FREE[name]
    return {
        "type": "object",
        "additionalProperties": False,
        "properties": {key: schema(one, key) for key, one in value.items()},
    }


def files() -> dict[Path, str]:
    """Return what is written, by path."""
    kubectl = shutil.which("kubectl", path=os.pathsep.join((str(HERE.parents[1] / ".tools" / "bin"), os.environ["PATH"])))
    command = [kubectl or "kubectl", "kustomize", MANIFESTS]
    made = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)  # noqa: S603 - nothing of it comes from elsewhere
    documents = [one for one in yaml.safe_load_all(made.stdout) if one["kind"] != "Namespace"]  # the namespace is Helm's
    (config,) = [one["metadata"]["name"] for one in documents if one["kind"] == "ConfigMap"]
    there = {(one["kind"], one["metadata"]["name"].replace(config, "ponder")): one for one in documents}
    if missing := {(kind, name) for kind, name, _ in FIELDS} - set(there):
        sys.exit(f"not among the manifests: {missing}")
    values = yaml.safe_load((CHART / "values.yaml").read_text(encoding="utf-8"))
    templates = {
        CHART / "templates" / f"{name}-{kind.lower()}.yaml": template(one, config) for (kind, name), one in there.items()
    }
    return templates | {CHART / "values.schema.json": json.dumps(schema(values), indent=2) + "\n"}


def main() -> None:
    """Write the templates and the schema of the values, or exit with the names of stale ones."""
    written = files()
    stale = [path for path, text in written.items() if not path.is_file() or path.read_text(encoding="utf-8") != text]
    others = [path for path in (CHART / "templates").glob("*.yaml") if path not in written]
    if "--check" in sys.argv[1:]:
        names = ", ".join(sorted(path.name for path in (*stale, *others)))
        sys.exit(f"run deploy/helm/generate.py, these are not what it writes: {names}" if names else 0)
    for path in others:
        path.unlink()
    for path in stale:
        path.parent.mkdir(exist_ok=True)
        path.write_text(written[path], encoding="utf-8")


if __name__ == "__main__":
    main()
