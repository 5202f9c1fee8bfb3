"""What is set by the controls: what is sent of it, and what of it cannot be."""

import json
import re

import pytest
from playwright.sync_api import expect

from tests.playground.visitor import ask, finished


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


@pytest.mark.parametrize(("written", "sent"), [(".5", 0.5), ("01", 1), ("1e0", 1)])
def test_numbers_may_be_written_as_people_write_them(site, look, written: str, sent: float) -> None:
    with site() as served:
        page = look.at(served)
        page.click("#settings summary")
        page.fill("#request-temperature", written)
        with page.expect_request("**/chat/completions") as asked:
            ask(page)
        finished(page)
        assert json.loads(asked.value.post_data or "")["temperature"] == sent


@pytest.mark.parametrize(
    ("control", "written", "told"),
    [
        ("#parameter-verifier", "{oops", "not JSON"),
        ("#request-temperature", "1e", "not a number"),
        ("#request-temperature", "7", "less than or equal to 2"),
        ("#request-max_tokens", "1.5", "1 and 2"),
    ],
)
def test_what_cannot_be_read_is_told_at_its_field_and_not_sent(site, look, control: str, written: str, told: str) -> None:
    """Also where the settings were closed again; when it is mended, the words go and the question is asked."""
    with site() as served:
        page = look.at(served)
        page.click("#settings summary")
        page.fill(control, "")
        page.type(control, written)
        page.click("#settings summary")
        ask(page)
        field = page.locator(".field", has=page.locator(control))
        expect(field.locator(".mistake")).to_contain_text(told)
        expect(page.locator(control)).to_be_focused()
        expect(page.locator(control)).to_have_accessible_description(re.compile(told))
        expect(page.locator("#live")).to_contain_text(told)
        assert not served.engine.branches
        page.fill(control, "equations" if "verifier" in control else "1")
        expect(field.locator(".mistake")).to_have_count(0)
        ask(page)
        finished(page)


def test_an_error_without_a_field_is_told_in_the_conversation(site, look) -> None:
    with site() as served:
        page = look.at(served)
        page.evaluate("document.querySelector('#request-seed').dataset.kind = 'of no kind'")
        page.click("#settings summary")
        page.fill("#request-seed", "1")
        ask(page)
        expect(page.locator("#messages [role=alert]")).to_be_visible()
        page.fill("#request-seed", "")
        ask(page)
        finished(page)
        expect(page.locator("#messages [role=alert]")).to_have_count(0)


def test_nothing_is_asked_without_a_question(site, look) -> None:
    with site() as served:
        page = look.at(served)
        ask(page, "  ")
        expect(page.locator("#question")).to_be_focused()
        assert not served.engine.branches


def test_braces_are_json_only_where_an_object_may_stand(site, look) -> None:
    """A prompt with a placeholder is a text, a verifier with a name is an object."""
    with site(["It is 42."]) as served:
        page = look.at(served)
        page.select_option("#strategy", "tree_of_thoughts")
        page.click("#settings summary")
        page.select_option("#parameter-generate", "propose")
        page.fill("#parameter-propose_prompt", "{n} next steps")
        page.fill("#parameter-verifier", '{"number": 42}')
        with page.expect_request("**/chat/completions") as asked:
            ask(page, "What is 17 + 25?")
        sent = json.loads(asked.value.post_data or "")["ponder"]
        assert (sent["propose_prompt"], sent["verifier"]) == ("{n} next steps", {"number": 42})
        finished(page)


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
