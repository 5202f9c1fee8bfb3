"""Final answers: reading them from text, and telling when two are the same."""
