"""Makes what the server swaps: adapters, verifiers and pruned models. The only home of trl, peft, bitsandbytes and datasets."""
