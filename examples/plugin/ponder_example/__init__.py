"""A strategy and a verifier for ponder."""
