"""Hooks of MkDocs: pictures that stand elsewhere in the repository become files of the site, so that none stands twice.

A page names such a picture as `pictures/<name>.png`, relative to the site's root.
"""

from pathlib import Path
from typing import Any

from mkdocs.structure.files import File, Files

ROOT = Path(__file__).parent.parent
PICTURES = ("benchmarks/results/*.png", "benchmarks/results/policy/*.png", "app/playground/screenshots/*.png")


def on_files(files: Files, config: Any) -> Files:
    """Add every picture to the site; two pictures of one name are an error."""
    for pattern in PICTURES:
        for path in sorted(ROOT.glob(pattern)):
            folder = f"{path.parent.name}-" if path.parent.name == "policy" else ""
            files.append(File.generated(config, f"pictures/{folder}{path.name}", abs_src_path=str(path)))
    return files
