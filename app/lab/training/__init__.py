"""The training commands: options, and what `adapters.training` is given by the service through its ports."""
