"""How each state looks, to whom it is accessible, and by what it is reached: layout against committed references, axe, the keyboard alone.

`UPDATE_STATES=1` writes the references anew: `states/*.json` has the boxes of the regions in pixels, `states/*.png` small pictures.
"""

import io
import json
import os
from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image, ImageChops
from playwright.sync_api import Page, expect

from tests.playground.conftest import Dying, Stalling

STATES = Path(__file__).parent / "states"
AXE = Path(__file__).parent / "vendor" / "axe-core" / "axe.min.js"
PHONE = {"width": 360, "height": 740}
REGIONS = (
    "header", "#chat", "#messages", "#composer", "#send", "#cancel", "#settings", "#key-form", "#search", "#tree-box", "#node", "#plan",
    "#cost", "dialog[open]",
)  # fmt: skip
NEAR_PX = 8
SCALE = 8
UNLIKE = 40
"""Of 255: by so much two small pixels differ that look different."""


def nothing(_page: Page) -> None:
    """The page as it opens."""


def answered(page: Page) -> None:
    page.click("#send")
    expect(page.locator("#cost")).to_be_visible()
    page.locator("[role=treeitem].chosen").click()
    expect(page.locator("#node")).to_be_visible()
    page.wait_for_timeout(500)  # until all is where it belongs
    page.evaluate("scrollTo(0, 0); document.activeElement.blur()")


def running(page: Page) -> None:
    page.click("#send")
    expect(page.locator("#plan")).to_be_visible()
    expect(page.locator("#cancel")).to_be_visible()
    page.evaluate("scrollTo(0, 0)")


def growing(page: Page) -> None:
    running(page)
    expect(page.locator("[role=treeitem]")).to_have_count(FIRST_WAVE)
    expect(page.locator("[role=treeitem].thinking")).not_to_have_count(0)
    page.wait_for_timeout(500)


def failed(page: Page) -> None:
    page.click("#send")
    expect(page.locator("article.model [role=alert]")).to_contain_text("engine died")
    expect(page.locator("[role=treeitem]")).not_to_have_count(0)
    page.evaluate("scrollTo(0, 0); document.activeElement.blur()")


def refused(page: Page) -> None:
    page.click("#settings summary")
    page.fill("#parameter-expand", "3")
    page.click("#send")
    expect(page.locator("[role=alert]")).to_be_visible()
    page.click("#settings summary")


def cancelled(page: Page) -> None:
    running(page)
    page.click("#cancel")
    expect(page.locator("article.model")).to_contain_text("Cancelled")
    page.evaluate("scrollTo(0, 0)")


def settings(page: Page) -> None:
    page.click("#settings summary")


def looking_back(page: Page) -> None:
    answered(page)
    page.click("#open-traces")
    expect(page.locator("#traces .runs li")).to_have_count(1)


def administering(page: Page) -> None:
    page.click("#open-admin")
    expect(page.locator("#admin")).to_contain_text("Policies")


def read_as_list(page: Page) -> None:
    answered(page)
    page.click("#outline summary")


FIRST_WAVE = 4
"""Cards of it: eight steps, of which some say the same."""
SLOW = {"seconds_per_token": 30.0}
CASES: dict[str, tuple[Callable[[Page], None], dict, dict]] = {
    "start": (nothing, {}, {}),
    "start-dark": (nothing, {}, {"color_scheme": "dark"}),
    "start-phone": (nothing, {}, {"viewport": PHONE}),
    "running": (growing, {"kind": Stalling}, {}),
    "answered": (answered, {}, {}),
    "answered-dark": (answered, {}, {"color_scheme": "dark"}),
    "answered-phone": (answered, {}, {"viewport": PHONE, "has_touch": True}),
    "list": (read_as_list, {}, {}),
    "cancelled": (cancelled, SLOW, {}),
    "failed": (failed, {"kind": Dying}, {}),
    "refused": (refused, {}, {}),
    "settings": (settings, {}, {}),
    "settings-phone": (settings, {}, {"viewport": PHONE}),
    "key": (nothing, {"api_keys": "secret"}, {}),
    "traces": (looking_back, {}, {}),
    "administration": (administering, {}, {}),
}


@pytest.mark.parametrize("name", CASES)
def test_each_state_looks_as_it_did_and_is_accessible(site, look, name: str) -> None:
    """Boxes within a few pixels, small pictures nearly alike, no violation that axe knows, and nothing wider than the screen."""
    reach, served_with, options = CASES[name]
    with site(**served_with) as served:
        page = look.at(served, expected=("400", "401"), reduced_motion="reduce", **options)
        reach(page)
        seen = boxes(page)
        picture = small(page.screenshot(animations="disabled", caret="hide"))
        assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
        assert violations(page) == []
        page.context.close()
    if os.environ.get("UPDATE_STATES"):
        STATES.mkdir(exist_ok=True)
        (STATES / f"{name}.json").write_text(json.dumps(seen, indent=1) + "\n")
        picture.save(STATES / f"{name}.png", optimize=True)
    assert_near(seen, json.loads((STATES / f"{name}.json").read_text()))
    assert unlike(picture, Image.open(STATES / f"{name}.png")) < 0.04


def boxes(page: Page) -> dict[str, list[int]]:
    """Left, top, width and height of what is visible."""
    found = {region: page.locator(region) for region in REGIONS}
    return {
        region: [round(value) for value in (box["x"], box["y"], box["width"], box["height"])]
        for region, one in found.items()
        if (box := one.bounding_box() if one.count() else None) is not None
    }


def assert_near(seen: dict[str, list[int]], wanted: dict[str, list[int]]) -> None:
    assert set(seen) == set(wanted)
    far = {
        region: (box, wanted[region])
        for region, box in seen.items()
        if any(abs(a - b) > NEAR_PX for a, b in zip(box, wanted[region], strict=True))
    }
    assert far == {}


def small(screenshot: bytes) -> Image.Image:
    """Without colour and detail, which machines draw differently."""
    return Image.open(io.BytesIO(screenshot)).convert("L").reduce(SCALE)


def unlike(a: Image.Image, b: Image.Image) -> float:
    """The share of pixels that look different."""
    assert a.size == b.size
    differences = ImageChops.difference(a, b).histogram()
    return sum(differences[UNLIKE:]) / (a.width * a.height)


def violations(page: Page) -> list[str]:
    """What axe finds by WCAG 2.2 AA and good practice; a card shows the beginning of a step, which its name has whole."""
    page.evaluate(AXE.read_text())
    found = page.evaluate(
        "axe.run({ runOnly: ['wcag2a', 'wcag2aa', 'wcag21a', 'wcag21aa', 'wcag22aa', 'best-practice'],"
        " rules: { 'label-content-name-mismatch': { enabled: false } } }).then(r => r.violations)"
    )
    return [f"{one['id']}: {node['html']} {node['failureSummary']}" for one in found for node in one["nodes"]]


def test_all_of_it_is_reached_by_keyboard(site, look) -> None:
    """From the top: skip to the question, ask by Enter, walk the tree by arrows, open a step, look back, close by Escape."""
    with site() as served:
        page = look.at(served)
        press = page.keyboard.press
        press("Tab")
        expect(page.locator(".skip")).to_be_focused()
        press("Enter")
        expect(page.locator("#question")).to_be_focused()
        press("Enter")
        expect(page.locator("#cost")).to_be_visible()
        for _ in range(20):
            press("Tab")
            if page.evaluate("document.activeElement.getAttribute('role')") == "treeitem":
                break
        expect(page.locator("[role=treeitem].chosen")).to_be_focused()
        press("Enter")
        expect(page.locator("#node")).to_contain_text("chosen answer")
        press("ArrowLeft")
        expect(page.locator("[role=treeitem]:focus")).to_have_attribute("aria-level", "3")
        expect(page.locator("#node pre")).to_contain_text("60+16 = 76")
        press("Home")
        press("ArrowDown")
        expect(page.locator("[role=treeitem]:focus")).to_have_attribute("aria-selected", "true")
        press("ArrowRight")
        assert page.evaluate("getComputedStyle(document.activeElement.querySelector('.box')).strokeWidth") == "3px"
        page.focus("#open-traces")
        press("Enter")
        expect(page.locator("#traces .runs button")).to_have_count(1)
        press("Escape")
        expect(page.locator("#traces")).to_be_hidden()
        expect(page.locator("#open-traces")).to_be_focused()


def test_whoever_listens_hears_how_it_goes(site, look) -> None:
    """A polite live region tells the beginning, the progress and the answer; each step has a name, a level and a place."""
    with site(seconds_per_token=0.02) as served:
        page = look.at(served)
        page.evaluate(
            "() => { window.heard = []; new MutationObserver(() => heard.push(document.getElementById('live').textContent))"
            ".observe(document.getElementById('live'), { childList: true, characterData: true, subtree: true }); }"
        )
        page.click("#send")
        expect(page.locator("#cost")).to_be_visible()
        heard = page.evaluate("heard")
        assert heard[0] == "The search begins."
        assert heard[-1].startswith("Answer:")
        chosen = page.locator("[role=treeitem].chosen")
        expect(chosen).to_have_attribute("aria-level", "4")
        label = chosen.get_attribute("aria-label") or ""
        assert label.startswith("chosen answer: #### 76")
        assert "value" in label


def test_who_wants_no_motion_sees_none(site, look) -> None:
    with site(seconds_per_token=30) as served:
        page = look.at(served, reduced_motion="reduce")
        page.click("#send")
        page.wait_for_selector(".pulse")
        assert page.evaluate("document.getAnimations().length") == 0
        page.keyboard.press("Escape")
