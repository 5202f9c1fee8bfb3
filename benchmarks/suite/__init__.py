"""Easy to intermediate questions that a small model can learn: data to train on, and a test: `python -m benchmarks.suite --help`."""
