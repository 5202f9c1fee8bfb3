"""The limits of a cascade, apart from what reads one: the help pages name them, and must not wait for numpy."""

MAX_MEMBERS = 6
"""The most models and adapters that one cascade chooses among. The file has estimators for each pair of them."""
