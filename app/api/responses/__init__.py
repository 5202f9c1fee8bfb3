"""OpenAI's Responses API: `/v1/responses`, whole, as a stream, or in the background, over a bounded store."""
