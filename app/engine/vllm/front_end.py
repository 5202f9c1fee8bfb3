"""The part of an engine that needs no model in memory: prompts are rendered and replies are read by vLLM's own code, in this process."""

from collections.abc import Mapping, Sequence
from typing import Any

from app.engine.base import Prompt, ReplyParser
from app.engine.vllm.rendering import Rendering


class VllmFrontEnd:
    """The methods of `Engine` that render and read. An engine inherits them, and sets `_rendering` when it starts."""

    _rendering: Rendering

    async def render_chat(self, body: Mapping[str, Any], *, template: str | None = None) -> Prompt:
        """Apply the chat template and tokenise; see `Engine`."""
        return await self._rendering.chat(body, template)

    async def render_completion(self, body: Mapping[str, Any]) -> Prompt:
        """Tokenise one prompt; see `Engine`."""
        return await self._rendering.completion(body)

    async def tokenize(self, body: Mapping[str, Any], *, template: str | None = None) -> tuple[int, ...]:
        """Return the token ids of a text or of a conversation; see `Engine`."""
        return await self._rendering.tokenize(body, template)

    async def detokenize(self, token_ids: Sequence[int]) -> str:
        """Return the text of these tokens; see `Engine`."""
        return await self._rendering.detokenize(token_ids)

    async def token_texts(self, token_ids: Sequence[int]) -> list[str]:
        """Return each token as its tokenizer writes it; see `Engine`."""
        return await self._rendering.token_texts(token_ids)

    def encode(self, text: str) -> tuple[int, ...]:
        """Return the token ids of a text that continues a prompt; see `Engine`."""
        return self._rendering.encode(text)

    def decode(self, token_ids: Sequence[int]) -> str:
        """Return the text of these tokens; see `Engine`."""
        return self._rendering.decode(token_ids)

    def follow_up(self, prompt: Prompt, text: str, *, thinks: bool = False) -> tuple[int, ...]:
        """Return the token ids of the user's next turn; see `Engine`."""
        return self._rendering.follow_up(prompt, text, thinks=thinks)

    def parser(self, prompt: Prompt) -> ReplyParser:
        """Return a parser for one reply; see `Engine`."""
        return self._rendering.parser(prompt)
