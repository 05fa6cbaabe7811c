"""Streamable HTTP: the gate, connections, what clients need, sessions, the token."""
