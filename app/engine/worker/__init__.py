"""What is added to vLLM's worker process."""
