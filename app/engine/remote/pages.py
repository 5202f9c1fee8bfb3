"""The metrics of the replicas as one page: each sample has the name of its replica as a label."""

import asyncio
import re
from collections.abc import Iterable, Sequence

from app.engine.replica import Replica, ReplicaFailed

PAGE_S = 2.0
"""Seconds that a replica may take for its page. Prometheus does not wait long for this server."""

_LABEL = r'[A-Za-z_]\w*="(?:[^"\\]|\\.)*"'
_VALUE = r"[+-]?(?:\d+(?:\.\d*)?(?:[eE][+-]?\d+)?|NaN|Inf)"
_SAMPLE = re.compile(rf"([A-Za-z_:][\w:]*)(?:\{{((?:{_LABEL}(?:,{_LABEL})*,?)?)\}})? ({_VALUE}(?: -?\d+)?)$", re.ASCII)
_OF_FAMILY = re.compile(r"# (?:HELP (?=\S+ )|TYPE (?=\S+ (?:counter|gauge|histogram|summary|untyped)$))(\S+) ")


async def pages_of(replicas: Sequence[Replica], *, is_openmetrics: bool) -> bytes:
    """Return the pages of these replicas together. One that does not answer is left out."""
    pages = await asyncio.gather(*map(_page, replicas))
    return await asyncio.to_thread(
        merged, {one.name: page for one, page in zip(replicas, pages, strict=True)}, is_openmetrics=is_openmetrics
    )


async def _page(replica: Replica) -> str:
    try:
        async with asyncio.timeout(PAGE_S):
            return (await replica.metrics()).decode(errors="replace")
    except (TimeoutError, ReplicaFailed):
        return ""


def merged(pages: dict[str, str], *, is_openmetrics: bool) -> bytes:
    """Return one page in Prometheus' text format, of pages by the name of their replica. Only vLLM's own families are in it.

    In OpenMetrics, the family of a counter has a name without `_total`.
    """
    heads: dict[str, list[str]] = {}
    samples: dict[str, list[str]] = {}
    for name, page in pages.items():
        for family, head, lines in _families(page.splitlines()):
            heads.setdefault(family, head)
            samples.setdefault(family, []).extend(filter(None, (_labelled(line, name) for line in lines)))
    lines = []
    for family, head in heads.items():
        if is_openmetrics and any(line.endswith(" counter") for line in head):
            lines += [line.replace(family, family.removesuffix("_total")) for line in head]
        else:
            lines += head
        lines += samples[family]
    return "".join(f"{line}\n" for line in lines).encode()


def _families(lines: Iterable[str]) -> Iterable[tuple[str, list[str], list[str]]]:
    """Yield the families of a page: name, head, samples."""
    family, head, samples = "", [], []  # type: str, list[str], list[str]
    for line in lines:
        if (found := _OF_FAMILY.match(line)) is None:
            samples.append(line)
            continue
        if found[1] != family:
            if family.startswith("vllm:"):
                yield family, head, samples
            family, head, samples = found[1], [], []
        head.append(line)
    if family.startswith("vllm:"):
        yield family, head, samples


def _labelled(line: str, replica: str) -> str:
    """Return a sample with the label of its replica. Return nothing for a line that is no sample, which would make the page unreadable."""
    if (found := _SAMPLE.match(line)) is None or "replica=" in (found[2] or ""):
        return ""
    labels = f"{found[2].rstrip(',')}," if found[2] else ""
    return f'{found[1]}{{{labels}replica="{replica}"}} {found[3]}'
