"""Which of vLLM's parsers of reasoning fits a model: by its architecture, its name and its chat template. Imports nothing of vLLM."""

from app.engine.vllm.parser_rules import Rule, first_that_holds

GENERIC = "qwen3"
"""Fits any template with `<think>`: it finds the marks as tokens or as text, reads a reply without an end mark as thinking alone, and knows
the variable `enable_thinking`."""

RULES = (
    Rule("openai_gptoss", "GptOss"),
    Rule("kimi_k3", "KimiK3"),
    Rule("kimi_k2", "KimiK25|DeepseekV3|KimiLinear", "kimi", "<think>"),
    Rule("deepseek_v41", "DeepseekV41"),
    Rule("deepseek_v4", "DeepseekV4"),
    Rule("deepseek_r1", "Deepseek|Qwen2|Llama", "deepseek-r1|qwq", "<think>"),
    Rule("deepseek_v3", "DeepseekV3", template="thinking"),
    Rule("deepseek_v3", "DeepseekV32"),
    Rule("glm45", "Glm4Moe|Glm4v|GlmMoeDsa|Glm5Next", template="<think>"),
    Rule("gemma4", "Gemma4", template=r"<\|channel>"),
    Rule("granite_thinking_parser", "Granite", template="<think>"),
    Rule("granite", "Granite", template="Here is my thought process:"),
    Rule("hunyuan_a13b", "HunYuan", template="<think>"),
    Rule("hy_v3", "HYV3"),
    Rule("hy_v4", "HYV4"),
    Rule("k2_horizon", "K2Horizon"),
    Rule("minimax_m3", "MiniMaxM3"),
    Rule("minimax_m2", "MiniMaxM2"),
    Rule("muse_glimmer", "MuseGlimmer"),
    Rule("inkling", "Inkling"),
    Rule("ling3", "BailingMoeV3"),
    Rule("plamo3", "Plamo3", template="plamo:begin_think"),
    Rule("poolside_v1", "Laguna"),
    Rule("seed_oss", template="<seed:think>"),
    Rule("step3p5", "Step3p"),
    Rule("step3", "Step3", template="<think>"),
    Rule("mimo", "MiMo", template="<think>"),
    Rule("minicpmv", r"MiniCPMV4_[67]", template="<think>"),
    Rule("ernie45", "Ernie4_5", template="<think>"),
    Rule("nemotron_v3", "NemotronH", template="<think>"),
    Rule("olmo3", "Olmo3", template="<think>"),
    Rule("holo2", name="holo2"),
    Rule("cohere_command4", "Cohere2Moe|Cohere.*Vision", template="START_THINKING"),
    Rule("cohere_command3", "Cohere", template="START_THINKING"),
    Rule("mistral", "Mi[ns]+istral|Mistral|Pixtral", template=r"\[THINK\]"),
)
"""Of vLLM 0.32, the first that holds."""


def choose(architecture: str, name: str, template: str) -> str | None:
    """Return vLLM's name of the parser, None for a model that does not think.

    Where no rule holds, the chat template decides: the model thinks if its generation prompt has `<think>`. A template that only takes the
    thinking out of earlier replies is no sign. Such templates belong to models that do not think, of families in which others do.
    """
    found = first_that_holds(RULES, architecture, name, template)
    return found or (GENERIC if opens_thinking(template) else None)


def opens_thinking(template: str) -> bool:
    """Return whether a chat template writes `<think>` behind the last message, or switches thinking on and off."""
    return "<think>" in template.rpartition("add_generation_prompt")[2] or (
        "enable_thinking" in template and "<think>" in template
    )
