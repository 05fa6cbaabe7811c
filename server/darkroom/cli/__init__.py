"""The command `darkroom`, one module for each of its commands."""

from darkroom.cli.command_line import main

__all__ = ["main"]
