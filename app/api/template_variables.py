"""The field `chat_template_kwargs`: variables of the chat template, and none of the arguments of what renders it."""

from typing import Annotated, Any

from pydantic import AfterValidator, BeforeValidator

from app.api.output_formats import check_size

RESERVED = frozenset({
    "add_generation_prompt", "chat_template", "continue_final_message", "conversation", "conversations", "max_length", "messages",
    "model_config", "padding", "return_assistant_tokens_mask", "return_dict", "return_tensors", "self", "tokenize", "tokenizer",
    "tokenizer_kwargs", "tools", "truncation",
})  # fmt: skip
"""Arguments of transformers' `apply_chat_template`, and of vLLM's functions around it.

vLLM hands variables and arguments on together. So a client could render a template of its own, or pad a prompt until memory ends.
"""


def _check_names(variables: dict[str, Any]) -> dict[str, Any]:
    if taken := sorted(RESERVED & variables.keys()):
        message = f"`{taken[0]}` is no variable of a chat template, but an argument of what renders it"
        raise ValueError(message)
    return variables


TemplateVariables = Annotated[dict[str, Any], BeforeValidator(check_size), AfterValidator(_check_names)]
