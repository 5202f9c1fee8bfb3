"""The use case: one request from its plan to its account. Knows neither HTTP nor vLLM."""
