"""Trains adapters and verifiers, and prunes models. Only this package imports trl, peft, bitsandbytes and datasets."""
