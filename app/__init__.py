"""The service: the only package that knows FastAPI, Prometheus or vLLM."""
