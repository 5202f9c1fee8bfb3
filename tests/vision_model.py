"""A tiny random vision-language model in a folder, as a hub would give it: weights, tokenizer, image processor, chat template.

It is an Idefics 3, the family of SmolVLM: vLLM's CPU back end serves it without torchvision. The tokenizer is that of the embedded model,
with the tokens of images added.
"""

from pathlib import Path

SIDE = 28
TILE_TOKENS = 4
_IMAGE = ("<image>", "<fake_token_around_image>", "<global-img>", "<end_of_utterance>")
_TEMPLATE = (
    "{% for message in messages %}<|im_start|>{{ message['role'] }}\n{% if message['content'] is string %}{{ message['content'] }}"
    "{% else %}{% for part in message['content'] %}{% if part['type'] == 'image' %}<image>{% else %}{{ part['text'] }}{% endif %}"
    "{% endfor %}{% endif %}<|im_end|>\n{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


def make_vision_model(tokenizer_folder: Path, folder: Path) -> None:
    """Write the model, whose tower reads squares of `SIDE` pixels as `TILE_TOKENS` tokens. Longer images are cut into at most four."""
    import torch
    from transformers import (
        AutoConfig,
        AutoModelForImageTextToText,
        AutoTokenizer,
        Idefics3ImageProcessorPil,
        Idefics3Processor,
    )

    tokenizer = AutoTokenizer.from_pretrained(tokenizer_folder)
    tokenizer.add_special_tokens({"additional_special_tokens": list(_IMAGE)})
    tokenizer.chat_template = _TEMPLATE
    vocabulary = len(tokenizer) + -len(tokenizer) % 64
    text = {
        "model_type": "llama", "hidden_size": 128, "num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2,
        "intermediate_size": 256, "vocab_size": vocabulary, "max_position_embeddings": 2048, "initializer_range": 0.2,
        "bos_token_id": tokenizer.bos_token_id, "eos_token_id": tokenizer.eos_token_id, "pad_token_id": tokenizer.eos_token_id,
    }  # fmt: skip
    tower = {
        "model_type": "idefics3_vision", "hidden_size": 64, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 96,
        "image_size": SIDE, "patch_size": 7, "initializer_range": 0.2,
    }  # fmt: skip
    tokens = {"image_token_id": tokenizer.convert_tokens_to_ids("<image>"), "pad_token_id": tokenizer.eos_token_id}
    config = AutoConfig.for_model(
        "idefics3", text_config=text, vision_config=tower, scale_factor=2, tie_word_embeddings=False, **tokens
    )
    torch.manual_seed(0)
    AutoModelForImageTextToText.from_config(config, dtype=torch.float32).save_pretrained(folder)
    images = Idefics3ImageProcessorPil(size={"longest_edge": 2 * SIDE}, max_image_size={"longest_edge": SIDE})
    Idefics3Processor(images, tokenizer, image_seq_len=TILE_TOKENS, chat_template=_TEMPLATE).save_pretrained(folder)
    images.save_pretrained(folder)
