"""Tells vLLM's engine where the thinking of a request ends. A grammar holds only from there on.

vLLM's engine has one reasoning parser for all requests, and most of vLLM's parsers look for a token of the vocabulary. With this parser,
each request says which text ends its thinking. So an adapter may think while its base model does not, and a mark may be several tokens.
vLLM's engine imports this module as a plugin.
"""

from collections.abc import Iterable, Sequence
from typing import Any

from vllm.entrypoints.generate.base.protocol import DeltaMessage
from vllm.reasoning import ReasoningParser, ReasoningParserManager

NAME = "ponder"

END = "ponder_thinking_end"
"""The name under which the variables of the chat template hold the end of the thinking: all that a vLLM server passes on."""


@ReasoningParserManager.register_module(NAME)
class ThinkingEnd(ReasoningParser):
    """Finds the end of the thinking.

    Args:
        tokenizer: of the model.
        end: the text that ends the thinking. Empty where only one of vLLM's own parsers knows the end.
        parser: the name of that parser.
        chat_template_kwargs: an argument of that parser.

    """

    def __init__(
        self, tokenizer: Any, *args: Any, end: str = "", parser: str = "", chat_template_kwargs: Any = None, **kwargs: Any
    ) -> None:
        super().__init__(tokenizer, *args, **kwargs)
        self._end = end or (chat_template_kwargs or {}).get(END, "")
        self._parser: ReasoningParser | None = None
        if parser and not end:
            self._parser = ReasoningParserManager.get_reasoning_parser(parser)(
                tokenizer, chat_template_kwargs=chat_template_kwargs
            )

    def is_reasoning_end(self, input_ids: Sequence[int]) -> bool:
        """Return whether a prompt has ended its thinking. With a text that ends the thinking, the server has found it out before."""
        return self._parser is None or self._parser.is_reasoning_end(input_ids)

    def is_reasoning_end_streaming(self, input_ids: Sequence[int], delta_ids: Iterable[int]) -> bool:
        """Return whether the last tokens, `delta_ids`, have ended the thinking."""
        if self._parser is not None:
            return self._parser.is_reasoning_end_streaming(input_ids, delta_ids)
        num_new = len(list(delta_ids))
        last = list(input_ids[-(num_new + len(self._end)) :])  # each token has at least one character
        before = self.model_tokenizer.decode(last[: len(last) - num_new])
        return self._end in self.model_tokenizer.decode(last)[max(len(before) - len(self._end) + 1, 0) :]

    def extract_content_ids(self, input_ids: list[int]) -> list[int]:
        """Is never called in the engine."""
        raise NotImplementedError

    def extract_reasoning(self, model_output: str, request: Any) -> tuple[str | None, str | None]:
        """Is never called in the engine."""
        raise NotImplementedError

    def extract_reasoning_streaming(self, *args: Any) -> DeltaMessage | None:
        """Is never called in the engine."""
        raise NotImplementedError
