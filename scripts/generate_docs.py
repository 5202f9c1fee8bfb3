"""Writes the generated parts of the README: what the code knows already is not written twice.

`python -m scripts.generate_docs` writes them, `--check` fails when they are out of date.
A part stands between `<!-- name -->` and `<!-- /name -->`.
"""

import json
import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from pydantic import BaseModel
from pydantic_core import PydanticUndefined

from app.lab.calibration.options import CalibrateOptions
from app.lab.training.options import DistillOptions, LoraOptions, PruneOptions, QloraOptions, VerifierOptions
from app.reward_models.options import RewardModelOptions
from app.settings import Settings
from strategies.core.verifier import is_chosen_by_name
from strategies.registry import STRATEGIES, VERIFIERS

ROOT = Path(__file__).parent.parent
README = ROOT / "README.md"
RESULTS = ROOT / "benchmarks" / "results"


def strategies() -> str:
    """A row for each strategy and each of its parameters."""
    rows = ["| strategy | what it does | parameters |", "|---|---|---|"]
    for strategy in STRATEGIES:
        fields = strategy.Params.model_fields.items()
        parameters = "<br>".join(f"`{name}` = `{_json(field.default)}`: {field.description}" for name, field in fields)
        rows.append(
            f"| `{strategy.name}` | {strategy.summary} | {parameters or 'none; the request asks for several with `n`'} |"
        )
    return "\n".join(rows)


def verifiers() -> str:
    """A row for each verifier."""
    rows = ["| verifier | score |", "|---|---|"]
    for verifier in VERIFIERS:
        form = f'"{verifier.name}"' if is_chosen_by_name(verifier) else f'{{"{verifier.name}": …}}'
        rows.append(f"| `{form}` | {verifier.summary} |")
    return "\n".join(rows)


def reward_models() -> str:
    """A row for each option of a reward model."""
    rows = ["| option | default | what it is |", "|---|---|---|"]
    for name, field in RewardModelOptions.model_fields.items():
        default = "" if field.is_required() or field.default is None else f"`{_json(field.default)}`"
        rows.append(f"| `{name}` | {default} | {field.description} |")
    return "\n".join(rows)


def settings() -> str:
    """A row for each setting."""
    rows = ["| variable | option | default | what it is |", "|---|---|---|---|"]
    for name, field in Settings.model_fields.items():
        default = field.get_default(call_default_factory=True)
        shown = "" if default in (None, (), PydanticUndefined) else f"`{default}`"
        option = f"--{name.replace('_', '-')}"
        rows.append(f"| `PONDER_{name.upper()}` | `{option}` | {shown} | {field.description} |")
    return "\n".join(rows)


def training() -> str:
    """A row for each option of the commands that train, with the commands that have it."""
    rows = ["| option | of | default | what it is |", "|---|---|---|---|"]
    for name in dict.fromkeys(name for model in _TRAINING.values() for name in model.model_fields):
        having = {command: model.model_fields[name] for command, model in _TRAINING.items() if name in model.model_fields}
        field = next(iter(having.values()))
        shown = " ".join(field.default) if isinstance(field.default, tuple) else field.default
        default = "" if field.is_required() or shown is None else f"`{shown}`"
        commands = "all" if len(having) == len(_TRAINING) else ", ".join(f"`{command}`" for command in having)
        rows.append(f"| `--{name.replace('_', '-')}` | {commands} | {default} | {field.description} |")
    return "\n".join(rows)


def calibration() -> str:
    """A row for each option of `ponder calibrate`."""
    rows = ["| option | default | what it is |", "|---|---|---|"]
    for name, field in CalibrateOptions.model_fields.items():
        shown = ", ".join(field.default) if isinstance(field.default, tuple) else field.default
        default = "" if field.is_required() or shown is None else f"`{shown}`"
        rows.append(f"| `--{name.replace('_', '-')}` | {default} | {field.description} |")
    return "\n".join(rows)


_TRAINING: dict[str, type[BaseModel]] = {
    "lora": LoraOptions,
    "qlora": QloraOptions,
    "distill": DistillOptions,
    "verifier": VerifierOptions,
    "prune": PruneOptions,
}


def table(rows: list[dict[str, Any]]) -> list[str]:
    """Lines of a Markdown table, headed by the keys of the first row."""
    heads = list(rows[0])
    body = ["| " + " | ".join(str(row[head]) for head in heads) + " |" for row in rows]
    return ["| " + " | ".join(heads) + " |", "|" + "---|" * len(heads), *body]


def benchmarks() -> str:
    """The tables of the last benchmark runs, with the machine."""
    parts = []
    for path in (
        *sorted(RESULTS.glob("*.json")),
        *sorted(RESULTS.glob("suite/*.json")),
        *sorted(RESULTS.glob("policy/*.json")),
    ):
        result = json.loads(path.read_text(encoding="utf-8"))
        machine = result["machine"]
        where = f"{machine['processor']}, {machine['cores']} cores, {machine['dtype']}, {machine['date']}"
        parts += [f"**{result['title']}** (`python -m {result['command']}`; {where})", ""]
        parts += [*table(result["rows"]), ""]
    return "\n".join(parts).strip()


PARTS: dict[str, Callable[[], str]] = {
    part.__name__: part for part in (strategies, verifiers, reward_models, calibration, training, settings, benchmarks)
}


def generated(text: str) -> str:
    """`text` with its generated parts written anew; `ValueError` when a part has no place in it."""
    for name, part in PARTS.items():
        pattern = re.compile(f"(<!-- {name} -->\n).*?(<!-- /{name} -->)", re.DOTALL)
        if not pattern.search(text):
            message = f"the README has no place for {name}"
            raise ValueError(message)
        content = part()
        text = pattern.sub(lambda match, content=content: f"{match[1]}{content}\n{match[2]}", text)  # type: ignore[misc]
    return text


def _json(value: Any) -> str:
    return json.dumps(value)


def main() -> None:
    """Entry point."""
    text = README.read_text(encoding="utf-8")
    wanted = generated(text)
    if "--check" not in sys.argv:
        README.write_text(wanted, encoding="utf-8")
    elif text != wanted:
        sys.exit("README.md is out of date: run `make format`")


if __name__ == "__main__":
    main()
