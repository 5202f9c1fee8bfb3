"""What every performance claim in the README is measured with: `make bench`, or `python -m benchmarks --only NAME`."""
