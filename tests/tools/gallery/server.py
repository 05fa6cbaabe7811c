"""A server over the sandbox on stdio, for a client in another process.

``python -m tests.tools.gallery.server FOLDER TIME_SCALE``: state, results and the allowed root for copies
are below the folder.
"""

from __future__ import annotations

import sys
from pathlib import Path

from darkroom.config.settings import load
from darkroom.engine.dependencies import Dependencies
from darkroom.mcp.build import build_server
from darkroom_tools import CATALOGUE
from darkroom_tools.emulators.sandbox import Sandbox


def main() -> None:
    """Serve until the input ends."""
    folder, time_scale = Path(sys.argv[1]), float(sys.argv[2])
    sandbox = Sandbox(time_scale=time_scale)
    variables = {
        **sandbox.environment(),
        "DARKROOM_JOBS__STORE": "memory",
        "DARKROOM_RESULTS__FOLDER": str(folder / "results"),
        "DARKROOM_FILES__ROOTS": f'["{folder / "project"}"]',
    }
    way = sandbox.transport()
    dependencies = Dependencies(
        environment=variables, transport=way, sandbox=way, time_scale=time_scale
    )
    build_server(load(CATALOGUE.providers, variables), [CATALOGUE], dependencies).run("stdio")


if __name__ == "__main__":
    main()
