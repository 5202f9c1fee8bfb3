#!/usr/bin/env python3
"""Write the dashboards, `dashboards/*.json`. With `--check`, write nothing and fail where a file differs from what would be written."""

import json
import sys
from pathlib import Path

from boards import adapters, compute, replicas, routing, service
from grafana_foundation_sdk.cog.encoder import JSONEncoder

FOLDER = Path(__file__).parent / "dashboards"
BOARDS = (service.BOARD, compute.BOARD, routing.BOARD, adapters.BOARD, replicas.BOARD)


def main() -> None:
    """Write the dashboards, or exit with the names of stale ones."""
    written = {
        FOLDER / f"{board.uid.removeprefix('ponder-')}.json": json.dumps(
            board.build(), cls=JSONEncoder, indent=2, sort_keys=True, ensure_ascii=False
        )
        + "\n"
        for board in BOARDS
    }
    others = [path for path in FOLDER.glob("*.json") if path not in written]
    if "--check" in sys.argv[1:]:
        stale = [path.name for path, text in written.items() if not path.is_file() or path.read_text() != text]
        stale += [path.name for path in others]
        sys.exit(f"run deploy/grafana/generate.py, these are not what it writes: {', '.join(stale)}" if stale else 0)
    for path in others:
        path.unlink()
    for path, text in written.items():
        path.write_text(text)


if __name__ == "__main__":
    main()
