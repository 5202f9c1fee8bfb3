"""Swap a LoRA adapter while it is served: push, ask, push a second version, roll back, delete.

A version is named by its content. The name is switched in one step, running requests end on the version that they began with, and
nobody notices. The two adapters here are test data that say one word each; give two folders of your own, as peft saves them.

Run:     python examples/swap_an_adapter.py [FOLDER FOLDER]        (a server must run: `make serve`)
Prints:  what each version says
"""

import os
import sys
from pathlib import Path

import httpx

ADAPTERS = Path(__file__).parents[1] / "tests" / "data" / "adapters"
first, second = map(Path, sys.argv[1:]) if len(sys.argv) == 3 else (ADAPTERS / "red", ADAPTERS / "green")

server = httpx.Client(base_url=os.environ.get("PONDER_URL", "http://localhost:8000"), timeout=300)


def push(folder: Path) -> str:
    """Upload a version of the adapter `colour`, and let the name stand for it. Returns the version."""
    files = [("files", (name, (folder / name).read_bytes())) for name in ("adapter_config.json", "adapter_model.safetensors")]
    return server.post("/v1/adapters", data={"name": "colour"}, files=files).raise_for_status().json()["version"]


def ask() -> str:
    """What the adapter answers at this moment."""
    body = {"model": "colour", "messages": [{"role": "user", "content": "Name a colour."}], "max_tokens": 4, "temperature": 0}
    return server.post("/v1/chat/completions", json=body).raise_for_status().json()["choices"][0]["message"]["content"].strip()


version = push(first)
print("first version:", ask())
push(second)
print("second version:", ask())
server.post("/v1/adapters/colour/activate", json={"version": version}).raise_for_status()
print("rolled back:", ask())
server.delete("/v1/adapters/colour").raise_for_status()
