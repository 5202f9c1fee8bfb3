"""Every public name that is not self-explanatory is in the glossary, or in a generated table of the documentation."""

import re
from collections.abc import Iterator

import pytest

from adapters.leases import State
from app.api.ponder_options import PonderOptions
from app.request import Effort
from app.telemetry.adapter_metrics import STATES
from strategies.core.results import NodeState
from strategies.core.values import AnswerKind, StopReason
from strategies.registry import STRATEGIES, VERIFIERS
from tests.tools import ROOT

GLOSSARY = ROOT / "docs" / "understand" / "glossary.md"
VALUES = (AnswerKind, StopReason, NodeState, Effort, State)
_GENERATED = re.compile(r"<!-- ([\w/ .-]+) -->\n(.*?)<!-- /\1 -->", re.DOTALL)


@pytest.fixture(scope="module")
def explained() -> set[str]:
    """The names in code that the glossary or a generated table has."""
    texts = [GLOSSARY.read_text(encoding="utf-8")]
    for path in (ROOT / "docs").rglob("*.md"):
        texts += [part for _, part in _GENERATED.findall(path.read_text(encoding="utf-8"))]
    return {name for text in texts for span in re.findall(r"`([^`\n]+)`", text) for name in re.findall(r"\w+", span)}


def keys(value: object) -> Iterator[str]:
    """The keys of an object of JSON and of all objects in it, but not the names of adapters and parameters."""
    if isinstance(value, dict):
        for key, inner in value.items():
            yield key
            if key not in ("parameters", "verifier_adapters", "parts"):
                yield from keys(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from keys(inner)


def test_words_of_requests_are_explained(explained) -> None:
    """The `ponder` object, strategies and their parameters, verifiers, and every value that has a name."""
    names = set(PonderOptions.model_fields) | {value.value for values in VALUES for value in values} | set(STATES)
    names |= {"auto", *(strategy.name for strategy in STRATEGIES), *(verifier.name for verifier in VERIFIERS)}
    names |= {name for strategy in STRATEGIES for name in strategy.Params.model_fields}
    assert not names - explained


@pytest.mark.anyio
async def test_fields_of_replies_are_explained(explained, serve) -> None:
    """Those of the `ponder` object, of traces with their nodes, of their list, and of a dry run."""
    async with serve() as served:
        reply = (await served.chat(ponder={"strategy": "beam_search", "n": 2, "expand": 2, "depth": 2})).json()["ponder"]
        trace = (await served.client.get(f"/v1/traces/{reply['trace_id']}")).json()
        listed = (await served.client.get("/v1/traces")).json()["data"]
        dry = (await served.chat(ponder={"dry_run": True})).json()["ponder"]
    names = {*keys(reply), *keys(trace), *keys(listed), *keys(dry), "before", "after", trace["status"]}
    assert not names - explained


def test_words_of_metrics_are_explained(explained) -> None:
    """Every family on the page of a server, with its labels; the page's test knows that the table has all families."""
    page = (ROOT / "docs" / "operate" / "metrics.md").read_text(encoding="utf-8")
    families = re.findall(r"^\| `(ponder_\w+)` \| \w+ \| ([\w, ]*) \|", page, re.MULTILINE)
    assert len(families) > 30
    labels = {label for _, labels in families for label in labels.split(", ") if label}
    prose = GLOSSARY.read_text(encoding="utf-8") + page
    assert not {label for label in labels if label not in prose}


def test_words_are_in_alphabetical_order() -> None:
    """So that a reader finds a word, and nobody adds it twice."""
    words = GLOSSARY.read_text(encoding="utf-8").split("## Words")[1].split("\n## ")[0]
    names = [name.casefold() for name in re.findall(r"^\| ([^|]+?) \|", words, re.MULTILINE)[1:]]
    assert names == sorted(names)
