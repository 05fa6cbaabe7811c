"""The machine: everything that a provider does not know about."""

__version__ = "0.1.0"
