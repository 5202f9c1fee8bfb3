"""The engine over vLLM: the only package that imports it in the server's process."""
