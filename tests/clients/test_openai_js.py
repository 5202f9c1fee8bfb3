"""OpenAI's JavaScript SDK, by the functions of `openai.mjs`."""


def test_chat(node) -> None:
    """The message that came is sent back."""
    assert node("openai.mjs", "chat")


def test_completions(node) -> None:
    """The text API."""
    assert node("openai.mjs", "completions")


def test_responses(node) -> None:
    """The Responses API: gone on with by an id, streamed, parsed, and with a tool."""
    assert node("openai.mjs", "responses")
    assert node("openai.mjs", "responsesStream")
    assert node("openai.mjs", "responsesParsed").keys() == {"name", "age"}
    assert node("openai.mjs", "responsesTools")["city"] in {"Paris", "Rome"}


def test_stream(node) -> None:
    """A choice in every chunk, and the helper."""
    assert node("openai.mjs", "stream")
    assert node("openai.mjs", "streamHelper")


def test_tools(node) -> None:
    """Arguments follow the schema, and the runner calls the function with them."""
    assert node("openai.mjs", "toolsCalled")["city"] in {"Paris", "Rome"}
    assert node("openai.mjs", "toolsRun").startswith("It is sunny in ")


def test_structured_output(node) -> None:
    """`.parse` with a zod schema."""
    assert node("openai.mjs", "structuredOutput").keys() == {"name", "age"}


def test_strategy_by_name(node) -> None:
    """The model's name carries the strategy."""
    assert node("openai.mjs", "strategyByName") == "best_of_n"


def test_strategy_by_body(node) -> None:
    """An unknown field of the request is sent as it is."""
    assert node("openai.mjs", "strategyByBody") == 2


def test_usage(node) -> None:
    """In a reply, and at the end of a stream."""
    assert all(node("openai.mjs", "usage"))


def test_errors(node) -> None:
    """The SDK's own class."""
    assert node("openai.mjs", "errors") == [True, "model_not_found"]
