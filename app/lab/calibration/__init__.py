"""Measures what each plan costs and gains on questions with known answers, and builds a policy from it."""
