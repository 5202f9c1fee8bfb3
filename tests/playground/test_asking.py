"""What a visitor does: ask, watch, switch, cancel, be refused, look back. In a real browser, over the scripted engine."""

import json
import re

import httpx
import pytest
from playwright.sync_api import Page, Route, expect

from adapters.weights import BaseModel
from app.engine.scripted import SMALL
from benchmarks import peft_folder
from tests.playground.conftest import until
from tests.policies_made import policy

BASE = BaseModel("scripted", SMALL.num_layers, SMALL.linear_modules)
HOSTILE = (
    "<img src=x onerror=\"document.title='owned'\"><script>document.title='owned'</script>\n\n"
    "[press](javascript:document.title='owned') [data](data:text/html,<script>alert(1)</script>) ![pic](https://elsewhere.invalid/x.png)\n\n"
    "<style>body{display:none}</style> <svg onload=alert(1)> **bold** 17*23 = 391 and 2*3*4 `code` [good](https://good.invalid/a)\n\n"
    "| <b>a</b> | b |\n|---|---|\n| <i>1</i> | 2 |\n"
)


def steps(page: Page) -> int:
    return page.locator("[role=treeitem]").count()


def ask(page: Page, question: str | None = None) -> None:
    if question is not None:
        page.fill("#question", question)
    page.click("#send")


def finished(page: Page) -> None:
    expect(page.locator("#cost")).to_be_visible()
    expect(page.locator("#send")).to_be_visible()


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


def test_duplicates_of_a_step_are_one_card_until_they_are_asked_for(site, look) -> None:
    with site() as served:
        page = look.at(served)
        ask(page)
        finished(page)
        folded = page.locator("[role=treeitem].duplicate", has_text="+").first
        more = int((folded.locator(".visits").text_content() or "").removeprefix("+"))
        before = steps(page)
        folded.click()
        expect(page.locator("[role=treeitem]")).to_have_count(before + more)


def test_a_step_tells_all_about_itself(site, look) -> None:
    with site() as served:
        page = look.at(served)
        ask(page)
        finished(page)
        page.locator("[role=treeitem].chosen").click()
        expect(page.locator("#node")).to_contain_text("chosen answer")
        expect(page.locator("#node pre")).to_have_text("#### 76")
        for fact in ("Value", "Verdict on the step", "Tokens", "FLOPs", "Time", "Ended by"):
            expect(page.locator("#node dl")).to_contain_text(fact)


def test_only_what_was_set_is_sent(site, look) -> None:
    """Empty controls leave it to the server; the others arrive as what they are, and in the right place."""
    with site() as served:
        page = look.at(served)
        with page.expect_request("**/chat/completions") as asked:
            ask(page)
        finished(page)
        first = json.loads(asked.value.post_data or "")
        example = {"strategy": "beam_search", "verifier": "equations", "separator": "\n", "n": 8, "expand": 2}
        assert {key: first["ponder"][key] for key in example} == example
        assert (first["temperature"], first["max_tokens"]) == (1.2, 200)
        assert "seed" not in first
        assert "budget" not in first["ponder"]
        page.select_option("#strategy", "mcts")
        page.click("#settings summary")
        for name, value in {"iterations": "3", "separator": "\\n", "verifier": '{"number": 76}'}.items():
            page.fill(f"#parameter-{name}", value)
        page.select_option("#parameter-selection", "puct")
        for name, value in {"temperature": "0.9", "max_tokens": "40", "seed": "7"}.items():
            page.fill(f"#request-{name}", value)
        page.fill("[id='request-budget.flops']", "1e12")
        page.select_option("#request-effort", "high")
        with page.expect_request("**/chat/completions") as asked:
            ask(page, "And 3 hats?")
        page.wait_for_selector("article.model:nth-of-type(4) .said:not(:has(.progress))")
        sent = json.loads(asked.value.post_data or "")
        assert sent["ponder"] == {
            "show_nodes": True, "strategy": "mcts", "verifier": {"number": 76}, "separator": "\n", "iterations": 3, "selection": "puct",
            "effort": "high", "budget": {"flops": 1e12},
        }  # fmt: skip
        assert (sent["temperature"], sent["max_tokens"], sent["seed"]) == (0.9, 40, 7)
        assert [message["role"] for message in sent["messages"]] == ["user", "assistant", "user"]


def test_every_strategy_can_be_asked_from_the_page(site, look) -> None:
    """With nothing set but its name; votes are leaves below the prompt."""
    with site(["It is 42."]) as served:
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
        assert page.locator("#model option").all_text_contents() == ["scripted", "red"]
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


def test_a_refusal_is_told_in_the_servers_words(site, look) -> None:
    """And the question is there again, to be mended."""
    with site() as served:
        page = look.at(served, expected=("400",))
        page.click("#settings summary")
        page.fill("#parameter-expand", "3")
        ask(page)
        expect(page.locator("[role=alert]")).to_contain_text("n must be a multiple of expand")
        assert "legs" in page.input_value("#question")
        expect(page.locator("#send")).to_be_visible()


def test_what_is_no_json_is_not_sent(site, look) -> None:
    with site() as served:
        page = look.at(served)
        page.click("#settings summary")
        page.fill("#parameter-verifier", "{oops")
        ask(page)
        expect(page.locator("#live")).to_contain_text("verifier: this is not JSON")
        expect(page.locator("#parameter-verifier")).to_be_focused()
        assert not served.engine.branches


def test_an_error_in_the_middle_is_told(site, look) -> None:
    with site(seconds_per_token=0.2) as served:
        page = look.at(served, expected=("503",))
        ask(page)
        until(lambda: served.engine.live)
        served.engine.die()
        expect(page.locator("[role=alert]")).to_contain_text("engine died")


def test_a_key_is_asked_for_and_kept_in_this_tab_alone(site, look) -> None:
    with site(api_keys="secret") as served:
        page = look.at(served, expected=("401",))
        expect(page.locator("#key")).to_be_focused()
        page.fill("#key", "wrong")
        page.keyboard.press("Enter")
        expect(page.locator("#key-form")).to_be_visible()
        page.fill("#key", "secret")
        page.keyboard.press("Enter")
        expect(page.locator("#key-form")).to_be_hidden()
        assert page.locator("#model option").all_text_contents() == ["scripted"]
        ask(page)
        finished(page)
        stored = page.evaluate("[Object.values(sessionStorage).includes('secret'), localStorage.length, document.cookie]")
        assert stored == [True, 0, ""]


def test_a_past_run_is_opened_again_with_its_tree(site, look) -> None:
    """Named by its question in the tab that asked it; in another tab the server knows no question, and shows its number."""
    with site() as served:
        page = look.at(served)
        ask(page)
        finished(page)
        before = steps(page)
        page.select_option("#strategy", "direct")
        ask(page, "What is 17 + 25?")
        expect(page.locator("[role=treeitem]")).to_have_count(1)
        page.click("#open-traces")
        page.locator("#traces .runs button", has_text="legs").click()
        expect(page.locator("#traces")).to_be_hidden()
        expect(page.locator("[role=treeitem]")).to_have_count(before)
        expect(page.locator("#plan")).to_contain_text("beam_search")
        expect(page.locator("#cost")).to_be_visible()
        other = look.at(served)
        other.click("#open-traces")
        expect(other.locator("#traces .runs button")).to_have_count(2)
        expect(other.locator("#traces .name").first).to_have_text(re.compile("^Run [0-9a-f]{8}$"))


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


def test_hostile_words_stay_words(site, look) -> None:
    """In the answer, the tree, the step, the list and the live region: no element, no script, no link but to the web."""
    with site([HOSTILE]) as served:
        page = look.at(served)
        page.select_option("#strategy", "best_of_n")
        ask(page, "<img src=x onerror=\"document.title='owned'\">")
        finished(page)
        page.locator("[role=treeitem]").first.click()
        page.click("#outline summary")
        page.wait_for_timeout(300)
        assert page.title() == "ponder playground"
        said = page.locator("article.model .said")
        expect(said).to_contain_text("<img src=x")
        expect(said).to_contain_text("17*23 = 391 and 2*3*4")
        assert said.locator("strong").all_text_contents() == ["bold"]
        assert said.locator("img, script, style, svg, b, i, iframe").count() == 0
        assert page.locator("#messages img, #node img, #outline img, #tree img").count() == 0
        links = page.eval_on_selector_all("#messages a", "links => links.map(link => [link.href, link.rel])")
        rel = "noopener noreferrer nofollow"
        assert links == [["https://elsewhere.invalid/x.png", rel], ["https://good.invalid/a", rel]]


def test_markup_is_refused_by_the_browser_too(site, look) -> None:
    """Trusted types: were the page's own code to make HTML of a text, it would fail."""
    with site() as served:
        page = look.at(served, expected=("TrustedHTML",))
        refused = "() => { try { document.body.innerHTML = '<b>x</b>'; return 'made'; } catch (error) { return error.name; } }"
        assert page.evaluate(refused) == "TypeError"


def test_administration_is_loaded_with_its_key_only(site, look, tmp_path) -> None:
    """Nothing of it is asked for before the panel is opened; then a key is, and goes with these calls alone."""
    (tmp_path / "import").mkdir()
    for seed in (1, 2):
        peft_folder.write(tmp_path / "import" / f"red-{seed}", BASE, seed=seed)
    with site(admin_keys="admin", adapter_import_dir=tmp_path / "import") as served:
        admin = {"Authorization": "Bearer admin"}
        for seed in (1, 2):
            body = {"name": "red", "path": f"red-{seed}"}
            httpx.post(f"{served.url}/v1/adapters", json=body, headers=admin).raise_for_status()
        put = httpx.put(f"{served.url}/v1/policies/scripted", content=policy(model="scripted").model_dump_json(), headers=admin)
        put.raise_for_status()
        page = look.at(served, expected=("401",))
        sent: list[tuple[str, str | None]] = []
        page.on("request", lambda request: sent.append((request.url, request.headers.get("authorization"))))
        page.click("#open-admin")
        page.fill("#admin-key", "admin")
        page.keyboard.press("Enter")
        red = page.get_by_role("article", name="Adapter red")
        expect(red.locator(".versions .tag")).to_have_count(1)
        first, second = red.locator("li").all()
        expect(second).to_contain_text("served")
        first.get_by_role("button", name="Serve version").click()
        expect(first).to_contain_text("served")
        red.get_by_role("button", name="Remove red").click()
        assert httpx.get(f"{served.url}/v1/adapters", headers=admin).json()["data"], "asked once more before"
        red.get_by_role("button", name="Remove red").click()
        expect(red).to_have_count(0)
        kept = page.get_by_role("article", name="Policy of scripted")
        kept.get_by_role("button", name="Use none").click()
        expect(kept.locator(".tag")).to_have_text("none")
        assert httpx.get(f"{served.url}/v1/policies", headers=admin).json()["data"][0]["current"] is None
        assert {key for url, key in sent if "/v1/models" in url} == {None}
        assert page.locator("#model option").all_text_contents() == ["scripted"]


def test_a_large_tree_stays_fast(site, look) -> None:
    """Two thousand steps: as many as there is room for are drawn, the rest is told, and a drawing takes a fraction of a second."""
    with site() as served:
        page = look.at(served)
        ask(page)
        finished(page)
        took = page.evaluate(
            """async () => {
              const { Run } = await import('/playground/run.js');
              const { TreeView } = await import('/playground/tree.js');
              const node = (id) => ({
                id, parent: id < 4 ? null : Math.floor(id / 4) - 1, state: 'pruned', text: `step ${id}`, value: (id % 10) / 10,
                verdict: null, visits: 1, answer: null, tokens: 3, cached_tokens: 0, flops: 5, seconds: 0, started: 0,
                finish_reason: 'step',
              });
              const run = new Run('many', 'mcts');
              run.takeNodes(Array.from({ length: 2000 }, (_, id) => node(id)));
              document.getElementById('tree').replaceChildren();
              const view = new TreeView(() => {});
              view.draw(run);
              const began = performance.now();
              const left = view.draw(run);
              return [performance.now() - began, left, document.querySelectorAll('[role=treeitem]').length];
            }"""
        )
    assert took[1:] == [800, 1200]
    assert took[0] < 1000
