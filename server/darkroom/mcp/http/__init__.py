"""Streamable HTTP: the gate, sessions, the token."""
