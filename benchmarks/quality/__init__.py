"""Accuracy against FLOPs per question, with all costs charged: `python -m benchmarks.quality run`, then `… report`."""
