"""Schemas of kinds that are not Kubernetes' own: as much of them as deploy/ uses, and no field besides."""

from typing import Any

Schema = dict[str, Any]

TEXT: Schema = {"type": "string"}
TEXTS: Schema = {"type": "object", "additionalProperties": TEXT}
COUNT: Schema = {"type": "integer", "minimum": 1}


def strict_object(required: str = "", **properties: Schema) -> Schema:
    """Return the schema of an object with these fields and no others."""
    return {"type": "object", "required": required.split(), "additionalProperties": False, "properties": properties}


def strict_document(api: str, kind: str, spec: Schema) -> Schema:
    """Return the schema of a whole document."""
    metadata = strict_object("name namespace", name=TEXT, namespace=TEXT, labels=TEXTS)
    return strict_object(
        "apiVersion kind metadata spec", apiVersion={"const": api}, kind={"const": kind}, metadata=metadata, spec=spec
    )
