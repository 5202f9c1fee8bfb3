"""Easy to intermediate questions that a small model can learn, as training data and as a test.

`python -m benchmarks.suite --help`.
"""
