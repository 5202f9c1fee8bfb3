"""A branch that another vLLM server generates: its request as token ids, and its outputs from token ids.

What vLLM's front end does behind its engine is done here with vLLM's own classes: incremental detokenisation, stop strings, the texts of
tokens with log-probabilities. So the outputs are those of an engine in this process.
"""

from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import msgspec
import numpy as np
from vllm import SamplingParams
from vllm.entrypoints.scale_out.token_in_token_out.mm_serde import encode_mm_kwargs_item
from vllm.logprobs import Logprob
from vllm.tokenizers.detokenizer_utils import convert_ids_list_to_tokens
from vllm.v1.engine import EngineCoreRequest
from vllm.v1.engine.detokenizer import IncrementalDetokenizer
from vllm.v1.engine.logprobs import LogprobsProcessor
from vllm.v1.outputs import LogprobsLists

from app.engine.base import Branch, Output
from app.engine.replica import Position, TokenPart, TokenRequest
from app.engine.speculation import NO_DRAFTS
from app.engine.vllm.images import input_of
from app.engine.vllm.outputs import output_of, with_separator
from app.engine.vllm.sampling import sampling_of
from app.engine.vllm.thinking_end import END
from app.engine.vllm.token_texts import TokenTexts
from app.errors import InvalidRequest

MAX_LOGPROBS = 20
"""The most log-probabilities of a position that vLLM gives, unless its operator raises the limit (`--max-logprobs`)."""

INTERVAL = 16
"""Tokens of a part where nobody reads them before the branch has ended: they are sent so that a branch can go on elsewhere."""

_BROKEN = "\ufffd"
"""What a tokenizer writes for a part of a character."""

_INTERNAL = frozenset({"output_kind", "skip_clone", "output_text_buffer_length"})
"""Fields of vLLM's sampling parameters that its server sets itself."""


def request_of(branch: Branch) -> TokenRequest:
    """Return a branch as a replica gets it. Raises `InvalidRequest` for images that cannot be sent."""
    sampling = _with_sampled_token(sampling_of(branch), branch)
    if branch.options:
        # vLLM's server leaves out all log-probabilities unless their number is that of the options: one of these is given twice.
        sampling.logprob_token_ids = [*branch.options, branch.options[0]]
    # The text is read here. There, only stop strings need it, and the tokens of a prompt with log-probabilities.
    sampling.detokenize = bool(sampling.stop) or branch.num_prompt_logprobs is not None
    given = {name: value for name, value in msgspec.to_builtins(sampling).items() if name[0] != "_" and name not in _INTERNAL}
    if (form := given.get("structured_outputs")) is not None:
        given["structured_outputs"] = {name: value for name, value in form.items() if name[0] != "_" and value is not None}
    given["max_tokens"] = sampling.max_tokens  # the default of vLLM's class is left out above, and its server has another
    is_one_part = branch.num_prompt_logprobs is not None
    return TokenRequest(
        id=branch.id,
        token_ids=branch.prefix,
        sampling=given,
        adapter=branch.adapter,
        priority=branch.priority,
        cache_salt=branch.cache_salt,
        interval=0 if is_one_part else 1 if branch.is_streamed else INTERVAL,
        gate=_gate(branch) if sampling.structured_outputs is not None else {},
        features=_features(branch),
    )


def _with_sampled_token(sampling: SamplingParams, branch: Branch) -> SamplingParams:
    """Ask for one more log-probability at each token: vLLM's server returns so many in all, that of the sampled token among them."""
    if branch.options:
        sampling.logprobs = len(branch.options) + 1
    elif sampling.logprobs:
        sampling.logprobs = min(sampling.logprobs + 1, MAX_LOGPROBS)
    return sampling


def _gate(branch: Branch) -> dict[str, Any]:
    """Return where the grammar begins. A replica with our own reasoning parser reads the end of the thinking; others have their own."""
    arguments = branch.prompt.dialect.grammar_gate(branch)
    given = arguments.get("reasoning_parser_kwargs", {})
    variables = dict(given.get("chat_template_kwargs", {})) | ({END: given["end"]} if "end" in given else {})
    return {"reasoning_ended": arguments.get("reasoning_ended"), "reasoning_parser_kwargs": {"chat_template_kwargs": variables}}


def _features(branch: Branch) -> dict[str, Any] | None:
    """Return the images of a branch in the form of vLLM's route, None where it has none."""
    given: Any = input_of(branch)
    if "mm_kwargs" not in given:
        return None
    places = given["mm_placeholders"]
    if any(place.is_embed is not None for ones in places.values() for place in ones):
        message = "messages: this model's images cannot be sent to a replica, since its route does not say which of their tokens are pixels"
        raise InvalidRequest(message, parameter="messages")
    return {
        "mm_hashes": dict(given["mm_hashes"]),
        "mm_placeholders": {
            kind: [{"offset": place.offset, "length": place.length} for place in ones] for kind, ones in places.items()
        },
        "kwargs_data": {
            kind: [None if item is None else encode_mm_kwargs_item(item) for item in items]
            for kind, items in given["mm_kwargs"].items()
        },
    }


class OutputReader:
    """Reads the outputs of one branch from its tokens, from the first to the last, wherever they were generated.

    Args:
        branch: that is read.
        tokenizer: of the model.
        texts: the same, where it is asked for the texts of single tokens.

    Attributes:
        token_ids: all tokens so far.

    """

    def __init__(self, branch: Branch, tokenizer: Any, texts: TokenTexts) -> None:
        self._branch = branch
        request = EngineCoreRequest(
            request_id=branch.id,
            prompt_token_ids=list(branch.prefix),
            mm_features=None,
            sampling_params=_with_sampled_token(sampling_of(branch), branch),
            pooling_params=None,
            arrival_time=0.0,
            lora_request=None,
            cache_salt=None,
            data_parallel_rank=None,
        )
        self._detokenizer = IncrementalDetokenizer.from_new_request(tokenizer, request)
        self._texts = texts
        self._logprobs = LogprobsProcessor.from_new_request(texts, request)

    @property
    def token_ids(self) -> tuple[int, ...]:
        """All tokens so far."""
        return tuple(self._detokenizer.output_token_ids)

    def read(self, part: TokenPart) -> Output:
        """Return the next output. It may end the branch by a stop string that the replica, which knows only the last tokens, missed."""
        num_before = len(self._detokenizer.output_token_ids)
        # The last token is a stop token where no string ended the branch; its text is left out.
        is_stop_token = part.finish_reason == "stop" and not isinstance(part.stop_reason, str)
        stop = self._detokenizer.update(list(part.token_ids), is_stop_token)
        finish, reason = (part.finish_reason, part.stop_reason) if stop is None else ("stop", stop)
        result = SimpleNamespace(
            text=self._detokenizer.get_next_output_text(finished=finish is not None, delta=True),
            token_ids=self._detokenizer.output_token_ids[num_before:],
            logprobs=self._read_logprobs(part.positions),
            finish_reason=finish,
            stop_reason=reason,
            spec_decode_metrics=None,
        )
        whole = SimpleNamespace(
            outputs=[result], num_cached_tokens=part.cached_tokens, prompt_logprobs=_prompt_logprobs(part.prompt_logprobs)
        )
        output = with_separator(output_of(whole, self._branch), self._branch)
        return output if part.drafts is NO_DRAFTS else replace(output, drafts=part.drafts)

    def _read_logprobs(self, positions: tuple[Position, ...]) -> list[Any] | None:
        if self._logprobs.logprobs is None:
            return None
        num_before = len(self._logprobs.logprobs)
        if (entries := self._plain_entries(positions)) is not None:
            self._logprobs.logprobs.extend(entries)
        elif positions:
            rows = [zip(*position, strict=True) for position in positions]
            ids, values = zip(*((np.array(ones), np.array(others)) for ones, others in rows), strict=True)
            ranks = np.ones(len(positions), dtype=int)  # nobody reads the rank of a sampled token
            self._logprobs._update_sample_logprobs(LogprobsLists(ids, values, ranks))
        return list(self._logprobs.logprobs[num_before:])

    def _plain_entries(self, positions: tuple[Position, ...]) -> list[Any] | None:
        """Return the entries that vLLM's processor would make, in a third of the time; None where a token is a part of a character.

        Then the texts of its neighbours are needed too.
        """
        entries = []
        for position in positions:
            shown = position[: (self._logprobs.num_logprobs or 0) + 1]
            texts = convert_ids_list_to_tokens(self._texts, [token for token, _ in shown])
            if any(_BROKEN in text for text in texts):
                return None
            ranks = (1, *range(1, len(shown)))  # that of the sampled token is read by nobody
            entries.append(
                {token: Logprob(value, rank, text) for (token, value), rank, text in zip(shown, ranks, texts, strict=True)}
            )
        return entries


def _prompt_logprobs(positions: Any) -> list[Any] | None:
    """Return log-probabilities of a prompt as vLLM's objects, from the types of JSON."""
    if positions is None:
        return None
    return [
        None if position is None else {int(token): Logprob(**entry) for token, entry in position.items()}
        for position in positions
    ]
