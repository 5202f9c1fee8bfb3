"""Which strategy a request gets."""
