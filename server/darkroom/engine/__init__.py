"""Use cases: start, check, call, cancel, resolve and run batches."""
