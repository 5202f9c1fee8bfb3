"""`ponder ask`: puts a question to a running server and shows the search for its answer as it grows. Speaks HTTP, nothing else.

On a terminal the tree is drawn live. For scripts the answer alone is on stdout, or with `--json` the whole trace; both are escaped, so
that the model's words cannot steer a terminal (in JSON they are exact all the same).
"""

import io
import json
import sys
from collections.abc import Iterable
from contextlib import nullcontext
from typing import Annotated, Any

import httpx
import typer
from rich.console import Console
from rich.table import Table

from app.cli import client
from app.cli import search_view as ask_view
from app.cli.client import Json, Url
from app.request import Effort
from app.settings import ClientSettings

PATH = "/v1/chat/completions"
Question = Annotated[str, typer.Argument(help="What to ask.", show_default=False)]
Strategy = Annotated[str | None, typer.Option("--strategy", help="How to search; by default the server chooses.")]
Parameters = Annotated[
    list[str] | None,
    typer.Option(
        "--param", metavar="NAME=VALUE", help="A parameter of the strategy; JSON, or a plain word. Repeat it for more."
    ),
]
Model = Annotated[str | None, typer.Option("--model", help="By default the server's base model.")]
BudgetTokens = Annotated[
    int | None, typer.Option("--budget-tokens", min=1, help="The most tokens that all branches may generate.")
]
BudgetSeconds = Annotated[float | None, typer.Option("--budget-seconds", help="The most time that it may take.")]
EffortOption = Annotated[Effort | None, typer.Option("--effort", help="What accuracy is worth, where the server chooses.")]
MaxTokens = Annotated[int | None, typer.Option("--max-tokens", min=1, help="The most tokens of one answer.")]
Seed = Annotated[int | None, typer.Option("--seed", help="The same seed, the same search.")]
System = Annotated[str | None, typer.Option("--system", help="A system message.")]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Tell the plan and what it would take; generate nothing.")]
Key = Annotated[str | None, typer.Option("--key", help="API key. [PONDER_API_KEY]")]


def ask(
    question: Question,
    strategy: Strategy = None,
    param: Parameters = None,
    model: Model = None,
    budget_tokens: BudgetTokens = None,
    budget_seconds: BudgetSeconds = None,
    effort: EffortOption = None,
    max_tokens: MaxTokens = None,
    seed: Seed = None,
    system: System = None,
    dry_run: DryRun = False,
    as_json: Json = False,
    url: Url = None,
    key: Key = None,
) -> None:
    """Ask a running server a question, and watch the search for its answer."""
    budget = _given(tokens=budget_tokens, seconds=budget_seconds) or None
    options = {**_parsed(param or ()), **_given(strategy=strategy, budget=budget, effort=effort)}
    messages = [
        {"role": role, "content": content} for role, content in (("system", system), ("user", question)) if content is not None
    ]
    fields = _given(max_tokens=max_tokens, seed=seed)
    body = {
        "messages": messages,
        **fields,
        "stream": not dry_run,
        "ponder": {**options, "dry_run": dry_run, "show_nodes": not dry_run},
    }
    _never_fail_to_print()
    try:
        with client.connect(url, key or ClientSettings().api_key) as server:
            body["model"] = model or client.ok(server.get("/v1/models"))["data"][0]["id"]
            (_preview if dry_run else _answer)(server, body, as_json=as_json)
    except KeyboardInterrupt:  # the connection is closed by now, which ends the work on the server
        raise typer.Exit(130) from None


def explain(
    question: Question,
    model: Model = None,
    effort: EffortOption = None,
    max_tokens: MaxTokens = None,
    system: System = None,
    as_json: Json = False,
    url: Url = None,
    key: Key = None,
) -> None:
    """Ask a running server how difficult a question is and what it would do; nothing is generated."""
    ask(
        question, model=model, effort=effort, max_tokens=max_tokens, system=system, dry_run=True, as_json=as_json, url=url, key=key
    )  # fmt: skip


def _given(**fields: Any) -> dict[str, Any]:
    return {name: value for name, value in fields.items() if value is not None}


def _parsed(pairs: Iterable[str]) -> dict[str, Any]:
    """`name=value` each."""
    parameters = {}
    for pair in pairs:
        name, equals, value = pair.partition("=")
        if not (name and equals):
            raise typer.BadParameter(f"{pair!r} is not NAME=VALUE", param_hint="--param")
        parameters[name] = _value(value)
    return parameters


def _value(text: str) -> Any:
    """What JSON says, where it is JSON (infinities and NaN are none), else the text."""
    try:
        value = json.loads(text)
        json.dumps(value, allow_nan=False)
    except (ValueError, RecursionError):
        return text
    return value


def _console() -> Console:
    """Of stdout; what rich takes from the environment must not draw into a pipe."""
    return Console(force_terminal=sys.stdout.isatty())


def _never_fail_to_print() -> None:
    """On terminals that lack a character too."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def _answer(server: httpx.Client, body: dict[str, Any], *, as_json: bool) -> None:
    console = _console()
    search = ask_view.Search()
    is_drawn = console.is_terminal and not as_json
    with server.stream("POST", PATH, **_sent(body)) as response:
        if response.is_error:
            response.read()
            client.ok(response)
        with ask_view.live(search, console) if is_drawn else nullcontext():
            for event in client.events(response):
                if "error" in event:
                    client.fail(event["error"]["message"])
                search.take(event)
    if search.account is None:
        client.fail("the answer broke off")
    summary = ask_view.summary(search.account, search.seconds)
    if as_json:
        client.print_json(client.ok(server.get(f"/v1/traces/{search.account['trace_id']}")))
    elif is_drawn:
        _print(search, summary, console)
    else:
        typer.echo(client.clean(search.answer))
        typer.echo(summary, err=True)


def _sent(body: dict[str, Any]) -> dict[str, Any]:
    """ASCII only: a question may contain what was no text on the command line, of which the server shall speak."""
    return {"content": json.dumps(body), "headers": {"Content-Type": "application/json"}}


def _print(search: ask_view.Search, summary: str, console: Console) -> None:
    """What stays on the terminal; a tree only where there is more than the answer in it."""
    if len(search.nodes) > 1:
        console.print(*ask_view.tree(search.nodes, console), "", sep="\n")
    console.print(ask_view.text(search.answer.rstrip()), "", ask_view.text(summary, "dim"), sep="\n", soft_wrap=True)


def _preview(server: httpx.Client, body: dict[str, Any], *, as_json: bool) -> None:
    answer = client.ok(server.post(PATH, **_sent(body)))
    if as_json:
        client.print_json(answer)
        return
    plan = answer["ponder"]
    predicted = plan["predicted"]
    parameters = " ".join(f"{name}={json.dumps(value)}" for name, value in plan["plan"]["parameters"].items())
    seconds = predicted["seconds"]
    difficulty = plan["difficulty"]
    rows = {
        "difficulty": "not measured for this model" if difficulty is None else f"{difficulty:.2f}",
        "strategy": f"{plan['strategy']} {parameters}".rstrip(),
        "why": plan["plan"]["why"],
        "tokens": f"{predicted['tokens']:,} in {predicted['branches']} branches",
        "FLOPs": ask_view.flops(predicted["flops"]),
        "seconds": "not known" if seconds is None else f"{seconds:.3g}",
    }
    for one in plan["alternatives"]:
        worth = f"{one['accuracy']:.0%} right for {ask_view.flops(one['flops'])} in {one['branches']:.1f} branches"
        rows[f"  {one['plan']}"] = f"{worth}, on questions as hard"
    table = Table.grid(padding=(0, 2))
    table.add_column(no_wrap=True, style="bold")
    table.add_column(overflow="fold")
    for name, value in rows.items():
        table.add_row(name, ask_view.text(value))
    _console().print(table)
