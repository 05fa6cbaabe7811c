"""`darkroom demo`: the demo of the installed catalogue."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

from darkroom.catalogue.loading import load_catalogues
from darkroom.cli.context import log_to_stderr

if TYPE_CHECKING:
    import argparse


def run(options: argparse.Namespace) -> int:
    """Run the demo of the first catalogue that has one."""
    log_to_stderr()
    demo = next((c.demo for c in load_catalogues() if c.demo is not None), None)
    if demo is None:
        sys.stderr.write("darkroom: no catalogue that is installed has a demo\n")
        return 1
    return demo(Path(options.out))
