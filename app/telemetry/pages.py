"""Joins the metrics of several engines to one page, on which each family may stand only once."""

from collections.abc import Sequence


def joined(pages: Sequence[bytes]) -> bytes:
    """Return one page of pages in Prometheus' text format or in OpenMetrics. Of samples with the same labels, the first one stays."""
    pages = [page for page in pages if page]
    if len(pages) < 2:
        return b"".join(pages)
    heads: dict[bytes, dict[bytes, bytes]] = {}
    samples: dict[bytes, dict[bytes, bytes]] = {}
    for page in pages:
        family = b""
        for line in page.splitlines():
            if line.startswith(b"# "):
                _, kind, family, *_ = line.split(b" ", 3)
                heads.setdefault(family, {}).setdefault(kind, line)
            elif line:
                samples.setdefault(family, {}).setdefault(line.rpartition(b" ")[0], line)
    lines = [line for family in heads for line in (*heads[family].values(), *samples.get(family, {}).values())]
    return b"".join(line + b"\n" for line in lines)
