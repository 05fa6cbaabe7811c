"""The numbers we hold ourselves to: ``python -m benchmarks [name ...] [--quick] [--json FILE]``."""
