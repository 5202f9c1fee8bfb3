"""The training commands, their options, and the server's implementation of the ports of `adapters.training`."""
