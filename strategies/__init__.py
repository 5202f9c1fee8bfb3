"""Test-time search over ports, and nothing else: no HTTP, no vLLM, no Prometheus."""
