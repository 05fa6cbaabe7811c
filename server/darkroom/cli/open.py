"""`darkroom open`: show results with the viewer of the system."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

import anyio

from darkroom.cli.context import prepare
from darkroom.core.errors import ConfigurationError, JournalError
from darkroom.jobs.model import LOCAL_OWNER
from darkroom.jobs.storage.sqlite import SqliteStore
from darkroom.results import filenames
from darkroom.results.integrity import NotKeptError, open_kept

if TYPE_CHECKING:
    import argparse

    from darkroom.cli.context import CommandContext
    from darkroom.jobs.model import Job

TODAY = "today"


def run(options: argparse.Namespace) -> int:
    """Open a job's picture, or the folder of a job, a batch, a day or all results.

    Nothing is sent or downloaded, and no job is taken over.

    Raises
    ------
    ConfigurationError: there is nothing to open.
    """
    context = prepare(sandbox=False)
    path = _named(context, options.what) if options.what else _newest(context)
    sys.stdout.write(f"{path}\n")
    if options.print:
        return 0
    viewer = viewer_for(path)
    if viewer is None:
        sys.stderr.write("darkroom: this system has no command that opens files\n")
        return 1
    try:
        ended = subprocess.run(viewer, check=False)  # noqa: S603 -- the system's viewer and our path
    except OSError as error:
        raise ConfigurationError(f"{viewer[0]} cannot be started ({error.strerror})") from None
    return 1 if ended.returncode else 0


def viewer_for(path: Path, platform: str = sys.platform) -> list[str] | None:
    """Return the command that opens a file or folder as a double click would."""
    if platform == "win32":
        return [os.path.join(os.environ.get("WINDIR", r"C:\Windows"), "explorer.exe"), str(path)]  # noqa: PTH118 -- a Windows path, also where this is tested
    program = shutil.which("open" if platform == "darwin" else "xdg-open")
    return [program, str(path)] if program else None


def _newest(context: CommandContext) -> Path:
    """Return today's folder, or that of all results if there is none."""
    home = context.settings.results_folder
    today = filenames.day_folder(home, time.time())
    return _there(today if today.is_dir() else home)


def _named(context: CommandContext, what: str) -> Path:
    home = context.settings.results_folder
    if what == TODAY:
        return _there(filenames.day_folder(home, time.time()))
    job = anyio.run(_job, context.settings.state_dir / "journal.sqlite", what)
    if job is None:
        raise ConfigurationError(f"there is no job or batch {what}; `list_jobs` shows them")
    if job.folder is not None and not job.outputs:
        return _there(home / job.folder)
    kept = [Path(output.file or "") for output in job.outputs if _is_kept(home, job, output.index)]
    if not kept:
        raise ConfigurationError(f"{what} is {job.shown_status} and has no file here")
    return kept[0] if len(kept) == 1 else kept[0].parent


def _is_kept(home: Path, job: Job, index: int) -> bool:
    """Tell whether an output's file is the one that was downloaded: no other is handed to a viewer."""
    output = next(each for each in job.outputs if each.index == index)
    try:
        open_kept(home, output).close()
    except NotKeptError:
        return False
    return True


async def _job(journal: Path, job_id: str) -> Job | None:
    if not await anyio.Path(journal).exists():
        return None
    try:
        store = await SqliteStore.open(journal)
        try:
            return await store.job(LOCAL_OWNER, job_id)
        finally:
            await store.close()
    except JournalError as error:
        raise ConfigurationError(str(error)) from None


def _there(path: Path) -> Path:
    if not path.is_dir():
        raise ConfigurationError(f"there is no folder {path} yet: nothing was saved there")
    return path
