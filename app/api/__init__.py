"""HTTP: OpenAI's shapes in and out."""
