"""What a model, an engine or a stranger may do to the page, without harm."""

import pytest
from playwright.sync_api import Route, expect

from tests.playground.conftest import until
from tests.playground.visitor import ask, finished

HOSTILE = (
    "<img src=x onerror=\"document.title='owned'\"><script>document.title='owned'</script>\n\n"
    "[press](javascript:document.title='owned') [data](data:text/html,<script>alert(1)</script>) ![pic](https://elsewhere.invalid/x.png)\n\n"
    "<style>body{display:none}</style> <svg onload=alert(1)> **bold** 17*23 = 391 and 2*3*4 `code` [good](https://good.invalid/a)\n\n"
    "| <b>a</b> | b |\n|---|---|\n| <i>1</i> | 2 |\n"
)


def test_an_error_in_the_middle_is_told(site, look) -> None:
    with site(seconds_per_token=0.2) as served:
        page = look.at(served, expected=("503",))
        ask(page)
        until(lambda: served.engine.live)
        served.engine.die()
        expect(page.locator("[role=alert]")).to_contain_text("engine died")


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


@pytest.mark.parametrize(
    "answer",
    [
        pytest.param(">" * 3000, id="quotes"),
        pytest.param("1. " * 5000, id="numbers"),
        pytest.param("*" * 10_000, id="asterisks"),
        pytest.param("**a *b " * 1400, id="emphasis"),
        pytest.param("[" * 10_000, id="brackets"),
        pytest.param("![a](" * 2000, id="images"),
        pytest.param("`" * 10_000, id="backticks"),
        pytest.param("".join("`" * n + "a " for n in range(1, 140)), id="unlike-backticks"),
        pytest.param("".join("  " * n + "- a\n" for n in range(100)), id="lists"),
        pytest.param("|a|b|\n|-|-|\n" + "|1|2|\n" * 1500, id="table"),
        pytest.param("word " * 40_000, id="long"),
    ],
)
def test_no_answer_stops_the_page(site, look, answer: str) -> None:
    """What is too deep or too long for Markdown is there as it was written, at once, and the page goes on."""
    with site([answer], max_request_tokens=100_000) as served:
        page = look.at(served)
        page.select_option("#strategy", "direct")
        ask(page, "Go on.")
        finished(page)
        expect(page.locator("article.model .progress")).to_have_count(0)
        expect(page.locator("article.model .said > *").first).to_be_attached()
        took = page.evaluate(
            """async (answer) => {
              const { render } = await import('/playground/markdown.js');
              const began = performance.now();
              render(answer);
              return performance.now() - began;
            }""",
            answer,
        )
        assert took < 1000


def test_text_that_is_no_markdown_loses_nothing(site, look) -> None:
    with site() as served:
        page = look.at(served)
        shown = "async (text) => (await import('/playground/markdown.js')).render(text).map(one => one.textContent).join('')"
        for text in (">" * 3000, "1. " * 5000, "<b> " * 6000, "".join("  " * n + "- a\n" for n in range(100))):
            assert page.evaluate(shown, text) == text


def test_one_panel_that_fails_stops_no_other(site, look) -> None:
    """An account of a shape that the page does not know: told in its place, while answer, tree and plan are drawn."""
    with site() as served:
        page = look.at(served, expected=("TypeError",))

        def mangle(route: Route) -> None:
            reply = route.fetch()
            route.fulfill(response=reply, body=reply.text().replace('"branches":{"drawn"', '"boughs":{"drawn"'))

        page.route("**/chat/completions", mangle)
        ask(page)
        finished(page)
        expect(page.locator("#cost [role=alert]")).to_be_visible()
        expect(page.locator("article.model .said")).to_contain_text("76")
        expect(page.locator("#plan")).to_contain_text("beam_search")
        expect(page.locator("[role=treeitem].chosen")).to_have_count(1)
