"""The whole demo: run the plan, save the pictures, write the page."""

from __future__ import annotations

import shutil
import sys
import tempfile
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING

import anyio
from mcp.shared.exceptions import MCPError

from darkroom_tools.demo.screen import Screen
from darkroom_tools.demo.session import run_plan, server_parameters
from darkroom_tools.demo.sheet import Sheet

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from darkroom_tools.demo.plan import Picture, Shot

DEMO_SECONDS = 58.0
INPUT_PIXELS = 360
"""Longest side of the copies of the input photographs."""


def run(folder: Path) -> int:
    """Run the demo; 0 if everything ended as it should."""
    screen = Screen()
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        sys.stderr.write(f"darkroom: {folder} cannot be made: {error.strerror}\n")
        return 1
    with tempfile.TemporaryDirectory(prefix="darkroom-demo-") as workshop:
        shots, seconds = anyio.run(_run, Path(workshop), screen)
        for shot in shots:
            shot.files = [_keep(file, folder) for file in shot.files]
    anyio.run(_keep_inputs, shots, folder)
    page = folder / "index.html"
    page.write_text(Sheet(shots, folder, seconds).html(), "utf-8")
    screen.table(shots)
    good = bool(shots) and all(shot.good for shot in shots)
    screen.say(f"\n{seconds:.0f} s in all. The contact sheet: {page}")
    return 0 if good else 1


async def _run(workshop: Path, screen: Screen) -> tuple[list[Shot], float]:
    from darkroom_tools import CATALOGUE  # noqa: PLC0415 -- the catalogue names this module

    zyng = any(provider.name == "zyng" for provider in CATALOGUE.providers)
    begun = anyio.current_time()
    shots: list[Shot] = []
    with anyio.move_on_after(DEMO_SECONDS) as scope:
        try:
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(screen.animate)
                shots = await run_plan(
                    server_parameters(workshop, zyng=zyng), screen.show, screen.changed
                )
                tasks.cancel_scope.cancel()
        except* (MCPError, OSError) as errors:
            sys.stderr.write(f"darkroom: the server did not do its part: {_innermost(errors)}\n")
    screen.draw()
    if scope.cancelled_caught:
        sys.stderr.write(f"darkroom: the demo was not over after {DEMO_SECONDS:g} s\n")
    return shots, anyio.current_time() - begun


def _innermost(error: BaseException) -> BaseException:
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]  # pyright: ignore[reportUnknownMemberType, reportUnknownVariableType] -- a group of anything
    return error  # pyright: ignore[reportUnknownVariableType] -- as above


def _keep(file: Path, folder: Path) -> Path:
    """Copy a result from the server's folder, replacing a file of an earlier demo."""
    kept = folder / file.name
    shutil.copyfile(file, kept)
    return kept


async def _keep_inputs(shots: Sequence[Shot], folder: Path) -> None:
    """Save small copies of the input photographs beside the results."""
    from darkroom_tools.sandbox import open_sandbox  # noqa: PLC0415 -- emulators draw them

    sandbox = open_sandbox(time_scale=1.0)
    target = anyio.Path(folder / "inputs")
    await target.mkdir(exist_ok=True)
    for picture in _inputs(shots):
        await (target / picture.name).write_bytes(_smaller(await sandbox.fetch(picture.address)))


def _inputs(shots: Iterable[Shot]) -> Iterable[Picture]:
    return dict.fromkeys(picture for shot in shots for picture in shot.inputs)


def _smaller(photograph: bytes) -> bytes:
    from PIL import Image  # noqa: PLC0415 -- the demo's server needs none

    with Image.open(BytesIO(photograph)) as image:
        image.thumbnail((INPUT_PIXELS, INPUT_PIXELS))
        written = BytesIO()
        image.save(written, "JPEG", quality=85)
    return written.getvalue()
