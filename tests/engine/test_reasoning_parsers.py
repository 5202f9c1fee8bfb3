"""Which of vLLM's parsers of reasoning is chosen for a model."""

import pytest

from adapters.preload import SHIPPED
from app.engine.vllm.reasoning_parsers import RULES, choose
from app.engine.weights.default_model import CHAT_TEMPLATE
from app.settings import DEFAULT_MODEL

CHATML = "{% for message in messages %}{{ message.content }}{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n"
QWEN3 = CHATML + "{% if enable_thinking is defined and enable_thinking is false %}<think>\n\n</think>\n\n{% endif %}{% endif %}"
OPENING = CHATML + "<think>\n{% endif %}"


@pytest.mark.parametrize(
    ("architecture", "name", "template", "parser"),
    [
        ("LlamaForCausalLM", "smollm2-135m", CHATML, None),
        ("LlamaForCausalLM", "", "", None),
        ("", "", OPENING, "qwen3"),
        ("Qwen3ForCausalLM", "Qwen/Qwen3-8B", QWEN3, "qwen3"),
        ("Qwen3MoeForCausalLM", "Qwen/Qwen3-30B-A3B-Instruct-2507", CHATML.replace("}}", "|replace('<think>', '') }}"), None),
        ("Qwen3MoeForCausalLM", "Qwen/Qwen3-30B-A3B-Thinking-2507", OPENING, "qwen3"),
        ("Qwen2ForCausalLM", "deepseek-ai/DeepSeek-R1-Distill-Qwen-1.5B", OPENING, "deepseek_r1"),
        ("Qwen2ForCausalLM", "Qwen/QwQ-32B", OPENING, "deepseek_r1"),
        ("DeepseekV3ForCausalLM", "deepseek-ai/DeepSeek-R1", OPENING, "deepseek_r1"),
        ("DeepseekV3ForCausalLM", "deepseek-ai/DeepSeek-V3.1", "{% if thinking %}<think>{% endif %}", "deepseek_v3"),
        ("DeepseekV3ForCausalLM", "deepseek-ai/DeepSeek-V3", CHATML, None),
        ("DeepseekV3ForCausalLM", "moonshotai/Kimi-K2-Thinking", OPENING, "kimi_k2"),
        ("DeepseekV3ForCausalLM", "moonshotai/Kimi-K2-Instruct", CHATML, None),
        ("GptOssForCausalLM", "openai/gpt-oss-20b", "", "openai_gptoss"),
        ("Glm4MoeForCausalLM", "zai-org/GLM-4.6", OPENING, "glm45"),
        ("Glm4ForCausalLM", "zai-org/GLM-4-9B", CHATML, None),
        ("GraniteForCausalLM", "ibm-granite/granite-3.2-8b-instruct", "Here is my thought process:", "granite"),
        ("GraniteMoeHybridForCausalLM", "ibm-granite/granite-4.0", CHATML, None),
        ("MistralForCausalLM", "mistralai/Magistral-Small-2507", "[THINK]", "mistral"),
        ("MistralForCausalLM", "mistralai/Mistral-7B", CHATML, None),
        ("Olmo3ForCausalLM", "allenai/Olmo-3-7B-Think", OPENING, "olmo3"),
        ("SeedOssForCausalLM", "ByteDance-Seed/Seed-OSS-36B", "<seed:think>", "seed_oss"),
        ("NemotronHForCausalLM", "nvidia/Nemotron-3-Nano", OPENING, "nemotron_v3"),
        ("MiniMaxM2ForCausalLM", "MiniMaxAI/MiniMax-M2", OPENING, "minimax_m2"),
        ("Gemma4ForConditionalGeneration", "google/gemma-4-E2B-it", "<|channel>", "gemma4"),
        ("Cohere2ForCausalLM", "CohereLabs/command-a-reasoning", "<|START_THINKING|>", "cohere_command3"),
    ],
)
def test_the_parser_fits_the_model(architecture: str, name: str, template: str, parser: str | None) -> None:
    """Models of one family differ: those whose template opens no thinking get no parser, since it would hide their answers."""
    assert choose(architecture, name, template) == parser


def test_vllm_has_every_parser_of_the_table() -> None:
    """All but aliases and those that need metadata of the tokenizer are chosen for some model."""
    from vllm.reasoning import ReasoningParserManager

    known = set(ReasoningParserManager.list_registered()) - {"ponder"}
    chosen = {rule.parser for rule in RULES} | {"qwen3"}
    assert chosen <= known
    assert known - chosen <= {"glm47", "hf", "minimax_m2_append_think"}


@pytest.mark.parametrize(
    ("before", "new", "has_ended"),
    [
        ("2+2\n</thin", "k>", True),
        ("2+2", "</think>\n\n{", True),
        ("2+2 </think>", " x", False),
        ("2+2", " and 3", False),
        ("", "</think>", True),
    ],
)
def test_the_grammar_begins_behind_the_text_that_ends_the_thinking(before: str, new: str, has_ended: bool) -> None:
    """However many tokens it has; an end that came before the new tokens was told before."""
    from app.engine.vllm.thinking_end import ThinkingEnd

    class Characters:
        def decode(self, token_ids: list[int]) -> str:
            return "".join(map(chr, token_ids))

    ids, new_ids = [ord(char) for char in before + new], [ord(char) for char in new]
    assert ThinkingEnd(Characters(), end="</think>").is_reasoning_end_streaming(ids, new_ids) is has_ended


def test_the_shipped_adapter_thinks() -> None:
    """Its own chat template says so; that of its base model does not."""
    template = SHIPPED / DEFAULT_MODEL / "thinking" / "chat_template.jinja"
    assert choose("", "", template.read_text(encoding="utf-8")) == "qwen3"
    assert choose("LlamaForCausalLM", DEFAULT_MODEL, CHAT_TEMPLATE.read_text(encoding="utf-8")) is None
