"""What every performance claim in the documentation is measured with: `make bench`, or `python -m benchmarks --only NAME`."""
