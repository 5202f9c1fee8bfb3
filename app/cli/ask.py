"""`ponder ask` and `ponder explain`: put a question to a running server over HTTP, and show the search as it grows.

On a terminal the tree is drawn live. In a pipe the answer alone is on stdout, or with `--json` the whole trace. Both are escaped, so
that the model's words cannot steer a terminal; in JSON they are exact all the same.
"""

import io
import json
import sys
from collections.abc import Iterable
from contextlib import nullcontext
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from app.cli import client, search_view
from app.cli.client import Json, Url
from app.request import Effort
from app.settings import ClientSettings

if TYPE_CHECKING:
    import httpx  # imported by `client.connect`: help pages do not need it

PATH = "/v1/chat/completions"
Question = Annotated[str, typer.Argument(metavar="QUESTION", help="the question")]
Strategy = Annotated[
    str | None, typer.Option("--strategy", metavar="<text>", help="how to search; by default the server chooses")
]
Parameters = Annotated[
    list[str] | None,
    typer.Option(
        "--param",
        metavar="<name=value>",
        help="a parameter of the strategy, as JSON or as a plain word; may be given several times",
    ),
]
Model = Annotated[
    str | None, typer.Option("--model", metavar="<text>", help="model or adapter that answers; by default the base model")
]
BudgetTokens = Annotated[
    int | None,
    typer.Option("--budget-tokens", metavar="<integer>", min=1, help="most tokens that all branches may generate together"),
]
BudgetSeconds = Annotated[
    float | None, typer.Option("--budget-seconds", metavar="<number>", help="most seconds that the request may take")
]
BudgetThinking = Annotated[
    int | None, typer.Option("--budget-thinking", metavar="<integer>", min=0, help="most tokens that each answer may think")
]
EffortOption = Annotated[
    Effort | None,
    typer.Option("--effort", help="how much compute the server may spend to be more accurate, when it chooses the strategy"),
]
MaxTokens = Annotated[int | None, typer.Option("--max-tokens", metavar="<integer>", min=1, help="most tokens of one answer")]
Seed = Annotated[int | None, typer.Option("--seed", metavar="<integer>", help="seed of the sampling, to repeat a search")]
System = Annotated[str | None, typer.Option("--system", metavar="<text>", help="system message before the question")]
DryRun = Annotated[
    bool, typer.Option("--dry-run", help="print the plan and its predicted cost; generate nothing", show_default=False)
]
Key = Annotated[str | None, typer.Option("--key", metavar="<text>", help="API key [env: PONDER_API_KEY]")]


def ask(
    question: Question,
    strategy: Strategy = None,
    param: Parameters = None,
    model: Model = None,
    budget_tokens: BudgetTokens = None,
    budget_seconds: BudgetSeconds = None,
    budget_thinking: BudgetThinking = None,
    effort: EffortOption = None,
    max_tokens: MaxTokens = None,
    seed: Seed = None,
    system: System = None,
    dry_run: DryRun = False,
    as_json: Json = False,
    url: Url = None,
    key: Key = None,
) -> None:
    """Ask a running server, and watch the search.

    The answer goes to standard output; on a terminal, the search tree is drawn above it as it grows.
    """
    budget = _without_none(tokens=budget_tokens, seconds=budget_seconds, thinking_tokens=budget_thinking) or None
    options = {**_parse_parameters(param or ()), **_without_none(strategy=strategy, budget=budget, effort=effort)}
    messages = [
        {"role": role, "content": content} for role, content in (("system", system), ("user", question)) if content is not None
    ]
    fields = _without_none(max_tokens=max_tokens, seed=seed)
    body = {
        "messages": messages,
        **fields,
        "stream": not dry_run,
        "ponder": {**options, "dry_run": dry_run, "show_nodes": not dry_run},
    }
    _escape_unprintable()
    try:
        with client.connect(url, key or ClientSettings().api_key) as server:
            body["model"] = model or client.json_or_exit(server.get("/v1/models"))["data"][0]["id"]
            (_print_preview if dry_run else _stream_answer)(server, body, as_json=as_json)
    except KeyboardInterrupt:  # the connection is closed already, and the server ends its work
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
    """Show difficulty and plan of a question.

    The same as `ponder ask --dry-run`: nothing is generated.
    """
    ask(
        question, model=model, effort=effort, max_tokens=max_tokens, system=system, dry_run=True, as_json=as_json, url=url, key=key
    )  # fmt: skip


def _without_none(**fields: Any) -> dict[str, Any]:
    """Return the fields whose value is not None."""
    return {name: value for name, value in fields.items() if value is not None}


def _parse_parameters(pairs: Iterable[str]) -> dict[str, Any]:
    """Return the parameters by name, from texts of the form `name=value`. Raises `typer.BadParameter` for other texts."""
    parameters = {}
    for pair in pairs:
        name, equals, value = pair.partition("=")
        if not (name and equals):
            raise typer.BadParameter(f"{pair!r} is not NAME=VALUE", param_hint="--param")
        parameters[name] = _json_or_text(value)
    return parameters


def _json_or_text(text: str) -> Any:
    """Return the value of a JSON text, or the text itself if it is not JSON. Infinities and NaN are not JSON."""
    try:
        value = json.loads(text)
        json.dumps(value, allow_nan=False)
    except (ValueError, RecursionError):
        return text
    return value


def _console() -> Console:
    """The console of stdout. Only a terminal gets drawings: variables such as FORCE_COLOR must not draw into a pipe."""
    return Console(force_terminal=sys.stdout.isatty())


def _escape_unprintable() -> None:
    """Make `print` escape characters that the terminal's encoding lacks. Without this it would raise an error."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def _stream_answer(server: "httpx.Client", body: dict[str, Any], *, as_json: bool) -> None:
    """Send the question and print the answer, the tree with it on a terminal, or the trace as JSON."""
    console = _console()
    search = search_view.SearchProgress()
    is_drawn = console.is_terminal and not as_json
    with server.stream("POST", PATH, **_json_request(body)) as response:
        if response.is_error:
            response.read()
            client.json_or_exit(response)
        with search_view.draw_live(search, console) if is_drawn else nullcontext():
            for event in client.stream_events(response):
                if "error" in event:
                    client.exit_with_error(event["error"]["message"])
                search.add_event(event)
    if search.account is None:
        client.exit_with_error("the answer broke off")
    summary = search_view.summary_line(search.account, search.seconds)
    if as_json:
        client.print_json(client.json_or_exit(server.get(f"/v1/traces/{search.account['trace_id']}")))
    elif is_drawn:
        _print_result(search, summary, console)
    else:
        typer.echo(client.escape_controls(search.answer))
        typer.echo(summary, err=True)


def _json_request(body: dict[str, Any]) -> dict[str, Any]:
    """The body as arguments of httpx. All characters but ASCII are escaped, so that the server gets and refuses lone surrogates."""
    return {"content": json.dumps(body), "headers": {"Content-Type": "application/json"}}


def _print_result(search: search_view.SearchProgress, summary: str, console: Console) -> None:
    """Print what stays on the terminal: the tree when it has more than one node, the answer, and the summary."""
    if len(search.nodes) > 1:
        console.print(*search_view.tree(search.nodes, console), "", sep="\n")
    console.print(
        search_view.plain_text(search.answer.rstrip()), "", search_view.plain_text(summary, "dim"), sep="\n", soft_wrap=True
    )


def _print_preview(server: "httpx.Client", body: dict[str, Any], *, as_json: bool) -> None:
    """Print the plan of a dry run and its predicted cost, as a table or as JSON."""
    answer = client.json_or_exit(server.post(PATH, **_json_request(body)))
    if as_json:
        client.print_json(answer)
        return
    plan = answer["ponder"]
    predicted = plan["predicted"]
    parameters = " ".join(f"{name}={json.dumps(value)}" for name, value in plan["plan"]["parameters"].items())
    seconds = predicted["seconds"]
    difficulty = plan["difficulty"]
    rows = {
        "difficulty": "nothing can be right or wrong" if difficulty is None else f"{difficulty:.2f}",
        "strategy": f"{plan['strategy']} {parameters}".rstrip(),
        "why": plan["plan"]["why"],
        "tokens": f"{predicted['tokens']:,} in {predicted['branches']} branches",
        "FLOPs": search_view.format_flops(predicted["flops"]),
        "seconds": "not known" if seconds is None else f"{seconds:.3g}",
    }
    for one in plan["alternatives"]:
        worth = f"{one['accuracy']:.0%} right for {search_view.format_flops(one['flops'])} in {one['branches']:.1f} branches"
        rows[f"  {one['plan']}"] = f"{worth}, on questions as hard"
    table = Table.grid(padding=(0, 2))
    table.add_column(no_wrap=True, style="bold")
    table.add_column(overflow="fold")
    for name, value in rows.items():
        table.add_row(name, search_view.plain_text(value))
    _console().print(table)
