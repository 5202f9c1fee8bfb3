"""The public Python API of ponder."""
