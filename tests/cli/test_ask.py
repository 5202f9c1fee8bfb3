"""`ponder ask` over the app on the scripted engine: its output on a terminal, in a pipe and as JSON."""

import asyncio
import io
import json
import re
import signal
import socket
import sys
import unicodedata
from contextlib import contextmanager

import anyio
import httpx
import pytest
import uvicorn
from hypothesis import given, settings
from hypothesis import strategies as st
from rich.cells import cell_len
from rich.console import Console
from typer.testing import CliRunner

from app.cli import __main__ as cli
from app.cli import ask as ask_cli
from app.cli import client, search_view

pytestmark = pytest.mark.anyio

STEPS = ["Add the tens.\n\nAdd the ones.\n\nIt is 42.", "Guess.\n\nIt is 41.", "Carry one.\n\nIt is 42."]
BEAM = ("--strategy", "beam_search", "--param", "n=4", "--param", "expand=2", "--param", "depth=3")
HOSTILE = "\x1b[2J\x1b]0;owned\x07[bold red]markup[/] [link=http://evil]x[/link] :smile: \u202eslived\u2066"
HOSTILE += " \x9b31m \x00\x7f\r over\u2028under\x85"
CONSOLE = ask_cli._console
RICH_SEQUENCES = re.compile(r"\x1b\[(?:\d*[AK]|\?25[lh])|\r(?=\x1b\[)")
"""Sequences by which rich moves the cursor when it draws again, without colours."""


class AskResult:
    """The result of one run of the command: its outputs, its exit status, and the request bodies that it sent."""

    def __init__(self, result, screen: str, sent: list[dict]) -> None:
        self.stdout, self.stderr, self.status, self.screen, self.sent = (
            result.stdout, result.stderr, result.exit_code, screen, sent,
        )  # fmt: skip


def _terminal(screen: io.StringIO, width: int, height: int) -> Console:
    return Console(file=screen, width=width, height=height, force_terminal=True, color_system=None)


@pytest.fixture
def ask(monkeypatch):
    """`await ask(served, "What?", "--seed", "1", terminal=(80, 24))` runs the command; without `terminal` it prints into a pipe."""

    async def run(
        served, *arguments: str, terminal: tuple[int, int] | None = None, change=lambda content: content
    ) -> AskResult:
        sent: list[dict] = []

        def forward(request: httpx.Request) -> httpx.Response:
            if request.content:
                sent.append(json.loads(request.content))
            again = served.client.build_request(request.method, request.url.path, content=request.content)
            again.headers.update(
                {name: request.headers[name] for name in ("content-type", "authorization") if name in request.headers}
            )
            answer = anyio.from_thread.run(served.client.send, again)
            return httpx.Response(answer.status_code, content=change(answer.content))

        @contextmanager
        def connect(_url: str | None, key: str | None):
            headers = {"Authorization": f"Bearer {key}"} if key else {}
            with httpx.Client(transport=httpx.MockTransport(forward), base_url="http://ponder", headers=headers) as server:
                yield server

        screen = io.StringIO()
        monkeypatch.setattr(client, "connect", connect)
        monkeypatch.setattr(ask_cli, "_console", (lambda: _terminal(screen, *terminal)) if terminal else CONSOLE)
        result = await anyio.to_thread.run_sync(CliRunner().invoke, cli.app, ("ask", *arguments))
        return AskResult(result, screen.getvalue(), sent)

    return run


def final_lines(screen: str) -> list[str]:
    """The lines that stay on the screen after the live drawing is erased."""
    return RICH_SEQUENCES.sub("", screen.rsplit("\x1b[2K", 1)[-1]).split("\n")


async def test_a_pipe_gets_the_answer_alone(serve, ask, monkeypatch) -> None:
    """The summary goes to stderr. Nothing is drawn, even when the environment asks for colours."""
    monkeypatch.setenv("FORCE_COLOR", "1")
    async with serve(["It is 42."]) as served:
        asked = await ask(served, "What is 17 + 25?", "--strategy", "direct")
    assert (asked.status, asked.stdout) == (0, "It is 42.\n")
    assert re.fullmatch(r"direct · completed · 3 tokens · [\d.]+ MFLOPs · \d\.\d s\n", asked.stderr)


async def test_a_terminal_gets_the_tree_the_answer_and_a_summary(serve, ask) -> None:
    """Progress and tree are drawn live; at the end the tree stays once. Marks show the states of nodes without colours."""
    async with serve(STEPS) as served:
        asked = await ask(served, "What is 17 + 25?", *BEAM, terminal=(60, 24))
    lines = final_lines(asked.screen)
    assert asked.status == 0
    assert "0 s  " in asked.screen  # the progress line, which is erased with the live drawing
    assert not any(line.startswith("0 s  ") for line in lines)
    tree, answer = lines[: lines.index("")], lines[lines.index("") + 1 : -3]
    for mark in "★✓✗=·":
        assert any(re.fullmatch(rf"(?:[│ ]*[├└]╴)?{mark} \S.*?  0\.\d\d", line) for line in tree), (mark, tree)
    assert any(re.fullmatch(r"[│ ]*[├└]╴★ .* → 4\d  0\.\d\d", line) for line in tree)
    assert answer[-1] in ("It is 42.", "It is 41.")
    assert re.fullmatch(r"beam_search · completed · \d+ tokens · [\d.]+ MFLOPs · \d\.\d s", lines[-2])


async def test_the_winner_of_a_vote_is_marked_and_a_single_answer_has_no_tree(serve, ask) -> None:
    """The last nodes of the stream contain the chosen one."""
    async with serve(["It is 42."]) as served:
        vote = await ask(served, "What is 17 + 25?", "--strategy", "self_consistency", "--param", "n=3", terminal=(80, 24))
        direct = await ask(served, "What is 17 + 25?", "--strategy", "direct", terminal=(80, 24))
    assert final_lines(vote.screen)[0] == "★ It is 42. → 42  1.00"
    assert final_lines(direct.screen)[:2] == ["It is 42.", ""]


async def test_visits_of_a_tree_search_are_shown(serve, ask) -> None:
    """A node of a tree search ends with its number of visits."""
    async with serve(STEPS) as served:
        asked = await ask(served, "What?", "--strategy", "mcts", "--param", "iterations=4", terminal=(80, 24))
    assert any(re.search(r"0\.\d\d  ×\d+$", line) for line in final_lines(asked.screen))  # noqa: RUF001 - times


async def test_a_big_tree_is_cut_to_the_terminal(serve, ask) -> None:
    """The chosen answer stays in the tree, and the last line counts the nodes that are left out."""
    async with serve(STEPS) as served:
        many = ("--strategy", "beam_search", "--param", "n=16", "--param", "expand=4", "--param", "depth=12")
        asked = await ask(served, "What?", *many, terminal=(50, 14))
    lines = final_lines(asked.screen)
    tree = lines[: lines.index("")]
    assert len(tree) == 11
    assert re.fullmatch(r"… \d+ more", tree[-1])
    assert any("★" in line for line in tree)
    assert any("⋯" in line for line in tree)  # the path to it is longer than there is room for


@pytest.mark.parametrize(
    "arguments",
    [(*BEAM, "--param", "step_tokens=60"), ("--strategy", "self_consistency", "--param", "n=3"), ("--strategy", "direct")],
)
async def test_what_the_model_says_never_steers_the_terminal(serve, ask, arguments) -> None:
    """Controls, escape sequences and bidirectional formats are escaped and markup is text: drawn live, in a pipe and as JSON."""
    async with serve([HOSTILE + "\n\n" + HOSTILE, "Fine.\n\n" + HOSTILE]) as served:
        drawn = await ask(served, "What is 17 + 25?", *arguments, terminal=(160, 24))
        piped = await ask(served, "What is 17 + 25?", *arguments)
        as_json = await ask(served, "What is 17 + 25?", *arguments, "--json")
    for asked in (drawn, piped, as_json):
        assert asked.status == 0
        for output in (RICH_SEQUENCES.sub("", asked.screen), asked.stdout, asked.stderr):
            assert not unsafe_characters(output)
    for shown in (drawn.screen, piped.stdout):
        assert r"\x1b[2J\x1b]0;owned\x07[bold red]markup[/] [link=http://evil]x[/link] :smile: \u202eslived\u2066" in shown
    assert any(node["text"].startswith(HOSTILE) for node in json.loads(as_json.stdout)["nodes"])


def unsafe_characters(output: str) -> set[str]:
    """The characters of an output that may steer a terminal."""
    return {char for char in output if unicodedata.category(char) in ("Cc", "Cf", "Cs", "Zl", "Zp")} - set("\n\t\u200c\u200d")


@settings(deadline=None)
@given(st.text() | st.text(alphabet=HOSTILE))
def test_clean_texts_steer_nothing_and_plain_texts_stay(text: str) -> None:
    """Escaping removes all unsafe characters, leaves plain texts as they are, and changes nothing when it is repeated."""
    shown = client.escape_controls(text)
    assert not unsafe_characters(shown)
    assert client.escape_controls(shown) == shown
    assert "\n" not in client.to_one_line(text)
    assert client.escape_controls("naïve 👩‍💻\tdone\r\n") == "naïve 👩‍💻\tdone\n"


@st.composite
def trees(draw):
    """Nodes as the server sends them: the id of a parent is smaller than the ids of its children."""
    nodes = []
    for number in range(draw(st.integers(1, 60))):
        parent = draw(st.none() | st.integers(0, number - 1)) if number else None
        state = draw(st.sampled_from([*search_view.MARKS, "unheard of"]))
        text, answer = draw(st.text(max_size=80)), draw(st.none() | st.text(max_size=20))
        value, visits = draw(st.none() | st.floats(0, 1)), draw(st.integers(0, 10_000))
        nodes.append(
            {"id": number, "parent": parent, "state": state, "text": text, "answer": answer, "value": value, "visits": visits}
        )
    return nodes


@settings(deadline=None)
@given(trees(), st.integers(20, 120), st.integers(3, 50))
def test_a_tree_fits_the_terminal_whatever_it_says(nodes, width: int, height: int) -> None:
    """Each node has one line within the terminal's width, no line is unsafe, and drawn and omitted nodes add up to all nodes."""
    search, file = search_view.SearchProgress(), io.StringIO()
    search.add_nodes(nodes)
    console = _terminal(file, width, height)
    console.print(*search_view.tree(search.nodes, console), sep="\n")
    lines = file.getvalue().removesuffix("\n").split("\n")
    left_out = re.fullmatch(r"… (\d+) more", lines[-1])
    shown = len(lines) - bool(left_out)
    assert len(lines) <= max(height - 3, 2)
    assert shown + (int(left_out[1]) if left_out else 0) == len(nodes)
    assert all(cell_len(line) <= width for line in lines)
    assert not unsafe_characters(file.getvalue())


@settings(deadline=None)
@given(st.lists(st.text(), max_size=5), st.integers(1, 40))
def test_events_are_read_whatever_texts_and_packets_look_like(texts: list[str], size: int) -> None:
    """Line separators within a text do not split its event, and comments are skipped."""
    parts = [b": keep-alive\n\n"]
    parts += [
        b"data: " + json.dumps({"text": text}, ensure_ascii=text.isascii()).encode(errors="ignore") + b"\n\n" for text in texts
    ]
    stream = b"".join([*parts, b"data: [DONE]\n\n"])
    packets = iter([stream[at : at + size] for at in range(0, len(stream), size)])
    events = list(client.stream_events(httpx.Response(200, content=packets)))
    assert [event["text"] for event in events] == texts


async def test_parameters_are_json_or_words(serve, ask) -> None:
    """A parameter that is not valid JSON is sent as a text; every option is sent under its own name."""
    async with serve() as served:
        asked = await ask(
            served, "17 + 25?", "--system", "Be brief.", "--strategy", "best_of_n", "--param", "n=3", "--param", "verifier=likelihood",
            "--param", 'verifier={"number": 42}', "--budget-tokens", "500", "--budget-seconds", "9", "--budget-thinking", "0",
            "--max-tokens", "50", "--seed", "7",
        )  # fmt: skip
        by_effort = await ask(served, "17 + 25?", "--effort", "low", "--model", "scripted@auto")
        odd = await ask(served, "Hi", "--strategy", "best_of_n", "--param", "n=NaN", "--param", "x=1e999", "--param", "y=a=b")
        wrong = await ask(served, "Hi", "--param", "n")
    assert asked.status == by_effort.status == 0, asked.stderr
    assert asked.sent == [
        {
            "model": "scripted",
            "messages": [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "17 + 25?"}],
            "max_tokens": 50,
            "seed": 7,
            "stream": True,
            "ponder": {
                "strategy": "best_of_n",
                "n": 3,
                "verifier": {"number": 42},
                "budget": {"tokens": 500, "seconds": 9.0, "thinking_tokens": 0},
                "dry_run": False,
                "show_nodes": True,
            },
        }
    ]
    assert by_effort.sent[0]["ponder"]["effort"] == "low"
    assert by_effort.sent[0]["model"] == "scripted@auto"
    assert {name: odd.sent[0]["ponder"][name] for name in "nxy"} == {"n": "NaN", "x": "1e999", "y": "a=b"}
    assert (odd.status, wrong.status, wrong.sent) == (1, 2, [])


async def test_json_is_the_whole_trace(serve, ask) -> None:
    """`--json` prints the trace as the server keeps it, with its `ponder` object."""
    async with serve(STEPS) as served:
        asked = await ask(served, "What?", *BEAM, "--json", terminal=(80, 24))
        trace = json.loads(asked.stdout)
        kept = (await served.client.get(f"/v1/traces/{trace['id']}")).json()
    assert asked.screen == asked.stderr == ""
    assert trace == kept
    assert (trace["status"], trace["ponder"]["strategy"]) == ("completed", "beam_search")
    assert "chosen" in {node["state"] for node in trace["nodes"]}


async def test_a_dry_run_prints_the_plan_and_generates_nothing(serve, ask) -> None:
    """The plan is a table, or JSON with `--json`."""
    async with serve() as served:
        table = await ask(served, "What is 17 + 25?", "--dry-run", terminal=(100, 24))
        as_json = await ask(served, "What is 17 + 25?", "--dry-run", "--json")
        assert served.engine.branches == []
    rows = dict(
        re.split(r"\s{2,}", line.strip(), maxsplit=1) for line in table.screen.splitlines() if not line.startswith("  ")
    )
    assert list(rows) == ["difficulty", "strategy", "why", "tokens", "FLOPs", "seconds"]
    assert 0 < float(rows["difficulty"]) < 1
    assert rows["strategy"].startswith("adaptive n=8")
    assert "general" in rows["why"]
    assert re.fullmatch(r"[\d,]+ in 8 branches", rows["tokens"])
    assert re.fullmatch(r"[\d.]+ MFLOPs", rows["FLOPs"])
    assert json.loads(as_json.stdout)["object"] == "ponder.preview"


@pytest.mark.parametrize(
    ("number", "shown"),
    [(0, "0 FLOPs"), (999, "999 FLOPs"), (999_600, "1 MFLOPs"), (3_210_000_000_000, "3.21 TFLOPs"), (5e22, "5e+04 EFLOPs")],
)
def test_flops_in_a_readable_unit(number: float, shown: str) -> None:
    """A number has three digits and the unit that suits it."""
    assert search_view.format_flops(number) == shown


def test_notes_end_the_summary() -> None:
    """The summary stays one line when notes have several."""
    account = {
        "strategy": "mcts", "stop_reason": "settled", "tokens": {"decoded": 1234}, "flops": {"total": 5e9}, "notes": ["fell\nback"],
    }  # fmt: skip
    assert search_view.summary_line(account, 1.26) == "mcts · settled · 1,234 tokens · 5 GFLOPs · 1.3 s · fell back"


async def test_refusals_are_one_line_in_the_server_s_words(serve, ask) -> None:
    """The exit status is 1, and a message that quotes the request is escaped like any other text."""
    async with serve() as served:
        parameter = await ask(served, "Hi", "--strategy", "direct", "--param", "n=2")
        model = await ask(served, "Hi", "--model", "x\x1b[2J\ny")
        preview = await ask(served, "Hi", "--dry-run", "--model", "nobody", terminal=(80, 24))
        trace = await ask(served, "Hi", change=lambda content: b"<html>" if b"[DONE]" in content else content)
        html = await ask(served, "Hi", change=lambda _content: b"<html>")
    assert [asked.status for asked in (parameter, model, preview, trace, html)] == [1] * 5
    assert parameter.stdout == "ponder: direct: ponder.n: this field is not supported\n"
    assert model.stdout == "ponder: The model `x\\x1b[2J y` does not exist.\n"
    assert preview.stdout == "ponder: The model `nobody` does not exist.\n"
    assert trace.stdout == "ponder: the answer broke off\n"
    assert html.stdout == "ponder: 200: this is not a ponder server\n"


async def test_an_error_in_the_stream_is_printed_after_the_drawing_is_erased(serve, ask) -> None:
    """An error that arrives after the stream has begun ends the command with status 1."""
    error = b'data: {"error": {"message": "The engine died.\\u001b[2J"}}\n\ndata: [DONE]\n\n'
    async with serve(STEPS) as served:
        asked = await ask(
            served, "What?", *BEAM, terminal=(80, 24), change=lambda content: content.replace(b"data: [DONE]\n\n", error)
        )
    assert asked.status == 1
    assert asked.stdout == "ponder: The engine died.\\x1b[2J\n"
    assert final_lines(asked.screen) == [""]


async def test_the_key_is_taken_from_the_environment_or_the_option(serve, ask, monkeypatch) -> None:
    """The option wins over `PONDER_API_KEY`."""
    async with serve(["It is 42."], api_keys="sk-one") as served:
        without = await ask(served, "Hi")
        monkeypatch.setenv("PONDER_API_KEY", "sk-one")
        assert (await ask(served, "Hi")).status == 0
        wrong = await ask(served, "Hi", "--key", "sk-two")
    assert (without.status, wrong.status) == (1, 1)
    assert "API key" in without.stdout


@pytest.mark.parametrize("url", ["http://127.0.0.1:{port}", "http://[", "ftp://127.0.0.1", "nowhere"])
def test_an_unreachable_server_is_an_error_in_one_line(url: str) -> None:
    """Every wrong address gives the same kind of line."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        url = url.format(port=free.getsockname()[1])
        result = CliRunner().invoke(cli.app, ("ask", "Hi", "--url", url))
    assert result.exit_code == 1
    assert re.fullmatch(rf"ponder: no answer from {re.escape(url)}: .+\n", result.stdout)


async def until(holds) -> None:
    """Wait until `holds()` is true. It is polled, because no event announces it."""
    async with asyncio.timeout(30):
        while not holds():  # noqa: ASYNC110
            await asyncio.sleep(0.01)


async def test_ctrl_c_ends_the_work_on_the_server(serve) -> None:
    """The exit status is 130, the connection is closed, and the server ends the branches."""
    async with serve(["word " * 400], seconds_per_token=0.05) as served:
        server = uvicorn.Server(uvicorn.Config(served.app, port=0, log_config=None, access_log=False, lifespan="off"))
        serving = asyncio.create_task(server.serve())
        await until(lambda: server.started)
        port = server.servers[0].sockets[0].getsockname()[1]
        asking = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "app.cli", "ask", "Hi", "--url", f"http://127.0.0.1:{port}",
            "--strategy", "best_of_n", "--param", "n=3",
            stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
        )  # fmt: skip
        await until(lambda: len(served.engine.live) == 3)
        asking.send_signal(signal.SIGINT)
        stdout, stderr = await asking.communicate()
        await until(lambda: not served.engine.live)
        server.should_exit = True
        await serving
    assert (asking.returncode, stdout, stderr) == (130, b"", b"")
