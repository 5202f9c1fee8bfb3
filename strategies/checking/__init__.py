"""Answers that are checked line by line while they are written."""
