"""What a request may spend, what it has spent, and what it would have cost otherwise. Knows no engine and no HTTP."""
