"""The HTTP layer: reads requests and writes responses in OpenAI's format, and has routes of its own for operators."""
