"""What tests of commands share: a setting over emulators, and real processes with a deadline."""

from __future__ import annotations

import os
import subprocess
import sys
from contextlib import contextmanager
from typing import TYPE_CHECKING

from darkroom.cli.context import CommandContext
from darkroom_tools import CATALOGUE

if TYPE_CHECKING:
    from collections.abc import Generator, Mapping
    from pathlib import Path

    from tests.harness import Rig

PROCESS_SECONDS = 60.0
"""After so long a process that does not end has failed its test."""


def setting_of(rig: Rig) -> CommandContext:
    """Return what `prepare` would, for a server under test."""
    return CommandContext(
        catalogues=(CATALOGUE,),
        environment=rig.environment,
        settings=rig.settings,
        dependencies=rig.dependencies,
        sandbox=True,
    )


def environment(folder: Path, **more: str) -> dict[str, str]:
    """Return the environment of a process of ours, with folders of its own and no credential."""
    kept = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("DARKROOM_", "ZYNG_", "ZUPERTRY_", "ZSKY_", "CLAID_", "ZNYX_"))
    }
    return {
        **kept,
        "DARKROOM_JOBS__STATE_DIR": str(folder / "state"),
        "DARKROOM_RESULTS__FOLDER": str(folder / "results"),
        "NO_COLOR": "1",
        **more,
    }


def darkroom(
    *arguments: str, variables: Mapping[str, str], text: str | None = None
) -> subprocess.CompletedProcess[str]:
    """Run the command to its end."""
    return subprocess.run(
        [sys.executable, "-m", "darkroom", *arguments],
        env=dict(variables),
        input=text,
        capture_output=True,
        text=True,
        timeout=PROCESS_SECONDS,
        check=False,
    )


@contextmanager
def spawned(*arguments: str, variables: Mapping[str, str]) -> Generator[subprocess.Popen[bytes]]:
    """Start the command with pipes; it is killed at the end if it still runs."""
    with subprocess.Popen(
        [sys.executable, "-m", "darkroom", *arguments],
        env=dict(variables),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    ) as process:
        try:
            yield process
        finally:
            process.kill()
