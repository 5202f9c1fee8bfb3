"""The Python API for scripts and notebooks: the same model, on an event loop in a thread of its own."""

import asyncio
import threading
import weakref
from collections.abc import Callable, Coroutine, Mapping, Sequence
from concurrent.futures import Future
from types import TracebackType
from typing import Any, Self, TypeVar

from adapters.concurrency import for_each
from app.engine.base import Engine
from app.metering.budget import Budget
from app.settings import DEFAULT_MODEL
from ponder.answer import Answer
from ponder.asynchronous import AsyncPonder, Plugin, Prompt, load
from strategies.core.results import Progress
from strategies.core.values import Delta

T = TypeVar("T")


class Ponder:
    """A loaded model for code without `await`. It works where an event loop runs already, as in a notebook.

        model = ponder.Ponder("smollm2-135m")
        print(model.ask("What is 17 + 25?", model="reasoning").text)
        model.close()

    The arguments are those of `load`. It may be used from several threads at the same time; `with` closes it at the end of a block.
    """

    def __init__(
        self, model: str = DEFAULT_MODEL, *, engine: Engine | None = None, plugins: Sequence[Plugin] = (), **settings: Any
    ) -> None:
        self._closing = asyncio.Event()
        started: Future[tuple[asyncio.AbstractEventLoop, AsyncPonder]] = Future()

        async def serve() -> None:
            # One task opens and closes the model: scopes of asyncio must be left by the task that entered them.
            try:
                async with load(model, engine=engine, plugins=plugins, **settings) as loaded:
                    started.set_result((asyncio.get_running_loop(), loaded))
                    await self._closing.wait()
            except BaseException as error:
                if started.done():
                    raise
                started.set_exception(error)

        # A daemon: a forgotten `close` must not keep the interpreter alive.
        self._thread = threading.Thread(target=lambda: asyncio.run(serve()), name="ponder", daemon=True)
        self._thread.start()
        self._loop, self._model = started.result()
        # Closing needs threads of an executor. `atexit` would be too late for it: the interpreter ends executors before.
        threading._register_atexit(_close, weakref.ref(self))  # type: ignore[attr-defined]

    @property
    def name(self) -> str:
        """The name of the base model."""
        return self._model.name

    def ask(
        self,
        prompt: Prompt,
        *,
        model: str | None = None,
        strategy: str | None = None,
        budget: Budget | Mapping[str, float] | None = None,
        effort: str | None = None,
        answer: str | None = None,
        max_tokens: int | None = None,
        temperature: float | None = None,
        seed: int | None = None,
        extra_body: Mapping[str, Any] | None = None,
        on_event: Callable[[Delta | Progress], None] | None = None,
        **parameters: Any,
    ) -> Answer:
        """Search for the answer to a question: see `AsyncPonder.ask`. `on_event` is called in the thread of the event loop."""
        return self._result_of(
            self._model.ask(
                prompt, model=model, strategy=strategy, budget=budget, effort=effort, answer=answer, max_tokens=max_tokens,
                temperature=temperature, seed=seed, extra_body=extra_body, on_event=on_event, **parameters,
            )
        )  # fmt: skip

    def ask_all(self, prompts: Sequence[Prompt], *, at_once: int = 16, **options: Any) -> list[Answer]:
        """Return the answers to several questions, in their order, `at_once` of them in work together; options as for `ask`."""

        async def ask_all() -> list[Answer]:
            answers: dict[int, Answer] = {}

            async def ask(numbered: tuple[int, Prompt]) -> None:
                number, prompt = numbered
                answers[number] = await self._model.ask(prompt, **options)

            await for_each(enumerate(prompts), ask, at_once)
            return [answers[number] for number in range(len(prompts))]

        return self._result_of(ask_all())

    def explain(self, prompt: Prompt, **options: Any) -> Mapping[str, Any]:
        """Return the plan for a question and what it is expected to take: see `AsyncPonder.explain`."""
        return self._result_of(self._model.explain(prompt, **options))

    def close(self) -> None:
        """End the engine and free its memory; safe to call twice."""
        if self._thread.is_alive():
            self._loop.call_soon_threadsafe(self._closing.set)
            self._thread.join()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None) -> None:
        self.close()

    def _result_of(self, work: Coroutine[Any, Any, T]) -> T:
        """Run it on the loop of the model. An interrupt of the waiting thread cancels it, and so ends its branches."""
        if not self._thread.is_alive():
            work.close()
            raise RuntimeError("this model is closed")
        future = asyncio.run_coroutine_threadsafe(work, self._loop)
        try:
            return future.result()
        except BaseException:
            future.cancel()
            raise


def _close(reference: weakref.ref[Ponder]) -> None:
    """Close a model that was forgotten, when the interpreter ends."""
    if (model := reference()) is not None:
        model.close()
