"""Use cases: start, check, call, cancel, resolve, batches; and how the parts are put together."""
