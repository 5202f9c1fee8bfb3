"""What a visitor does: ask, watch, switch, cancel, and read what it cost. In a real browser, over the scripted engine."""

from functools import partial

import httpx
import pytest
from playwright.sync_api import Route, expect

from adapters.weights import BaseModel
from app.engine.scripted import SMALL, ScriptedEngine
from tests import peft_folder
from tests.example_policies import policy
from tests.playground.conftest import until
from tests.playground.visitor import ask, finished, steps
from tests.thinkers import MARKS, thinker

BASE = BaseModel("scripted", SMALL.num_layers, SMALL.linear_modules)


def test_one_button_and_a_tree_grows(site, look) -> None:
    """The example is there already. Steps come while it runs, with plan and reason; then one is the winner, and its path is marked."""
    with site(seconds_per_token=0.05) as served:
        page = look.at(served)
        assert "legs" in page.input_value("#question")
        ask(page)
        counts = []
        expect(page.locator("#plan")).to_contain_text("beam_search")
        assert page.locator("#cancel").is_visible()
        while not page.locator("#cost").is_visible():
            if (now := steps(page)) not in counts:
                counts.append(now)
        assert counts == sorted(counts)
        assert len(counts) >= 4
        expect(page.locator("[role=treeitem].chosen")).to_have_count(1)
        assert page.locator("[role=treeitem].best").count() == page.locator(".edges .best").count() >= 3
        assert page.locator("[role=treeitem].pruned").count() > 0
        expect(page.locator("article.model .said")).to_contain_text("76")
        expect(page.locator("#live")).to_contain_text("Answer:")
        expect(page.locator("#cost")).to_contain_text("FLOP")
        trace = httpx.get(f"{served.url}/v1/traces").json()["data"][0]
        expect(page.locator("#tree-count")).to_contain_text(f"{trace['num_nodes']} steps")


def test_every_strategy_can_be_asked_from_the_page(site, look) -> None:
    """With nothing set but its name; votes are leaves below the prompt. The model thinks, since one strategy needs that."""
    thinks = partial(ScriptedEngine, thinking=MARKS)
    with site(thinker(" Seven? No. </think>\n\nIt is 42."), kind=thinks) as served:
        page = look.at(served)
        names = page.locator("#strategy option").all_text_contents()
        for number, name in enumerate(names):
            page.select_option("#strategy", name)
            ask(page, "What is 17 + 25?")
            said = page.locator("article.model").nth(number).locator(".said")
            expect(said).to_contain_text("42")
            expect(page.locator("#send")).to_be_visible()
            expect(page.locator("[role=treeitem].chosen")).not_to_have_count(0)


def test_an_adapter_is_switched_between_two_questions(site, look, tmp_path) -> None:
    """The menu has the models without those names that carry a strategy; the answer is the adapter's."""
    (tmp_path / "import").mkdir()
    peft_folder.write(tmp_path / "import" / "red", BASE, seed=1)
    with site(["42"], adapter_import_dir=tmp_path / "import") as served:
        httpx.post(f"{served.url}/v1/adapters", json={"name": "red", "path": "red"}).raise_for_status()
        page = look.at(served)
        assert page.locator("#model option").all_text_contents() == ["scripted", "red", "auto"]
        ask(page, "What is 17 + 25?")
        finished(page)
        page.select_option("#model", "red")
        ask(page, "What is 17 + 25?")
        expect(page.locator("article.model").nth(1).locator(".said")).to_contain_text("red:")
        expect(page.locator("#plan")).to_contain_text("red:")


@pytest.mark.parametrize("by", ["button", "escape"])
def test_cancel_ends_every_branch(site, look, by: str) -> None:
    with site(seconds_per_token=0.3) as served:
        page = look.at(served)
        ask(page)
        until(lambda: served.engine.live)
        page.click("#cancel") if by == "button" else page.keyboard.press("Escape")
        until(lambda: not served.engine.live)
        expect(page.locator("article.model")).to_contain_text("Cancelled")
        expect(page.locator("#send")).to_be_visible()
        until(lambda: httpx.get(f"{served.url}/v1/traces").json()["data"][0]["status"] == "cancelled")


def test_difficulty_and_the_reason_of_a_calibrated_plan_are_shown(site, look) -> None:
    with site(["It is 42."]) as served:
        body = policy(model="scripted", hard=0.7).model_dump_json()
        httpx.put(f"{served.url}/v1/policies/scripted", content=body).raise_for_status()
        page = look.at(served)
        page.select_option("#strategy", "auto")
        ask(page, "What is 17 + 25?")
        finished(page)
        expect(page.locator("#plan")).to_contain_text("calibrated")
        expect(page.locator("#plan .gauge").first).to_contain_text("70 %")


def test_what_was_spent_is_held_against_sixteen_answers(site, look) -> None:
    """As the account has it; where the server cannot tell, nothing is said."""
    with site(["It is 42."]) as served:
        page = look.at(served)
        page.select_option("#strategy", "self_consistency")
        ask(page, "What is 17 + 25?")
        finished(page)
        trace = httpx.get(f"{served.url}/v1/traces").json()["data"][0]["id"]
        flops = httpx.get(f"{served.url}/v1/traces/{trace}").json()["ponder"]["flops"]
        share = f"{flops['total'] / flops['best_of_16']:.2f} of best-of-16"
        expect(page.locator("#against")).to_contain_text(share)

        def keep_silent(route: Route) -> None:
            reply = route.fetch()
            route.fulfill(response=reply, body=reply.text().replace(f'"best_of_16":{flops["best_of_16"]}', '"best_of_16":null'))

        page.route("**/v1/traces/*", keep_silent)
        page.click("#open-traces")
        page.locator("#traces .runs button").click()
        expect(page.locator("#against")).to_have_count(0)
        expect(page.locator("#cost")).to_be_visible()


def test_what_stopping_early_has_saved_is_told(site, look) -> None:
    """A vote whose first wave agrees draws no second one."""
    with site(["It is 42."]) as served:
        page = look.at(served)
        page.select_option("#strategy", "self_consistency")
        page.click("#settings summary")
        page.fill("#parameter-n", "8")
        page.select_option("#parameter-schedule", "waves")
        ask(page, "What is 17 + 25?")
        finished(page)
        trace = httpx.get(f"{served.url}/v1/traces").json()["data"][0]["id"]
        flops = httpx.get(f"{served.url}/v1/traces/{trace}").json()["ponder"]["flops"]
        assert flops["saved_by_early_stopping"] > 0
        expect(page.locator("#cost")).to_contain_text("Saved by stopping early")
        expect(page.locator("#plan")).to_contain_text("more would not change the answer")
