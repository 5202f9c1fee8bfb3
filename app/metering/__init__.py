"""What a request costs: arithmetic, accounts, metrics."""
