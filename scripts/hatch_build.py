"""Give the wheel one importable name: `app`, `strategies` and `adapters` of this checkout are `ponder.app` and so on in it.

`[tool.hatch.build.targets.wheel.sources]` in pyproject.toml moves the files; this hook writes their import statements to match. An
editable installation is left as it is: there the checkout itself is on the path.
"""

import ast
import re
import tempfile
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

PACKAGE = "ponder"
MOVED = ("app", "strategies", "adapters")
"""Folders of the checkout that are packages within `PACKAGE` in the wheel."""


class OneNameBuildHook(BuildHookInterface[Any]):
    """Puts rewritten modules in the place of those that import a moved package."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Add each rewritten module to the files that hatchling must include."""
        if version == "editable":
            return
        self._written = tempfile.TemporaryDirectory()
        root = Path(self.root)
        for module in sorted(path for folder in (PACKAGE, *MOVED) for path in (root / folder).rglob("*.py")):
            source = module.read_text(encoding="utf-8")
            if (rewritten := rewrite(source)) == source:
                continue
            place = module.relative_to(root)
            written = Path(self._written.name, place)
            written.parent.mkdir(parents=True, exist_ok=True)
            written.write_text(rewritten, encoding="utf-8")
            build_data["force_include"][str(written)] = str(place if place.parts[0] == PACKAGE else PACKAGE / place)

    def finalize(self, version: str, build_data: dict[str, Any], artifact_path: str) -> None:  # noqa: ARG002 - hatchling's signature
        """Remove the rewritten modules: they are in the wheel."""
        if version != "editable":
            self._written.cleanup()


def rewrite(source: str) -> str:
    """The source of a module whose import statements name the moved packages by their place in the wheel.

    Strings and comments stay as they are: code derives a dotted name from `__name__` where it needs one as text. Raises `ValueError` for
    `import app.x` without `as`: it binds the name `app`, which is another module in the wheel.
    """
    lines = source.encode().splitlines(keepends=True)  # ast counts columns in bytes
    places: list[tuple[int, int]] = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.ImportFrom) and node.level == 0 and _is_moved(node.module or ""):
            keyword = re.compile(rb"from[ \t]+(?=\w)").match(lines[node.lineno - 1], node.col_offset)
            if keyword is None:
                raise ValueError(f"line {node.lineno}: the module is not on the line of its `from`")
            places.append((node.lineno, keyword.end()))
        elif isinstance(node, ast.Import):
            for alias in filter(lambda alias: _is_moved(alias.name), node.names):
                if alias.asname is None:
                    raise ValueError(f"line {alias.lineno}: write `import {alias.name} as …`, or import from it")
                places.append((alias.lineno, alias.col_offset))
    for line, column in sorted(places, reverse=True):  # from the last to the first, so that places before stay where they are
        text = lines[line - 1]
        lines[line - 1] = text[:column] + PACKAGE.encode() + b"." + text[column:]
    return b"".join(lines).decode()


def _is_moved(module: str) -> bool:
    return module.partition(".")[0] in MOVED
