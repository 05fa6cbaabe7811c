"""Stores: SQLite and memory, and the lease by which processes know each other."""
