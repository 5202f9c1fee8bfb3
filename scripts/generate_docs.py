"""Writes the generated parts of the documents: what the code knows already is not written twice.

`python -m scripts.generate_docs` writes them, `--check` fails when they are out of date. A part stands between
`<!-- name -->` and `<!-- /name -->` in the README or in a page of `docs/`; each part stands in exactly one document.
"""

import json
import re
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from pydantic import BaseModel
from pydantic_core import PydanticUndefined

from app.admission import Admission
from app.api.field_table import Use
from app.api.fields import CHAT, COMPLETION, MESSAGES, RESPONSES, TOKENIZE
from app.engine.scripted import ScriptedEngine
from app.lab.calibration.options import CalibrateOptions
from app.lab.training.options import DistillOptions, LoraOptions, PruneOptions, QloraOptions, VerifierOptions
from app.reward_models.options import RewardModelOptions
from app.settings import Settings
from app.telemetry.metrics import Metrics
from benchmarks.report import RESULTS, table
from strategies.core.verifier import is_chosen_by_name
from strategies.registry import STRATEGIES, VERIFIERS
from tests.clients.table import client_table
from tests.vllm.families import model_table, way_table

ROOT = Path(__file__).parent.parent

_PART = re.compile(r"(<!-- ([\w/ .-]+) -->\n).*?(<!-- /\2 -->)", re.DOTALL)
_CLOSING = re.compile(r"<!-- /([\w/ .-]+) -->")


def strategies() -> str:
    """A row for each strategy."""
    rows = ["| strategy | what it does | against a vote at equal FLOPs |", "|---|---|---|"]
    rows += [f"| [`{one.name}`](#{one.name}) | {one.summary} | {one.comparison or 'not measured'} |" for one in STRATEGIES]
    return "\n".join(rows)


def parameters() -> dict[str, Callable[[], str]]:
    """A part for each strategy with parameters, named `parameters <strategy>`."""
    return {f"parameters {one.name}": partial(parameter_table, one.Params) for one in STRATEGIES if one.Params.model_fields}


def parameter_table(params: type[BaseModel]) -> str:
    """A row for each parameter of a strategy."""
    properties = params.model_json_schema()["properties"]
    rows = ["| parameter | default | values | what it is |", "|---|---|---|---|"]
    for name, field in params.model_fields.items():
        values = "a [verifier](verifiers.md)" if name == "verifier" else _values(properties[name])
        rows.append(f"| `{name}` | `{_json(field.default)}` | {values} | {field.description} |")
    return "\n".join(rows)


def _values(schema: dict[str, Any]) -> str:
    """The values that a JSON schema allows, in words."""
    if "anyOf" in schema:
        return ", or ".join(_values(one) for one in schema["anyOf"])
    if "enum" in schema:
        return ", ".join(f"`{value}`" for value in schema["enum"])
    lowest, above = schema.get("minimum"), schema.get("exclusiveMinimum")
    highest, below = schema.get("maximum"), schema.get("exclusiveMaximum")
    if (lowest, above, highest, below) != (None,) * 4:
        start = f"{lowest:g}" if lowest is not None else f"above {above:g}" if above is not None else ""
        end = f"{highest:g}" if highest is not None else f"below {below:g}" if below is not None else ""
        return f"{start} to {end}" if start and end else start or end
    return {"boolean": "true, false", "string": "text", "array": "a list of texts", "null": "null"}.get(
        schema.get("type", ""), ""
    )


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


def fields() -> str:
    """A row for each field of OpenAI's, Anthropic's and vLLM's requests, those that are honoured first."""
    tables = {"chat": CHAT, "completions": COMPLETION, "responses": RESPONSES, "messages": MESSAGES, "tokenize": TOKENIZE}
    rows = ["| field | of | what becomes of it | |", "|---|---|---|---|"]
    known = {
        (name, field.use, field.note): None
        for use in Use
        for table in tables.values()
        for name, field in table.items()
        if field.use is use
    }
    for name, use, note in known:
        apis = [api for api, table in tables.items() if name in table and (table[name].use, table[name].note) == (use, note)]
        rows.append(f"| `{name}` | {', '.join(apis)} | {use} | {note} |")
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


def metrics() -> str:
    """A row for each metric of a server with adapters."""
    engine = ScriptedEngine(lambda _branch: "")
    registry = Metrics()
    registry.export_pool(engine, Admission(num_slots=1, max_branches=1, max_branches_per_key=1), ())
    rows = ["| metric | kind | labels | what it is |", "|---|---|---|---|"]
    rows += [
        f"| `{name}` | {kind} | {', '.join(labels)} | {text} |" for name, kind, labels, text in registry.registry.describe()
    ]
    return "\n".join(rows)


def results() -> dict[str, Callable[[], str]]:
    """A part for each table of the last benchmark runs, named `results <path below the results, without .json>`."""
    return {
        f"results {path.relative_to(RESULTS).with_suffix('')}": partial(result_table, path)
        for path in sorted(RESULTS.rglob("*.json"))
    }


def result_table(path: Path) -> str:
    """One table, headed by what was measured, on which machine, and the command that measures it again."""
    result = json.loads(path.read_text(encoding="utf-8"))
    machine = result["machine"]
    where = f"{machine['processor']}, {machine['cores']} cores, {machine['dtype']}, {machine['date']}"
    return "\n".join([f"**{result['title']}**", "", f"`python -m {result['command']}`; {where}", "", *table(result["rows"])])


_HEADLINE = {
    "direct": "one answer (`direct`)",
    "self_consistency, waves n=16": "plain vote of 16 that stops when it is settled",
    "self_consistency, filter, waves n=16": "vote of 16 without answers that miscalculate",
    "backtracking n=16": "16 answers that a calculator corrects (`backtracking`), the most right and the dearest fixed plan",
    "auto, high": "`auto`, high effort",
}


def headline() -> str:
    """Five rows of the policy's results, for the README."""
    rows = {row["plan"]: row for row in json.loads((RESULTS / "policy" / "reasoning-plans.json").read_text())["rows"]}
    lines = ["| plan | right | 95 % interval | GFLOP a question |", "|---|---|---|---|"]
    for plan, name in _HEADLINE.items():
        row = rows[plan]
        lines.append(f"| {name} | {row['accuracy']} | {row['95 % interval']} | {row['GFLOPs per question']} |")
    return "\n".join(lines)


def parts() -> dict[str, Callable[[], str]]:
    """Every generated part by its name."""
    tested = (client_table, model_table, way_table)
    ours = (strategies, verifiers, reward_models, calibration, training, settings, fields, metrics, headline, *tested)
    return {**{part.__name__: part for part in ours}, **parameters(), **results()}


def documents() -> list[Path]:
    """The README and every page of the site."""
    return [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]


def generated(texts: dict[Path, str]) -> dict[Path, str]:
    """The documents with their generated parts written anew.

    Raises `ValueError` when a part stands in no document or in several, or when a document names a part that nobody writes.
    """
    known = parts()
    places = [(name, path) for path, text in texts.items() for name in _CLOSING.findall(text)]
    if unknown := [f"{name} in {path.name}" for name, path in places if name not in known]:
        raise ValueError(f"nobody writes these parts: {', '.join(unknown)}")
    for name in known:
        if (count := sum(place == name for place, _ in places)) != 1:
            raise ValueError(f"the part {name} stands in {count} places, and must stand in one")
    return {path: _PART.sub(lambda match: _written(match, known), text) for path, text in texts.items()}


def _written(match: re.Match[str], known: dict[str, Callable[[], str]]) -> str:
    return f"{match[1]}{known[match[2]]()}\n{match[3]}"


def _json(value: Any) -> str:
    return json.dumps(value)


def main() -> None:
    """Entry point."""
    before = {path: path.read_text(encoding="utf-8") for path in documents()}
    after = generated(before)
    changed = [path for path in before if before[path] != after[path]]
    if "--check" in sys.argv:
        if changed:
            sys.exit(f"out of date: {', '.join(str(path.relative_to(ROOT)) for path in changed)}: run `make format`")
        return
    for path in changed:
        path.write_text(after[path], encoding="utf-8")


if __name__ == "__main__":
    main()
