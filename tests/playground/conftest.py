"""A real browser before a real server over the scripted engine."""

import asyncio
import socket
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

import pytest
import uvicorn
from playwright.sync_api import Browser, Page, sync_playwright

from app.engine.base import Branch, Output
from app.engine.scripted import Script, ScriptedEngine, cycle
from app.main import create_app
from app.settings import Settings
from tests.tools import tool

ARGUMENTS = [
    "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking", "--disable-component-update",
    "--disable-sync", "--force-color-profile=srgb", "--font-render-hinting=none",
]  # fmt: skip
DESKTOP = {"width": 1360, "height": 860}


def story(text: str, serial: int) -> str:
    """A sum in three lines and a result; every third attempt at a line is wrong, so that there is something to prune."""
    said = text.rpartition("assistant:")[2]
    lines = [
        ["3 shirts: 3*20 = 60\n", "Shirts cost 3*20 = 60\n", "3*20 = 80\n"],
        ["2 hats: 2*8 = 16\n", "Hats cost 2*8 = 16\n", "2*8 = 18\n"],
        ["60+16 = 76\n", "Together 60+16 = 76\n", "60+16 = 86\n"],
        ["#### 76", "#### 76", "#### 86"],
    ]
    return lines[min(said.count("\n"), 3)][serial % 3]


class Stalling(ScriptedEngine):
    """Its first wave answers at once; the steps after it do not end before they are halted."""

    def generate(self, branch: Branch) -> AsyncIterator[Output]:
        if len(branch.prefix) > len(branch.prompt.token_ids):
            self._seconds_per_token = 30.0
        return super().generate(branch)


class Dying(ScriptedEngine):
    """Its first wave answers at once; then it is dead."""

    def generate(self, branch: Branch) -> AsyncIterator[Output]:
        if len(branch.prefix) > len(branch.prompt.token_ids):
            self.die()
        return super().generate(branch)


class Site:
    """A server in a thread of its own."""

    def __init__(self, engine: ScriptedEngine, url: str) -> None:
        self.engine, self.url = engine, url


Serve = Callable[..., AbstractContextManager[Site]]


@pytest.fixture
def site(tmp_path: Path) -> Serve:
    """`with site(script, kind=…, seconds_per_token=…, some_setting=…) as served`."""

    @contextmanager
    def served(
        script: Script | list[str] = story,
        *,
        kind: type[ScriptedEngine] = ScriptedEngine,
        seconds_per_token: float = 0.0,
        **settings: object,
    ) -> Iterator[Site]:
        engine = kind(cycle(script) if isinstance(script, list) else script, seconds_per_token=seconds_per_token)
        usual = {"adapter_dir": tmp_path / "adapters", "policy_dir": tmp_path / "policies", "shipped_adapters": False}
        app = create_app(Settings(**{**usual, **settings}), engine)
        with socket.create_server(("127.0.0.1", 0)) as listener:
            server = uvicorn.Server(uvicorn.Config(app, log_config=None, access_log=False, timeout_graceful_shutdown=1))
            thread = threading.Thread(target=lambda: asyncio.run(server.serve(sockets=[listener])))
            thread.start()
            until(lambda: server.started)
            try:
                yield Site(engine, f"http://127.0.0.1:{listener.getsockname()[1]}")
            finally:
                server.should_exit = True
                thread.join(20)

    return served


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """Chromium. For one module at a time: playwright's loop runs in this thread, and other tests want to run theirs."""
    path = tool("chromium")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=ARGUMENTS)
        yield browser
        browser.close()


class Look:
    """Opens pages, and holds them to what must be true of all of them: no error, no word on the console, no other origin."""

    def __init__(self, browser: Browser) -> None:
        self._browser = browser
        self._faults: list[str] = []

    def at(self, site: Site, *, expected: tuple[str, ...] = (), **options: object) -> Page:
        """The playground in a new context. `expected`: what the console may say, such as of a status that a test provokes."""
        context = self._browser.new_context(**{"viewport": DESKTOP, "color_scheme": "light", "locale": "en-GB", **options})
        page = context.new_page()
        page.set_default_timeout(15_000)
        page.on("pageerror", lambda error: self._faults.append(str(error)))
        page.on("console", lambda said: None if any(one in said.text for one in expected) else self._faults.append(said.text))
        page.on("request", lambda sent: None if sent.url.startswith(site.url + "/") else self._faults.append(sent.url))
        page.goto(f"{site.url}/playground")
        page.wait_for_selector("html[data-ready]")
        # The fonts that Debian's chromium has, whatever else a machine may have.
        page.evaluate(
            "() => { const s = document.documentElement.style;"
            " s.setProperty('--sans', '\"DejaVu Sans\"'); s.setProperty('--mono', '\"DejaVu Sans Mono\"'); }"
        )
        return page

    def close(self) -> None:
        """Nothing may have gone wrong."""
        for context in self._browser.contexts:
            context.close()
        assert self._faults == []


@pytest.fixture
def look(browser: Browser) -> Iterator[Look]:
    look = Look(browser)
    yield look
    look.close()


def until(holds: Callable[[], object], seconds: float = 10) -> None:
    """Wait for something that no event tells."""
    deadline = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.01)
