"""Corrects the estimates of difficulty while the server runs, by outcomes and by what its own answers show."""
