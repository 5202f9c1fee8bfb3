"""The offline part: what measures policies and trains adapters. The server never imports it."""
