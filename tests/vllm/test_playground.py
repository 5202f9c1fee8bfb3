"""The newcomer's first minute: the page in a real browser, before real vLLM with the embedded model and its adapter."""

import os
from collections.abc import Iterator

import pytest
from playwright.sync_api import Page, expect, sync_playwright

from tests.tools import tool

pytestmark = pytest.mark.vllm

TRIES = 4
"""How often the example is asked until its tree is seen to grow: a browser that other tests keep waiting shows it at once."""


@pytest.fixture
def all_processors(server) -> Iterator[None]:
    """A browser that must wait for the engine's processor shows the whole tree at once."""
    own = os.sched_getaffinity(0)
    os.sched_setaffinity(0, range(os.cpu_count()))
    yield
    os.sched_setaffinity(0, own)


def _grown(page: Page, url: str) -> list[int]:
    """Ask the example, and return the numbers of nodes that the page showed while it ran."""
    page.goto(f"{url}/playground")
    page.wait_for_selector("html[data-ready]")
    assert page.input_value("#model") == "reasoning"
    page.evaluate(
        "() => { window.counts = []; const count = () => document.querySelectorAll('[role=treeitem]').length;"
        " new MutationObserver(() => { if (!document.querySelector('#cancel').hidden) counts.push(count()); })"
        ".observe(document.querySelector('#tree'), { childList: true, subtree: true }); }"
    )
    page.click("#send")
    expect(page.locator("#cost")).to_be_visible(timeout=120_000)
    return page.evaluate("counts")


@pytest.mark.usefixtures("all_processors")
def test_the_example_grows_a_tree(server) -> None:
    """Nothing is typed: one button, steps that come while it runs, a winner, and an account in FLOPs."""
    path = tool("chromium")
    with sync_playwright() as playwright, playwright.chromium.launch(executable_path=path, args=["--no-sandbox"]) as browser:
        page = browser.new_page()
        page.set_default_timeout(120_000)
        faults: list[str] = []
        page.on("pageerror", lambda error: faults.append(str(error)))
        page.on("console", lambda said: faults.append(said.text))
        page.on("request", lambda sent: None if sent.url.startswith(server.url + "/") else faults.append(sent.url))
        for _ in range(TRIES):
            counts = _grown(page, server.url)
            if len(set(counts)) > 2:
                break
        expect(page.locator("[role=treeitem].chosen")).to_have_count(1)
        assert counts == sorted(counts)
        assert len(set(counts)) > 2
        assert page.locator("[role=treeitem].best").count() > 1
        expect(page.locator("#cost")).to_contain_text("GFLOP")
        expect(page.locator("#plan .gauge").first).to_contain_text("%")
        assert faults == []
    assert f"{server.url}/playground" in server.log.read_text()
