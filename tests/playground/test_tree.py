"""The tree, of a run that is now or has been."""

import re

import httpx
from playwright.sync_api import expect

from tests.playground.visitor import ask, finished, steps


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
        for fact in ("Value", "Score of the step", "Tokens", "FLOPs", "Time", "Ended by"):
            expect(page.locator("#node dl")).to_contain_text(fact)


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


LARGE = """
async ({ states, path }) => {
  const { Run } = await import('/playground/run.js');
  const { TreeView } = await import('/playground/tree.js');
  const node = (state, id) => ({
    id, prompt: 0, parent: id < 4 ? null : Math.floor(id / 4) - 1, state, text: `step ${id}`, value: (id % 10) / 10,
    score: null, visits: 1, answer: null, tokens: 3, cached_tokens: 0, flops: 5, seconds: 0, started: 0, finish_reason: 'step',
  });
  const run = new Run('many', 'mcts');
  run.takeNodes(states.map(node));
  document.getElementById('tree').replaceChildren();
  const view = new TreeView(() => {});
  view.draw(run);
  const began = performance.now();
  const left = view.draw(run);
  const took = performance.now() - began;
  return [took, left, [...view.items.values()].map(item => item.node.id)];
}"""


def test_a_large_tree_stays_fast(site, look) -> None:
    """Two thousand steps: as many as there is room for are drawn, the rest is told, and a drawing takes a fraction of a second."""
    with site() as served:
        page = look.at(served)
        ask(page)
        finished(page)
        took, left, drawn = page.evaluate(LARGE, {"states": ["pruned"] * 2000})
    assert (left, len(drawn)) == (800, 1200)
    assert took < 1000


def test_of_a_large_tree_the_weak_go_first_then_the_oldest(site, look) -> None:
    """Leaves begin at 499 here. Three hundred of them were pruned or said before: these go, then the oldest others; the winner stays."""
    weak = set(range(1400, 2000, 2))
    states = ["open"] * 2000
    for number in weak:
        states[number] = "pruned" if number % 4 else "duplicate"
    states[499] = "chosen"  # the oldest leaf of all
    with site() as served:
        page = look.at(served)
        ask(page)
        finished(page)
        _, left, drawn = page.evaluate(LARGE, {"states": states})
    gone = set(range(2000)) - set(drawn)
    assert (left, len(drawn)) == (800, 1200)
    assert weak < gone
    others = sorted(gone - weak)
    assert len(others) == 500
    assert 499 in drawn
    assert others[0] < 499, "a step whose leaves are all gone is a leaf itself"
    kept_leaves = [number for number in drawn if number >= 500 and number not in weak]
    assert max(others) < min(kept_leaves)


def test_prompts_of_one_request_have_trees_of_their_own(site, look) -> None:
    """The steps of each are numbered from the start, and none hides another; each has its winner."""
    with site(["It is 42.", "It is 43.", "It is 44."]) as served:
        ponder = {"strategy": "best_of_n", "n": 3, "verifier": "likelihood"}
        body = {"model": "scripted", "prompt": ["What is 1?", "What is 2?", "What is 3?"], "ponder": ponder}
        httpx.post(f"{served.url}/v1/completions", json=body).raise_for_status()
        page = look.at(served)
        page.click("#open-traces")
        expect(page.locator("#traces .runs li")).to_contain_text("9 steps")
        page.locator("#traces .runs button").click()
        expect(page.locator("[role=treeitem]")).to_have_count(9)
        expect(page.locator("#tree-count")).to_contain_text("9 steps")
        expect(page.locator("[role=treeitem].chosen")).to_have_count(3)
        expect(page.locator("[role=treeitem].best")).to_have_count(3)
        page.locator("[role=treeitem]").last.click()
        expect(page.locator("#node dl")).to_contain_text("Prompt2")
