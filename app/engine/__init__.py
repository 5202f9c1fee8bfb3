"""Engines: what generates tokens, behind one port (`base.Engine`).

base.py          the port, and the values that cross it
architecture.py  what a model costs: FLOPs by arithmetic on its sizes
speculation.py   what drafted tokens cost beside that
flops/           the arithmetic of every kind of layer, read from a config
build.py         the engine that the settings ask for
free_memory.py   what Linux tells of memory      memory.py  what a server will take
hardware.py      what this machine's processor can do
scripted.py      an engine without a model, for tests
vllm/            the engine over vLLM
worker/          what is added to vLLM's worker process
weights/         models on disk, and their conversions
"""
