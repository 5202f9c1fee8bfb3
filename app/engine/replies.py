"""Reply parsing that needs no engine."""

from typing import Any


class PlainReply:
    """A `ReplyParser` for replies without markup: all of the text is the content."""

    def parse(self, text: str, token_ids: tuple[int, ...]) -> dict[str, Any]:  # noqa: ARG002 - the port's signature
        """The text as content."""
        return {"content": text}

    def feed(self, text: str, token_ids: tuple[int, ...], *, is_last: bool) -> dict[str, Any] | None:  # noqa: ARG002
        """The text as content; nothing when there is none."""
        return {"content": text} if text else None
