"""Answers that are checked line by line while they are written, thoughts that are tried, and the votes of answers."""
