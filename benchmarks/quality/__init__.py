"""Accuracy against FLOPs per question, all costs charged: `python -m benchmarks.quality run`, then `… report`."""
