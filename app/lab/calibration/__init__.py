"""Measures what each plan costs and brings on questions with known answers, and makes a policy of it."""
