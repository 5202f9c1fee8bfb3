"""Models on disk: the embedded model, and models that are converted before vLLM loads them."""
