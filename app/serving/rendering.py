"""The rendering stage: turns the bodies of a request into prompts for the engine and tasks for the strategy."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

from app.engine.base import Engine, ModelCard, Prompt
from app.errors import InvalidRequest
from app.metering.meter import Meter
from app.request import InferenceRequest
from app.serving.legs import is_sentence
from app.serving.planning import PlannedRequest, unsupported_as_invalid
from app.serving.tool_calls import calls_as_json
from app.telemetry.spans import Span
from strategies.core.values import Candidate, Task

SEAM_FIELDS = ("presence_penalty", "frequency_penalty", "min_tokens", "stop")
"""Fields of a body that the engine applies at the start of each call. A call that continues an answer would apply them again."""


@dataclass(frozen=True, slots=True)
class RenderedRequest:
    """The prompts of a request, and the task of each prompt at the same position."""

    prompts: tuple[Prompt, ...]
    tasks: tuple[Task, ...]

    @property
    def num_tokens(self) -> int:
        """Tokens of all prompts together."""
        return sum(len(prompt.token_ids) for prompt in self.prompts)


async def render(
    engine: Engine,
    request: InferenceRequest,
    planned: PlannedRequest,
    meter: Meter,
    span: Span,
    *,
    template: str | None = None,
) -> RenderedRequest:
    """Render the request, or raise `InvalidRequest` where the engine or the strategy cannot honour it.

    `template` is the chat template of the adapter that answers, None for the model's.
    """
    with meter.timed("render"):
        temperature = planned.strategy.temperature if planned.plan.temperature is None else planned.plan.temperature
        defaults = {} if temperature is None else {"temperature": temperature}
        render_one = partial(engine.render_chat, template=template) if request.is_chat else engine.render_completion
        prompts = tuple([await render_one({**defaults, **body}) for body in request.bodies])
        if request.shows_prompt:
            prompts = tuple(_with_text(engine, *pair) for pair in zip(prompts, request.bodies, strict=True))
    rendered = RenderedRequest(prompts, tuple(_task(engine, request, planned, prompt) for prompt in prompts))
    check_landing(engine, request, prompts)
    if span.is_recording:
        span.set({"gen_ai.usage.input_tokens": rendered.num_tokens})
    with unsupported_as_invalid():
        for task in rendered.tasks:
            planned.strategy.check(task)
    return rendered


def check_modalities(card: ModelCard, modalities: frozenset[str]) -> None:
    """Raise `InvalidRequest` for what the model cannot read, before anybody opens the URL of an image."""
    if missing := sorted(modalities - card.modalities):
        readable = " and ".join(["text", *sorted(card.modalities)])
        raise InvalidRequest(f"The model {card.name} cannot read {missing[0]}, only {readable}.", parameter="messages")


def check_landing(engine: Engine, request: InferenceRequest, prompts: Iterable[Prompt]) -> None:
    """Raise `InvalidRequest` where the caller's sentence for the end of a thinking would end it, or the turn, itself."""
    sentence = request.budget.thinking_landing
    if sentence and not all(is_sentence(engine, one.thinking, sentence) for one in prompts if one.thinking is not None):
        message = "ponder.budget.thinking_landing: it must have no marks of thinking, no special tokens, and must not begin a tool call."
        raise InvalidRequest(message, parameter="ponder.budget.thinking_landing")


def _with_text(engine: Engine, prompt: Prompt, body: Mapping[str, Any]) -> Prompt:
    """Return the prompt with its text. The engine has none of token ids, and of a prompt that it has cut it has the whole text."""
    has_text = prompt.text and body.get("truncate_prompt_tokens") is None
    return prompt if has_text else replace(prompt, text=engine.decode(prompt.token_ids))


def _question(engine: Engine, request: InferenceRequest, planned: PlannedRequest, prompt: Prompt) -> str:
    """Return what a verifier reads as the question: of a text completion its own prompt, of which a request may have several."""
    if request.is_chat:
        return request.question
    has_verifier = getattr(planned.strategy.params, "verifier", None) is not None
    return prompt.text or (engine.decode(prompt.token_ids) if has_verifier else "")


def _task(engine: Engine, request: InferenceRequest, planned: PlannedRequest, prompt: Prompt) -> Task:
    # What the caller wrote before the thinking ended is thinking too. A task must not keep the request: its images are for rendering.
    prefill = request.prefill if prompt.thinking is None else ""

    def read_message(candidate: Candidate) -> str:
        if candidate.is_thinking:
            return ""
        message = engine.parser(prompt).parse(candidate.text, candidate.token_ids, is_cut=not candidate.is_complete)
        return calls_as_json(message) or prefill + (message.get("content") or "")

    return Task(
        question=_question(engine, request, planned, prompt),
        prefix=prompt.token_ids,
        kind=planned.kind,
        num_choices=request.num_choices,
        num_logprobs=request.num_logprobs,
        max_tokens=prompt.max_tokens,
        context_tokens=engine.card.max_model_len,
        seed=request.seed,
        end_tokens=engine.card.end_tokens,
        is_constrained=prompt.is_constrained,
        thinking=prompt.thinking,
        is_continuable=not any(body.get(field) for body in request.bodies for field in SEAM_FIELDS),
        has_own_loops=any(body.get("repetition_detection") is not None for body in request.bodies),
        read=read_message if request.is_chat else lambda candidate: candidate.text,
        encode=engine.encode,
        follow_up=partial(engine.follow_up, prompt),
        next_turn=partial(engine.follow_up, prompt, thinks=True),
    )
