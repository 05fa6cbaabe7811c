"""Batches: many start calls as one."""
