"""The life of LoRA adapters: storing, swapping, training. Imports neither the service nor the strategies."""
