"""Anthropic's Messages API: bodies, their conversion to a conversation, replies, streams and errors."""
