"""The README's pictures of the playground, taken of a server that runs: `python scripts/screenshots.py [URL]`, by default port 8000.

Nothing is staged: the first example is asked, and what comes is shown. Only the seed is chosen, so that the pictures can be taken again and
both show the same search: with it the embedded model's answer, 186, is right, which it is not always at the example's temperature.
"""

import shutil
import sys
from pathlib import Path

from playwright.sync_api import Browser, sync_playwright

HERE = Path(__file__).parent.parent / "app" / "playground" / "screenshots"
TREE = {"viewport": {"width": 1360, "height": 850}, "color_scheme": "light"}
SEED = "1"
PHONE = {"viewport": {"width": 390, "height": 800}, "color_scheme": "dark", "has_touch": True, "device_scale_factor": 1.5}


def take(browser: Browser, url: str, name: str, options: dict) -> None:
    """Set the seed, ask, wait for the answer, choose the winner."""
    page = browser.new_page(**options)
    page.goto(f"{url}/playground")
    page.wait_for_selector("html[data-ready]")
    page.click("#settings summary")
    page.fill("#request-seed", SEED)
    page.click("#settings summary")
    page.click("#send")
    page.wait_for_selector("#cost:not([hidden])", timeout=300_000)
    page.locator("[role=treeitem].chosen").first.click()
    page.wait_for_timeout(800)
    if name == "phone":
        page.locator("#search").scroll_into_view_if_needed()
        page.evaluate("document.getElementById('search').scrollIntoView()")
    page.evaluate("document.activeElement.blur(); if (innerWidth > 960) document.getElementById('search').scrollTop = 0")
    page.screenshot(path=HERE / f"{name}.png", animations="disabled")
    page.close()


def main() -> None:
    """Both of them."""
    url = sys.argv[1] if len(sys.argv) > 1 else "http://127.0.0.1:8000"
    HERE.mkdir(exist_ok=True)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=["--no-sandbox"])
        take(browser, url, "tree", TREE)
        take(browser, url, "phone", PHONE)
        browser.close()


if __name__ == "__main__":
    main()
