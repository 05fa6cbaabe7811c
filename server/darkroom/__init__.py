"""The server: everything that is the same for all providers."""

__version__ = "0.1.0"
