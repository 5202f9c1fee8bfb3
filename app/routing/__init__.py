"""Chooses the plan of a request: its strategy, its parameters, and the rule that ends its search."""
