"""The sandbox and the demo; their modules are imported only when they are used."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from darkroom_tools.emulators.sandbox import Sandbox


REMEMBERED = 1_000
"""Number of requests and charges that each emulator keeps if they cannot be read anyway."""


def open_sandbox(*, time_scale: float, control: bool = False, uploads: bool = True) -> Sandbox:
    """Build the emulators; pictures are made in worker threads.

    ``uploads``: local files are taken, through a bucket that only this process reaches.
    """
    from darkroom_tools.emulators.kit import ThreadOffload  # noqa: PLC0415 -- start-up pays for it
    from darkroom_tools.emulators.sandbox import Sandbox  # noqa: PLC0415 -- as above

    return Sandbox(
        time_scale=time_scale,
        offload=ThreadOffload(),
        control=control,
        remembered=None if control else REMEMBERED,
        uploads=uploads,
    )


async def serve_sandbox(
    *,
    port: int,
    time_scale: float,
    control: bool,
    ready: Callable[[str, Mapping[str, str]], None],
) -> None:
    """Serve the emulators on loopback until a signal comes."""
    from darkroom_tools.emulators.sandbox import serve  # noqa: PLC0415 -- as above

    sandbox = open_sandbox(time_scale=time_scale, control=control, uploads=False)
    await serve(
        sandbox,
        port=port,
        ready=lambda bound: ready(f"http://127.0.0.1:{bound}/", sandbox.environment()),
    )


def run_demo(folder: Path) -> int:
    """Run the demo; return the exit status."""
    from darkroom_tools.demo.show import run  # noqa: PLC0415 -- as above

    return run(folder)
