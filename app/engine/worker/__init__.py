"""What is added to vLLM's worker process: repairs of its CPU back end, and a measurement. Imports nothing of vLLM.

vLLM mixes one class into its own worker (`worker_extension_cls`), and `AsyncLLM.collective_rpc` calls its methods by name. Everything
here was found and tested with vLLM 0.32; look whether it is still needed when that version changes.
"""
