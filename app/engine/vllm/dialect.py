"""How conversations are written and replies are read: one chat template with the parsers that fit it.

The model has one dialect. An adapter with a chat template of its own has another.
"""

import logging
from collections.abc import Callable, Mapping
from typing import Any

from vllm.entrypoints.openai.chat_completion.protocol import ChatCompletionRequest
from vllm.parser import Parser, ParserManager
from vllm.renderers.online_renderer import OnlineRenderer

from app.engine.base import Branch, Prompt, ReplyParser
from app.engine.reply_parsers import PlainReply
from app.engine.vllm import reasoning_parsers, tool_parsers
from app.engine.vllm.options import EngineOptions
from app.engine.vllm.parser_rules import OFF
from app.engine.vllm.render_only import Renders
from app.engine.vllm.replies import ParsedReply
from app.engine.vllm.thinking import SWITCHES, thinking_of
from app.engine.weights.conversions import ModelUnavailable
from strategies.core.thinking import Thinking

logger = logging.getLogger("ponder")

ANSWER_MARK = "-the-answer-so-far-"
"""Stands for the assistant's answer in a rendered conversation, to find the place where it ends."""


class Dialect:
    """A chat template and the parsers of its replies.

    Args:
        options: of the engine.
        llm: returns vLLM's engine; raises `EngineDead` where there is none.
        template: text of an adapter's own chat template; None for the model's.

    Attributes:
        renderer: renders conversations.
        strict_renderer: the same for requests that force a tool call.
        tool_parser: vLLM's name of the parser of tool calls.
        reasoning_parser: vLLM's name of the parser of reasoning; None where there is none.

    """

    def __init__(self, options: EngineOptions, llm: Callable[[], Renders], template: str | None = None) -> None:
        self._options = options
        self._llm = llm
        self._model = llm().model_config
        self._template = options.chat_template if template is None else template
        self.tool_parser, self.reasoning_parser = self._choose(is_own=template is not None)
        self.renderer = self._new_renderer(options.tool_strict_level)
        self.strict_renderer = self._new_renderer("parameter")
        self._parser_class = self.renderer.parser
        whose = "an adapter's" if template is not None else "the model's"
        logger.info(
            "parsers of %s replies: %s for tool calls, %s for thinking",
            whose,
            self.tool_parser,
            self.reasoning_parser or OFF,
        )

    def _choose(self, *, is_own: bool) -> tuple[str, str | None]:
        """Return the parsers of tool calls and of reasoning: those that the operator has set, else those that fit.

        Of an adapter with a template of its own, thinking follows from the template alone, and the operator's setting is not for it.
        """
        tools, reasoning = self._options.tool_call_parser, None if is_own else self._options.reasoning_parser
        template = self._template
        if template is None:
            template = getattr(self._llm().renderer.tokenizer, "chat_template", None) or ""
        if not isinstance(template, str):
            template = "\n".join(map(str, template.values()))
        architecture, name = next(iter(self._model.hf_config.architectures or ()), ""), self._model.model
        if tools is None:
            tools = tool_parsers.choose(architecture, name, template)
            if not self._fits(tool_parser=tools):
                tools = tool_parsers.GENERIC
        if reasoning is None:
            reasoning = reasoning_parsers.choose("" if is_own else architecture, "" if is_own else name, template)
            if not self._fits(reasoning_parser=reasoning):
                reasoning = None
        return tools, None if reasoning == OFF else reasoning

    def _fits(self, *, tool_parser: str | None = None, reasoning_parser: str | None = None) -> bool:
        """Return whether vLLM has what a parser needs: tokens in the vocabulary, or a package. The log says what is missing."""
        try:
            ParserManager.get_parser(
                tool_parser_name=tool_parser,
                reasoning_parser_name=reasoning_parser,
                enable_auto_tools=tool_parser is not None,
                model_name=self._model.model,
                tokenizer=self._llm().renderer.tokenizer,
            )
        except TypeError as error:
            logger.warning("a parser that vLLM has for this model is not used: %s", error)
            return False
        return True

    def _new_renderer(self, tool_strict_level: str) -> OnlineRenderer:
        """Return a renderer whose grammars hold tool calls so strictly; see `EngineOptions`."""
        try:
            return OnlineRenderer(
                self._model,
                self._llm().renderer,
                request_logger=None,
                chat_template=self._template,
                chat_template_content_format="auto",
                enable_auto_tools=True,
                reasoning_parser=self.reasoning_parser,
                tool_parser=self.tool_parser,
                tool_strict_level=tool_strict_level,
            )
        except TypeError as error:
            raise ModelUnavailable(str(error)) from error

    def thinking(self, request: ChatCompletionRequest, token_ids: tuple[int, ...]) -> Thinking | None:
        """Return how the model marks its thinking in a reply to this request, None where it does not think."""
        if self.reasoning_parser is None:
            return None
        variables = self.renderer.effective_chat_template_kwargs(request)
        parser = self._new_parser(request, variables).reasoning_parser
        config = self._llm().vllm_config.reasoning_config  # vLLM's option; the text also ends the thinking for its own budget
        closing = "" if config is None else config.reasoning_end_str
        tokenizer = self._llm().renderer.tokenizer
        return thinking_of(parser, variables, tokenizer, token_ids, prefill=_prefill(request), closing=closing)

    def _new_parser(self, request: ChatCompletionRequest, variables: Mapping[str, Any]) -> Parser:
        assert self._parser_class is not None
        tokenizer = self._llm().renderer.tokenizer
        return self._parser_class(tokenizer, request.tools, model_config=self._model, chat_template_kwargs=variables)

    def _tells_marks(self, request: ChatCompletionRequest, variables: Mapping[str, Any]) -> bool:
        """Return whether the parser of reasoning tells the marks of the thinking. If so, `thinking` finds out whether a reply has any."""
        reader = None if self.reasoning_parser is None else self._new_parser(request, variables).reasoning_parser
        return reader is not None and bool(reader.reasoning_end_str)

    def parser(self, prompt: Prompt) -> ReplyParser:
        """Return a parser for one reply to `prompt`.

        Text passes through unchanged where neither tool calls nor reasoning can be in it.
        """
        request = prompt.request
        is_chat = isinstance(request, ChatCompletionRequest)  # a completion has no message whose fields could be parsed
        has_tools = is_chat and bool(request.tools) and request.tool_choice != "none"
        if self._parser_class is None or not is_chat or not (has_tools or self.reasoning_parser):
            return PlainReply()
        variables = dict(self.renderer.effective_chat_template_kwargs(request))
        # vLLM's parsers read in the variables whether the model thinks. What the rendered prompt tells is right.
        if prompt.thinking is not None:
            variables |= {name: True for name in SWITCHES if variables.get(name) is False}
        elif self._tells_marks(request, variables):
            if not has_tools:
                return PlainReply()
            variables |= dict.fromkeys(SWITCHES, False)
        tags = _tags(self._parser_class) if request.structured_outputs is not None else None
        return ParsedReply(lambda: self._new_parser(request, variables), prompt, tags)

    def grammar_gate(self, branch: Branch) -> dict[str, Any]:
        """Return vLLM's arguments that say where the grammar of a branch begins: behind the thinking."""
        prompt = branch.prompt
        request, thinking = prompt.request, prompt.thinking
        if thinking is not None:
            begun = branch.prefix[len(prompt.token_ids) :]
            is_over = bool(begun) and not thinking.behind(self._llm().renderer.tokenizer.decode(list(begun))).is_open
            return {"reasoning_ended": is_over, "reasoning_parser_kwargs": {"end": thinking.end}}
        if self.reasoning_parser is None or not isinstance(request, ChatCompletionRequest):
            return {"reasoning_ended": True}
        variables = self.renderer.effective_chat_template_kwargs(request)
        if self._tells_marks(request, variables):  # and the request does not think
            return {"reasoning_ended": True}
        return {"reasoning_parser_kwargs": {"parser": self.reasoning_parser, "chat_template_kwargs": variables}}

    def follow_up(self, prompt: Prompt, text: str, *, thinks: bool) -> str:
        """Return the text that ends the assistant's turn, says `text` as the user, and opens the assistant's next turn.

        A whole conversation is rendered by the chat template, and what comes after the assistant's answer is kept. Models without a
        template, and templates that leave earlier answers out, get plain lines. If the model is not to think and its template opens the
        thinking all the same, the thinking is closed at once.
        """
        tokenizer = self._llm().renderer.tokenizer
        turns = [
            {"role": "user", "content": "?"},
            {"role": "assistant", "content": ANSWER_MARK},
            {"role": "user", "content": text},
        ]
        rendered = ""
        given = getattr(prompt.request, "chat_template_kwargs", None) or {}
        variables = {name: given[name] for name in SWITCHES if name in given}
        if self.reasoning_parser is not None and not (thinks and prompt.thinking is not None):
            variables |= dict.fromkeys(SWITCHES, False)
        if (self._template or getattr(tokenizer, "chat_template", None)) is not None:
            rendered = tokenizer.apply_chat_template(
                turns, chat_template=self._template, tokenize=False, add_generation_prompt=True, **variables
            )
        if prompt.thinking is not None and not thinks and rendered.rstrip().endswith(prompt.thinking.start):
            rendered += f"\n{prompt.thinking.end}\n\n"
        return rendered.partition(ANSWER_MARK)[2] or f"\n\n{text}\n"


def _prefill(request: ChatCompletionRequest) -> str:
    """Return the beginning of the answer that the caller has written, empty where there is none."""
    content = request.messages[-1].get("content") if request.continue_final_message else None
    return content if isinstance(content, str) else ""


def _tags(parser: type[Parser]) -> tuple[str, str] | None:
    """Return the tags around the JSON of each call, None for models whose calls have another form."""
    calls = parser.tool_parser_cls
    if calls is None or calls.structural_tag_model != "hermes":
        return None
    return calls.tool_call_start_token, calls.tool_call_end_token
