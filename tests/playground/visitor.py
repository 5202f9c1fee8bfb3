"""What a visitor of the page does, in the words of the tests."""

from playwright.sync_api import Page, expect


def steps(page: Page) -> int:
    """How many steps the tree shows."""
    return page.locator("[role=treeitem]").count()


def ask(page: Page, question: str | None = None) -> None:
    """By default what stands there already."""
    if question is not None:
        page.fill("#question", question)
    page.click("#send")


def finished(page: Page) -> None:
    """Wait for the account."""
    expect(page.locator("#cost")).to_be_visible()
    expect(page.locator("#send")).to_be_visible()
