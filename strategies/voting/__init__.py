"""Votes over answers: counting, when to stop, and which answers are returned."""
