"""The command `darkroom`, with one module for each subcommand."""

from darkroom.cli.command_line import main

__all__ = ["main"]
