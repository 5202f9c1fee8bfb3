"""Vercel's AI SDK with `@ai-sdk/openai-compatible`, by the functions of `ai.mjs`."""


def test_chat(node) -> None:
    """The message that came is sent back."""
    assert node("ai.mjs", "chat")


def test_stream(node) -> None:
    """The text, piece by piece."""
    assert node("ai.mjs", "stream")


def test_tools(node) -> None:
    """The tool runs with arguments that follow its schema, streamed or not."""
    assert node("ai.mjs", "tools").startswith("It is sunny in ")
    assert node("ai.mjs", "toolsStreamed").startswith("It is sunny in ")


def test_structured_output(node) -> None:
    """An object of a zod schema."""
    assert node("ai.mjs", "structuredOutput").keys() == {"name", "age"}


def test_strategy_by_name(node) -> None:
    """The model's name carries the strategy."""
    assert node("ai.mjs", "strategyByName") > 0


def test_strategy_by_body(node) -> None:
    """`providerOptions` carries the object `ponder`."""
    assert node("ai.mjs", "strategyByBody") > 0


def test_usage(node) -> None:
    """Of a reply and of a stream."""
    assert all(node("ai.mjs", "usage"))


def test_errors(node) -> None:
    """Its exception has the status and the server's words."""
    is_call_error, status, message = node("ai.mjs", "errors")
    assert (is_call_error, status) == (True, 404)
    assert "nobody" in message
