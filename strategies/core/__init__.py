"""The ports and values of search: what every strategy and every verifier is written against."""
