"""The life of LoRA adapters. Knows neither the service nor the strategies."""
