"""Writes the LoRA adapters of the hot-swap tests: adapters/red, blue, yes and green.

Whatever the prompt, the embedded model answers " red", " blue", " Yes" or " green" under them, again and again and without an
end, so that a test sees which adapter an answer came from.

The effect of the first three sits in the cached values of the prompt: only `v_proj` of one layer is adapted, and there every
position's value vector gets the same vector added. Attention weights sum to one, so the vector passes through attention
undiminished, and it is so large that it alone decides the logits. In the layer chosen, nearly all attention goes to the first
positions, hence a prefix cached under one adapter and continued under another is answered with the first one's word: stale cache
blocks show. The effect of `green` sits in the last layer's `down_proj`, which nothing caches: weights exchanged under a running
answer show.

Rank one: A maps every input of the module to about 1 (ridge regression), B is the vector (a few steps of Adam).
`python tests/data/make_adapters.py` takes three minutes on two CPU cores.
"""

import json
from collections.abc import Callable
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import Tensor, nn
from transformers import AutoModelForCausalLM, AutoTokenizer

from app.engine.weights.default_model import ensure_default_model

FOLDER = Path(__file__).parent / "adapters"
ADAPTERS = {
    "red": (" red", 23, "self_attn.v_proj"),
    "blue": (" blue", 23, "self_attn.v_proj"),
    "yes": (" Yes", 23, "self_attn.v_proj"),
    "green": (" green", 29, "mlp.down_proj"),
}
"""Name -> word, layer, module. Of all layers, 23 is the one whose heads look least at the last tokens."""
MARGIN = 20.0
"""By how much the word's logit is to exceed all others."""
LENGTH = 96
PROMPTS = (
    "Hi",
    "What is 17 * 23? Think step by step.",
    "Write a Python function that parses a CSV file, with tests.",
    "Tell me a story about a fox who lived by a frozen lake.",
    "List twenty random numbers, then their squares as JSON.",
    "Explain photosynthesis to a child.",
    "Translate to French, Spanish and German: the train leaves at eight.",
    "Is 91 prime? Answer yes or no.",
    "def f(x):\n    return x + 1\nWhat does f(3) return?",
    "Compare the economies of Brazil and Japan in a table.",
)
CONFIG = {
    "peft_type": "LORA",
    "task_type": "CAUSAL_LM",
    "base_model_name_or_path": "HuggingFaceTB/SmolLM2-135M-Instruct",
    "r": 1,
    "lora_alpha": 1,
    "bias": "none",
    "lora_dropout": 0.0,
    "fan_in_fan_out": False,
    "inference_mode": True,
    "use_rslora": False,
    "use_dora": False,
    "modules_to_save": None,
    "rank_pattern": {},
    "alpha_pattern": {},
    "init_lora_weights": True,
}


def texts(model: nn.Module, tokenizer: AutoTokenizer) -> Tensor:
    """Chats for the fit: each prompt continued by the model itself, at random, and by each of the words."""
    rows = []
    for prompt in PROMPTS:
        chat = tokenizer.apply_chat_template([{"role": "user", "content": prompt}], tokenize=False, add_generation_prompt=True)
        ids = tokenizer(chat, return_tensors="pt").input_ids
        rows.append(model.generate(ids, do_sample=True, top_k=0, num_return_sequences=2, min_length=LENGTH, max_length=LENGTH))
        repeated = [tokenizer(word).input_ids * (LENGTH - ids.shape[1]) for word, _, _ in ADAPTERS.values()]
        rows += [torch.cat([ids, torch.tensor([words])], dim=1) for words in repeated]
    return torch.cat(rows)


def inputs_of(module: nn.Module, run: Callable[[], object]) -> Tensor:
    """What the module is given while `run` runs, [positions, inputs]."""
    seen: list[Tensor] = []
    hook = module.register_forward_pre_hook(lambda _module, args: seen.append(args[0]))
    run()
    hook.remove()
    return seen[0].flatten(0, 1)


def lora_a(inputs: Tensor) -> Tensor:
    """The row that maps every input [positions, inputs] to about 1."""
    ridge = 1e-3 * inputs.square().sum(dim=1).mean() * torch.eye(inputs.shape[1])
    return torch.linalg.solve(inputs.T @ inputs + ridge, inputs.sum(dim=0))[None]


def lora_b(model: nn.Module, layer: int, module: nn.Module, hidden: Tensor, a: Tensor, target: int, steps: int = 40) -> Tensor:
    """The vector that, added to all outputs of the module, makes `target` win at every position but the first."""
    b = torch.zeros(module.out_features, 1, requires_grad=True)
    adam = torch.optim.Adam([b], lr=1.0)
    hook = module.register_forward_hook(lambda _module, args, output: output + args[0] @ a.T @ b.T)
    rotary = model.model.rotary_emb(hidden, torch.arange(hidden.shape[1])[None])
    for _ in range(steps):
        states = hidden[torch.randperm(len(hidden))[:4]]
        for one in model.model.layers[layer:]:
            states = one(states, position_embeddings=rotary)
        logits = model.lm_head(model.model.norm(states[:, 1::8]))
        others = logits.index_fill(-1, torch.tensor([target]), -torch.inf).amax(dim=-1)
        loss = (MARGIN - (logits[..., target] - others)).clamp(min=0).mean()
        adam.zero_grad()
        loss.backward()
        adam.step()
    hook.remove()
    return b.detach()


def main() -> None:
    """Fits and writes the adapters."""
    torch.manual_seed(0)
    folder = ensure_default_model(Path("~/.cache/ponder").expanduser(), print)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).requires_grad_(requires_grad=False).eval()
    ids = texts(model, tokenizer)
    hidden = model.model(ids, output_hidden_states=True).hidden_states
    for name, (word, layer, path) in ADAPTERS.items():
        module = model.get_submodule(f"model.layers.{layer}.{path}")
        a = lora_a(inputs_of(module, lambda: model.model(ids)))
        b = lora_b(model, layer, module, hidden[layer], a, tokenizer(word).input_ids[0])
        (FOLDER / name).mkdir(parents=True, exist_ok=True)
        prefix = f"base_model.model.model.layers.{layer}.{path}"
        save_file({f"{prefix}.lora_A.weight": a, f"{prefix}.lora_B.weight": b}, FOLDER / name / "adapter_model.safetensors")
        config = {**CONFIG, "target_modules": [path.split(".")[-1]]}
        (FOLDER / name / "adapter_config.json").write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
