"""Serves a request in stages, with one module for each stage; `service` runs them in order. It imports neither HTTP code nor vLLM."""
