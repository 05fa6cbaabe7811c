"""Streamable HTTP: access checks, sessions and the token."""
