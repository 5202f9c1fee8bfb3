"""Train a LoRA adapter on chats, and serve it.

A handful of steps on one answer to every sum, so that it takes a minute on a laptop; `ponder train lora --help` has what a real
training needs, and `ponder train distill` lets a larger model write the answers.

Run:     python examples/train_an_adapter.py       (a server must run: `make serve`)
Prints:  what the trained adapter answers to a sum
"""

import json
import subprocess
import sys
import tempfile
from pathlib import Path


def ponder(*arguments: str | Path) -> str:
    """What a command of ponder's prints."""
    return subprocess.run([sys.executable, "-m", "ponder", *arguments], check=True, stdout=subprocess.PIPE, text=True).stdout


with tempfile.TemporaryDirectory() as folder:
    chats, adapter = Path(folder, "chats.jsonl"), Path(folder, "seven")
    with chats.open("w") as file:
        for a in range(8):
            for b in range(8):
                question = {"role": "user", "content": f"What is {a} + {b}?"}
                print(json.dumps({"messages": [question, {"role": "assistant", "content": "Seven."}]}), file=file)

    recipe = "--rank 4 --alpha 8 --learning-rate 1e-2 --max-steps 8 --batch 1 --context 64 --every 50"
    ponder("train", "lora", "--data", chats, "--out", adapter, *recipe.split())
    ponder("adapters", "push", "seven", adapter)
    print(ponder("ask", "What is 3 + 4?", "--model", "seven", "--strategy", "direct", "--max-tokens", "8").strip())
    ponder("adapters", "remove", "seven")
