"""The queries of the dashboards and the rules, read from deploy/."""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import yaml

from tests.tools import ROOT

DASHBOARDS = sorted((ROOT / "deploy" / "grafana" / "dashboards").glob("*.json"))
RULES = [ROOT / "deploy" / "prometheus" / name for name in ("rules.yml", "alerts.yml")]
_NO_METRIC = re.compile(
    r"""\{[^}]*\} | \[[^]]*\] | "[^"]*" | \b(?:by|without|on|ignoring|group_left|group_right)\s*\([^)]*\)
    | \b(?:by|without|on|ignoring|group_left|group_right|and|or|unless)\b | \w+\s*\(""",
    re.VERBOSE,
)


class Query(NamedTuple):
    """One query of one panel."""

    board: str
    row: str
    panel: str
    expr: str


def panels(board: dict) -> Iterator[dict]:
    """Yield all panels of a dashboard that are no rows, also those in collapsed rows."""
    for panel in board["panels"]:
        yield from panel["panels"] if panel["type"] == "row" else (panel,)


def queries() -> list[Query]:
    """Return the queries of all panels."""
    found = []
    for path in DASHBOARDS:
        board, row = json.loads(path.read_text()), ""
        for panel in board["panels"]:
            row = panel["title"] if panel["type"] == "row" else row
            for one in panel["panels"] if panel["type"] == "row" else (panel,):
                found += [Query(path.stem, row, one["title"], target["expr"]) for target in one["targets"]]
    return found


def chosen(expr: str, *, window: str = "1m") -> str:
    """Return a query as Grafana sends it when all strategies and adapters are chosen. `window` is the rate interval."""
    for variable, value in {"strategy": ".*", "adapter": ".*", "__rate_interval": window, "__range": window}.items():
        expr = expr.replace(f"${variable}", value)
    assert "$" not in expr
    return expr


def metrics(expr: str) -> set[str]:
    """Return the names of the metrics that a query reads."""
    return {
        name
        for name in re.findall(r"[a-zA-Z_:][\w:]*", _NO_METRIC.sub(" ", expr))
        if ":" in name or "_" in name or name == "up"
    }


def rules() -> list[dict]:
    """Return all recording rules and alerts."""
    return [rule for path in RULES for group in yaml.safe_load(Path(path).read_text())["groups"] for rule in group["rules"]]


def is_of_replicas(expr: str) -> bool:
    """Whether a query has data only where a server has replicas, or where one of them has failed."""
    return any(word in expr for word in ("ponder_replica_", "by (replica)", "recompute"))
