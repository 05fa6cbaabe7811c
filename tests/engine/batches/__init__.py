"""Batches: the grammar, the plan, and jobs that depend on each other."""
