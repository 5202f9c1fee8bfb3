"""What the documents show is run as it stands, against the real server.

All blocks of one document run in order: its Python blocks as one program, its shell blocks as one script each. A block that cannot
run here is marked in the document with its reason (`<!-- not run: … -->`), and is read for mistakes by `tests/docs`.
"""

import json
import shutil
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import httpx
import pytest

from tests.documents import DOCUMENTS, Block, run_blocks
from tests.server import ENVIRONMENT
from tests.tools import ROOT

pytestmark = [pytest.mark.vllm, pytest.mark.timeout(1000)]

ADAPTER = ROOT / "tests" / "data" / "adapters" / "red"
LIMIT_S = 900


def of(language: str) -> pytest.MarkDecorator:
    """Parametrise over the documents that have blocks to run in a language."""
    paths = [path for path in DOCUMENTS if run_blocks(path, language)]
    return pytest.mark.parametrize("path", paths, ids=lambda path: str(path.relative_to(ROOT)))


@pytest.fixture(scope="module")
def version(server) -> str:
    """The first eight digits of the adapter that stands for a reader's own: it is kept, but not served, when the documents run."""
    with httpx.Client(base_url=server.url, timeout=300) as client:
        files = [("files", (file.name, file.read_bytes())) for file in sorted(ADAPTER.iterdir())]
        version = client.post("/v1/adapters", data={"name": "sums"}, files=files).raise_for_status().json()["version"]
        client.delete("/v1/adapters/sums").raise_for_status()
    return version[:8]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A reader's working folder."""
    return with_adapter(tmp_path)


def with_adapter(folder: Path) -> Path:
    """Return the folder with an adapter of the reader's own in it, as a folder and as loose files."""
    shutil.copytree(ADAPTER, folder / "my-peft-folder")
    for file in ADAPTER.iterdir():
        shutil.copy(file, folder)
    return folder


def run(command: list[str], block: Block, server, folder: Path) -> str:
    """Run a command in the folder as a reader would; return what it prints."""
    environment = {
        **ENVIRONMENT,
        "PONDER_URL": server.url,
        "PONDER_ADAPTER_DIR": str(folder / "adapters"),
        "PATH": f"{Path(sys.executable).parent}:{ENVIRONMENT['PATH']}",
    }
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, timeout=LIMIT_S)
    assert done.returncode == 0, f"{block.name}\n{done.stdout[-2000:]}\n{done.stderr[-2000:]}"
    return done.stdout


def here(code: str, server) -> str:
    """The same code with this server's address."""
    return code.replace("localhost:8000", server.url.removeprefix("http://"))


@pytest.fixture(scope="module")
def runs(request, server, tmp_path_factory) -> Iterator[dict[Path, Future[str]]]:
    """Of the documents whose Python is to be tested, all programs: they run at once, since the engine answers them in one batch.

    Each line keeps its number, so that a traceback names the line of the document.
    """
    wanted = (item for item in request.session.items if item.function is test_python_runs)
    with ThreadPoolExecutor(4) as pool:
        yield {
            path: pool.submit(program, path, server, tmp_path_factory)
            for path in (item.callspec.params["path"] for item in wanted)
        }


def program(path: Path, server, tmp_path_factory) -> str:
    """Run the Python blocks of a document as one program."""
    lines: list[str] = []
    found = run_blocks(path, "python")
    for block in found:
        lines += [""] * (block.line - 1 - len(lines)) + block.code.splitlines()
    folder = with_adapter(tmp_path_factory.mktemp(path.stem))
    (folder / "document.py").write_text(here("\n".join(lines), server))
    return run([sys.executable, "document.py"], found[0], server, folder)


@of("python")
def test_python_runs(path, runs) -> None:
    runs[path].result()


@of("bash")
def test_shell_commands_run(path, server, folder, version) -> None:
    """The first command that fails ends a script."""
    for block in run_blocks(path, "bash"):
        code = here(block.code, server).replace("3f9a2c41", version).replace("curl ", "curl --fail-with-body --silent ")
        run(["bash", "-euo", "pipefail", "-c", code], block, server, folder)


def test_the_first_request_is_answered_right(server, folder) -> None:
    """The README's request gets the answer that the README shows, and a reply has every field that is shown.

    Its words and its cost differ by processor, since number formats do.
    """
    readme = ROOT / "README.md"
    command = next(block for block in run_blocks(readme, "bash") if block.code.startswith("curl"))
    reply = json.loads(run(["bash", "-ec", here(command.code, server)], command, server, folder))
    [shown] = run_blocks(readme, "json")
    expected = json.loads(shown.code)
    assert answer_in(reply) == answer_in(expected) == "50"
    assert expected["ponder"].keys() <= reply["ponder"].keys()
    assert reply["ponder"]["strategy"] == expected["ponder"]["strategy"]


def answer_in(reply: dict) -> str:
    """Return what the message says in the end."""
    return reply["choices"][0]["message"]["content"].rpartition("#### ")[2]
