"""Serves one request through a line of stages, one module each; `service` shows the line. Knows neither HTTP nor vLLM."""
