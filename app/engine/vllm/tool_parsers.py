"""Which of vLLM's parsers of tool calls fits a model. Imports nothing of vLLM."""

from app.engine.vllm.parser_rules import Rule, first_that_holds

GENERIC = "hermes"
"""Reads JSON between `<tool_call>` and `</tool_call>`, as Qwen and many others write it."""

RULES = (
    # Families that have a form of their own, whatever their chat template looks like.
    Rule("openai", "GptOss"),
    Rule("kimi_k3", "KimiK3"),
    Rule("inkling", "Inkling"),
    Rule("muse_glimmer", "MuseGlimmer"),
    Rule("k2_horizon", "K2Horizon"),
    Rule("poolside_v1", "Laguna"),
    Rule("hy_v3", "HYV3"),
    Rule("hy_v4", "HYV4"),
    Rule("ling3", "BailingMoeV3"),
    Rule("mimo", "MiMoV2(For|Omni)", template="<parameter="),
    Rule("step3p5", "Step3p", template="<parameter="),
    Rule("xlam", name="xlam"),
    # What a call looks like in the chat template.
    Rule("minimax_m3", template=r"\]<\]minimax\[>\["),
    Rule("minimax_m2", template="<minimax:tool_call>"),
    Rule("seed_oss", template="<seed:tool_call>"),
    Rule("longcat", template="<longcat_tool_call>"),
    Rule("dots", template="<dots_function_call>"),
    Rule("functiongemma", template="<start_function_call>"),
    Rule("gemma4", template=r"<\|tool_call>"),
    Rule("qwen3_coder", template="<parameter="),
    Rule("glm45", template="<arg_key>"),
    Rule("minicpm5", template="<param name="),
    Rule("kimi_k2", template=r"<\|tool_calls_section_begin\|>"),
    Rule("deepseek_v3", template="<.tool▁call▁begin.>.*```json"),
    Rule("deepseek_v31", template="<.tool▁call▁begin.>"),
    Rule("step3", template="<.tool_calls_begin.>"),
    Rule("mistral", template=r"\[TOOL_CALLS\]"),
    Rule("cohere_command4", "Cohere2Moe|Cohere.*Vision", template=r"<\|START_ACTION\|>"),
    Rule("cohere_command3", template=r"<\|START_ACTION\|>"),
    Rule("plamo3", template=r"<\|plamo:begin_tool_request"),
    Rule("apertus", template=r"<\|tools_prefix\|>"),
    Rule("lfm2", template=r"<\|tool_call_start\|>"),
    Rule("internlm", template=r"<\|plugin\|>"),
    Rule("gigachat3", template=r"<\|role_sep\|>|<\|function_call\|>"),
    Rule("hunyuan_a13b", "HunYuan", template="<tool_calls>"),
    Rule("jamba", "Jamba", template="<tool_calls>"),
    Rule("olmo3", "Olmo", template="<function_calls>"),
    Rule("granite-20b-fc", "GPTBigCode", template="<function_call>"),
    Rule("granite4", "Granite", template="</tool_call>"),
    Rule("ernie45", "Ernie4_5", template="<tool_call>"),
    Rule("phi4_mini_json", template="functools"),
    Rule("llama4_pythonic", "Llama4", template=r"\[func_name1\("),
    Rule("pythonic", template=r"\[func_name1\("),
    Rule("llama4_json", "Llama4", template='"parameters": '),
    Rule("llama3_json", "Llama|Mllama", template='"parameters": dictionary of argument name'),
    # Families whose chat template does not tell, or that have none.
    Rule("deepseek_v41", "DeepseekV41"),
    Rule("deepseek_v4", "DeepseekV4"),
    Rule("deepseek_v32", "DeepseekV32"),
    Rule("granite", "Granite", template=r"<\|tool_call\|>|^$"),
    Rule("lfm2", "Lfm2"),
    Rule("llama4_pythonic", "Llama4"),
    Rule("mistral", "Mistral|Ministral|Pixtral", template="^$"),
    Rule("phi4_mini_json", "Phi", "phi-4-mini"),
    Rule("plamo3", "Plamo3"),
)
"""Of vLLM 0.32, the first that holds."""


def choose(architecture: str, name: str, template: str) -> str:
    """Return vLLM's name of the parser."""
    return first_that_holds(RULES, architecture, name, template) or GENERIC
