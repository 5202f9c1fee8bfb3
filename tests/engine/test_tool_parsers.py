"""Which of vLLM's parsers of tool calls is chosen for a model."""

import pytest

from adapters.preload import SHIPPED
from app.engine.vllm import reasoning_parsers
from app.engine.vllm.tool_parsers import GENERIC, RULES, choose
from app.engine.weights.default_model import CHAT_TEMPLATE
from app.settings import DEFAULT_MODEL

PLAIN = "{% for message in messages %}<|im_start|>{{ message.role }}\n{{ message['content'] }}<|im_end|>\n{% endfor %}"
JSON = PLAIN + '<tool_call>\n{"name": <function-name>, "arguments": <args-json-object>}\n</tool_call>'
XML = PLAIN + "<tool_call>\n<function=example_function_name>\n<parameter=example_parameter_1>\nvalue_1\n</parameter>"
KEYS = PLAIN + "<tool_call>{function-name}\n<arg_key>{arg-key-1}</arg_key>\n<arg_value>{arg-value-1}</arg_value>"
LLAMA = """{{- 'Respond in the format {"name": function name, "parameters": dictionary of argument name and its value}.' }}
{{- '"parameters": ' }}"""
PYTHONIC = "Respond in the format [func_name1(params_name1=params_value1, params_name2=params_value2...), func_name2(params)]"
DEEPSEEK = "<\uff5ctool▁calls▁begin\uff5c><\uff5ctool▁call▁begin\uff5c>' + tool['function']['name'] + '<\uff5ctool▁sep\uff5c>"
GRANITE = "respond only with <|tool_call|> followed by a JSON list of tools used."


@pytest.mark.parametrize(
    ("architecture", "name", "template", "parser"),
    [
        ("", "", "", "hermes"),
        ("Qwen2ForCausalLM", "Qwen/Qwen2.5-7B-Instruct", JSON, "hermes"),
        ("Qwen3ForCausalLM", "Qwen/Qwen3-8B", JSON, "hermes"),
        ("Qwen3NextForCausalLM", "Qwen/Qwen3-Next-80B-A3B-Instruct", JSON, "hermes"),
        ("LlamaForCausalLM", "NousResearch/Hermes-3-Llama-3.1-8B", JSON, "hermes"),
        ("MistralForCausalLM", "NousResearch/Hermes-2-Pro-Mistral-7B", JSON, "hermes"),
        ("MistralForCausalLM", "HuggingFaceH4/zephyr-7b-beta", PLAIN, "hermes"),
        ("Qwen3MoeForCausalLM", "Qwen/Qwen3-Coder-30B-A3B-Instruct", XML, "qwen3_coder"),
        ("Qwen3_5ForConditionalGeneration", "Qwen/Qwen3.5-9B", XML, "qwen3_coder"),
        ("NemotronHForCausalLM", "nvidia/NVIDIA-Nemotron-3-Nano-30B-A3B-BF16", XML, "qwen3_coder"),
        ("MiMoV2FlashForCausalLM", "XiaomiMiMo/MiMo-V2-Flash", XML, "qwen3_coder"),
        ("MiMoV2ForCausalLM", "XiaomiMiMo/MiMo-V2.5", XML, "mimo"),
        ("Step3p5ForCausalLM", "stepfun-ai/Step-3.5-Flash", XML, "step3p5"),
        ("SeedOssForCausalLM", "ByteDance-Seed/Seed-OSS-36B", "<seed:tool_call>\n<function=f>\n<parameter=p>1", "seed_oss"),
        ("LlamaForCausalLM", "meta-llama/Llama-3.1-8B-Instruct", LLAMA, "llama3_json"),
        ("MllamaForConditionalGeneration", "meta-llama/Llama-3.2-11B-Vision-Instruct", LLAMA, "llama3_json"),
        ("LlamaForCausalLM", "meta-llama/Llama-3.2-1B-Instruct", PYTHONIC, "pythonic"),
        ("Llama4ForConditionalGeneration", "meta-llama/Llama-4-Scout-17B-16E-Instruct", LLAMA, "llama4_json"),
        ("Llama4ForConditionalGeneration", "meta-llama/Llama-4-Scout-17B-16E-Instruct", PYTHONIC, "llama4_pythonic"),
        ("LlamaForCausalLM", "Salesforce/Llama-xLAM-2-8b-fc-r", LLAMA, "xlam"),
        ("GptOssForCausalLM", "openai/gpt-oss-20b", "<|channel|>commentary to=functions.", "openai"),
        ("DeepseekV3ForCausalLM", "deepseek-ai/DeepSeek-V3-0324", DEEPSEEK + "\\n```json\\n", "deepseek_v3"),
        ("Qwen2ForCausalLM", "deepseek-ai/DeepSeek-R1-Distill-Qwen-32B", DEEPSEEK + "\\n```json\\n", "deepseek_v3"),
        ("DeepseekV3ForCausalLM", "deepseek-ai/DeepSeek-V3.1", DEEPSEEK, "deepseek_v31"),
        ("DeepseekV32ForCausalLM", "deepseek-ai/DeepSeek-V3.2", "", "deepseek_v32"),
        ("DeepseekV4ForCausalLM", "deepseek-ai/DeepSeek-V4-Flash", "", "deepseek_v4"),
        ("DeepseekV3ForCausalLM", "moonshotai/Kimi-K2-Instruct", "<|tool_calls_section_begin|>", "kimi_k2"),
        ("DeepseekV3ForCausalLM", "ai-sage/GigaChat3-10B-A1.8B", 'role_sep="<|role_sep|>\\n"', "gigachat3"),
        ("KimiK3ForConditionalGeneration", "moonshotai/Kimi-K3", "", "kimi_k3"),
        ("MistralForCausalLM", "mistralai/Mistral-7B-Instruct-v0.3", '{{- "[TOOL_CALLS] [" }}', "mistral"),
        ("Mistral3ForConditionalGeneration", "mistralai/Mistral-Small-3.2-24B-Instruct-2506", "", "mistral"),
        ("Glm4MoeForCausalLM", "zai-org/GLM-4.6", KEYS, "glm45"),
        ("Glm4MoeLiteForCausalLM", "zai-org/GLM-4.7-Flash", KEYS, "glm45"),
        ("LagunaForCausalLM", "poolside/Laguna-XS.2", KEYS, "poolside_v1"),
        ("BailingMoeV3ForCausalLM", "inclusionAI/Ling-3.0-flash", KEYS, "ling3"),
        ("MiniMaxM2ForCausalLM", "MiniMaxAI/MiniMax-M2", "<minimax:tool_call>\n<invoke name=", "minimax_m2"),
        ("MiniMaxM3SparseForCausalLM", "MiniMaxAI/MiniMax-M3", "]<]minimax[>[<tool_call>", "minimax_m3"),
        ("GraniteForCausalLM", "ibm-granite/granite-3.3-8b-instruct", GRANITE, "granite"),
        ("GraniteMoeHybridForCausalLM", "ibm-granite/granite-4.0-h-small", JSON, "granite4"),
        ("GPTBigCodeForCausalLM", "ibm-granite/granite-20b-functioncalling", '"<function_call> {', "granite-20b-fc"),
        ("Gemma4ForConditionalGeneration", "google/gemma-4-E2B-it", "<|tool_call>call:", "gemma4"),
        ("Gemma3ForCausalLM", "google/functiongemma-270m-it", "<start_function_call>call:", "functiongemma"),
        ("Cohere2ForCausalLM", "CohereLabs/command-a-reasoning", "<|START_ACTION|>[", "cohere_command3"),
        ("HunYuanMoEV1ForCausalLM", "tencent/Hunyuan-A13B-Instruct", "<tool_calls>[{", "hunyuan_a13b"),
        ("JambaForCausalLM", "ai21labs/AI21-Jamba-1.5-Mini", "<tool_calls>[", "jamba"),
        ("Olmo3ForCausalLM", "allenai/Olmo-3-7B-Instruct", "<function_calls>\n", "olmo3"),
        ("Lfm2ForCausalLM", "LiquidAI/LFM2-1.2B", "<|tool_list_start|>[", "lfm2"),
        ("Phi3ForCausalLM", "microsoft/Phi-4-mini-instruct", "<|tool|>", "phi4_mini_json"),
        ("Phi3ForCausalLM", "microsoft/Phi-3-mini-4k-instruct", PLAIN, "hermes"),
        ("InternLM2ForCausalLM", "internlm/internlm2_5-7b-chat", "<|action_start|><|plugin|>", "internlm"),
        (
            "ApertusForCausalLM",
            "swiss-ai/Apertus-8B-Instruct-2509",
            "{%- set tool_calls_token = '<|tools_prefix|>' -%}",
            "apertus",
        ),
    ],
)
def test_the_parser_fits_the_model(architecture: str, name: str, template: str, parser: str) -> None:
    """What a call looks like in the chat template comes first: fine-tuned models of one architecture call in many ways."""
    assert choose(architecture, name, template) == parser


def test_vllm_has_every_parser_of_the_table() -> None:
    """All but aliases and those that need metadata of the tokenizer are chosen for some model."""
    from vllm.tool_parsers import ToolParserManager

    known = set(ToolParserManager.list_registered())
    chosen = {rule.parser for rule in RULES} | {GENERIC}
    assert chosen <= known
    assert known - chosen <= {"glm47", "hf", "qwen3_json", "qwen3_xml"}


def test_no_rule_holds_for_every_model() -> None:
    """The marks of templates are full of `|` and `[`, which have a meaning in expressions."""
    assert not [rule for rule in (*RULES, *reasoning_parsers.RULES) if rule.holds("", "", PLAIN + "<tool_call>")]


def test_the_embedded_model_and_its_adapters_call_in_one_way() -> None:
    """An adapter may have a chat template of its own."""
    for template in (CHAT_TEMPLATE, SHIPPED / DEFAULT_MODEL / "thinking" / "chat_template.jinja"):
        assert choose("LlamaForCausalLM", DEFAULT_MODEL, template.read_text(encoding="utf-8")) == "hermes"
