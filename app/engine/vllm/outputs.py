"""From vLLM's `RequestOutput` to our `Output`. Imports nothing of vLLM."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from app.engine.base import Branch, Output, PromptLogprobs, RankedToken
from app.engine.speculation import NO_DRAFTS, Drafts
from strategies.core.values import TokenLogprob


def output_of(result: Any, branch: Branch) -> Output:
    """Return what a branch generated since its last output. `result` is vLLM's `RequestOutput`."""
    [output] = result.outputs
    token_ids = tuple(output.token_ids)
    has_logprobs = output.logprobs is not None and not branch.options
    return Output(
        text=output.text,
        token_ids=token_ids,
        prompt_tokens=len(branch.prefix),
        cached_tokens=result.num_cached_tokens or 0,
        finish_reason=output.finish_reason,
        stop_reason=output.stop_reason,
        logprobs=_logprobs(output, token_ids, branch.num_logprobs or 0) if has_logprobs else (),
        option_logprobs=(
            {token: entry.logprob for token, entry in output.logprobs[0].items()} if branch.options and output.logprobs else {}
        ),
        prompt_logprobs=() if branch.num_prompt_logprobs is None else _prompt_logprobs(result.prompt_logprobs or ()),
        drafts=drafts_of(output.spec_decode_metrics),
    )


def with_separator(output: Output, branch: Branch) -> Output:
    """Return the output with the separator that ended it, which vLLM takes out of the text as it does every stop string.

    vLLM could keep stop strings (`include_stop_str_in_output`), but would then keep the caller's too, and the texts of stop tokens.
    """
    stop = output.stop_reason
    if stop not in branch.separators or branch.prompt.sampling.include_stop_str_in_output:
        return output
    return replace(output, text=f"{output.text}{stop}")


def drafts_of(counted: Any) -> Drafts:
    """Return what vLLM counted for one branch; `histogram[n]` is the number of steps with `n` accepted tokens."""
    if counted is None:
        return NO_DRAFTS
    return Drafts(counted.num_draft_tokens, sum(accepted * steps for accepted, steps in enumerate(counted.histogram)))


def _logprobs(output: Any, token_ids: tuple[int, ...], num_top: int) -> tuple[TokenLogprob, ...]:
    """Return the sampled tokens, each with its `num_top` most probable alternatives.

    vLLM's entry for a position has the sampled token as well as the most probable ones, so it may hold one more than asked for.
    """
    entries = []
    for token_id, position in zip(token_ids, output.logprobs or (), strict=False):
        chosen = position[token_id]
        ranked = sorted(position.items(), key=lambda item: -item[1].logprob)[:num_top]
        entries.append(
            TokenLogprob(
                chosen.decoded_token or "",
                token_id,
                chosen.logprob,
                tuple((entry.decoded_token or "", entry.logprob) for _, entry in ranked),
                top_ids=tuple(token for token, _ in ranked),
            )
        )
    return tuple(entries)


def _prompt_logprobs(positions: Sequence[Any]) -> PromptLogprobs:
    """Return vLLM's log-probabilities of a prompt. It has None for the first token, and at each other the prompt's own token first."""
    return tuple(
        tuple(
            RankedToken(token, entry.decoded_token or "", entry.logprob, entry.rank)
            for token, entry in (position or {}).items()
        )
        for position in positions
    )
