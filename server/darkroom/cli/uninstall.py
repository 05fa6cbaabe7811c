"""`darkroom uninstall`: take this server out of a host's configuration."""

from __future__ import annotations

from typing import TYPE_CHECKING

from darkroom.catalogue.loading import completed, load_catalogues
from darkroom.cli.hosts.files import change
from darkroom.cli.hosts.known import HOSTS
from darkroom.cli.install import apply, file_of
from darkroom.core.environment import process_environment

if TYPE_CHECKING:
    import argparse


def run(options: argparse.Namespace) -> int:
    """Show the change, ask, and write it; jobs, results and keys are not deleted."""
    host = HOSTS[options.host]
    path = file_of(host, process_environment(), project=options.project)
    providers = [p for catalogue in load_catalogues() for p in completed(catalogue).providers]
    planned = change(path, (host.section, options.name), None, form=host.form)
    return apply(planned, providers, yes=options.yes, host=host)
