"""Models on disk: the embedded one, and those that are converted before vLLM reads them."""
