"""vLLM's check of a grammar is made once for each prompt, in a thread. No engine is started."""

import asyncio
import threading
from types import SimpleNamespace
from typing import Any

import pytest

pytestmark = [pytest.mark.vllm, pytest.mark.anyio]


async def test_all_branches_share_one_check(llm: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is not made again by the copies for branches, which vLLM sends to its engine as any other parameters."""
    import msgspec
    from vllm import SamplingParams
    from vllm.sampling_params import StructuredOutputsParams
    from vllm.v1.structured_output import backend_xgrammar

    from app.engine.base import Branch, Prompt
    from app.engine.vllm.sampling import checked, sampling_of

    seen: list[threading.Thread] = []
    check = backend_xgrammar.validate_xgrammar_grammar
    monkeypatch.setattr(
        backend_xgrammar,
        "validate_xgrammar_grammar",
        lambda params: (seen.append(threading.current_thread()), check(params)),
    )
    given = SamplingParams(structured_outputs=StructuredOutputsParams(json={"type": "object"}))
    sampling = await checked(given, llm)
    prompt = Prompt((1, 2), 9, sampling, None, "")
    branches = [sampling_of(Branch(id=str(number), prompt=prompt, prefix=(1, 2), max_tokens=9)) for number in range(3)]
    config = llm.vllm_config
    for one in branches:
        one.verify(config.model_config, None, config.structured_outputs_config, llm.renderer.tokenizer)
    assert len(seen) == 1
    assert seen[0] is not threading.main_thread()
    sent = msgspec.msgpack.decode(msgspec.msgpack.encode(branches[0].clone()), type=SamplingParams)
    assert sent.structured_outputs == given.structured_outputs
    assert sent.structured_outputs._backend == "xgrammar"


async def test_a_broken_grammar_is_refused_with_its_field(llm: Any) -> None:
    from vllm import SamplingParams
    from vllm.sampling_params import StructuredOutputsParams

    from app.engine.vllm.errors import form_errors
    from app.engine.vllm.sampling import checked
    from app.errors import InvalidRequest

    sampling = SamplingParams(structured_outputs=StructuredOutputsParams(grammar="root ::= "))
    with pytest.raises(InvalidRequest, match=r"^structured_outputs: ") as error, form_errors(SimpleNamespace()):
        await checked(sampling, llm)
    assert error.value.parameter == "structured_outputs"


async def test_a_slow_check_does_not_block_the_event_loop(llm: Any) -> None:
    from vllm import SamplingParams
    from vllm.sampling_params import StructuredOutputsParams

    from app.engine.vllm.sampling import checked

    began = asyncio.Event()

    class Slow(SamplingParams):
        def verify(self, *_: object) -> None:
            loop.call_soon_threadsafe(began.set)
            assert let_go.wait(30)

    loop, let_go = asyncio.get_running_loop(), threading.Event()
    checking = asyncio.create_task(checked(Slow(structured_outputs=StructuredOutputsParams(json_object=True)), llm))
    await asyncio.wait_for(began.wait(), 30)
    let_go.set()
    await checking
