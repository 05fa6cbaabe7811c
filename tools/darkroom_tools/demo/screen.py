"""The output of the demo: lines that are redrawn on a terminal, plain lines elsewhere."""

from __future__ import annotations

import os
import shutil
import sys
from typing import TYPE_CHECKING

import anyio

from darkroom.core.foreign import printable
from darkroom_tools.demo.plan import ENDED

if TYPE_CHECKING:
    from collections.abc import Sequence

    from darkroom_tools.demo.plan import Shot

FRAME_SECONDS = 0.1
SPINNER = "⠋⠙⠹⠸⠼⠴⠦⠧⠇⠏"
RED, GREEN, DIM, BOLD, PLAIN = "\x1b[31m", "\x1b[32m", "\x1b[2m", "\x1b[1m", "\x1b[0m"


class Screen:
    """The demo's output. Without a terminal (or with NO_COLOR or CI) only changes are printed."""

    def __init__(self) -> None:
        quiet = any(os.environ.get(name) for name in ("NO_COLOR", "CI"))
        self.live = sys.stdout.isatty() and os.environ.get("TERM") != "dumb" and not quiet
        self._unicode = (sys.stdout.encoding or "").lower().replace("-", "").startswith("utf")
        self._shots: Sequence[Shot] = ()
        self._said: dict[Shot, str] = {}
        self._drawn = 0
        self._frame = 0

    def say(self, text: str) -> None:
        """Print lines; characters that the terminal's encoding does not have are replaced."""
        if not self._unicode:
            text = text.encode("ascii", "replace").decode()
        sys.stdout.write(text + "\n")
        sys.stdout.flush()

    def show(self, tools: Sequence[str], shots: Sequence[Shot]) -> None:
        """Print the number of tools and shots, and begin."""
        self._shots = shots
        self.say(
            f"A server process lists {len(tools)} tools; {len(shots)} things run side by side."
        )
        self.say("")

    def changed(self, shot: Shot) -> None:
        """Handle a change of a shot."""
        if self.live:
            return
        line = f"{shot.provider}: {shot.title}: {shot.state}"
        if shot.progress and shot.state not in ENDED:
            line += f", {shot.progress}"
        if shot.state in ENDED:
            line += f" after {shot.seconds(anyio.current_time()):.1f} s"
        if self._said.get(shot) != line:
            self._said[shot] = line
            self.say(printable(line))

    async def animate(self) -> None:
        """Redraw the shots until cancelled."""
        while self.live:
            self.draw()
            await anyio.sleep(FRAME_SECONDS)

    def draw(self) -> None:
        """Draw the shots over the previous drawing."""
        if not self.live:
            return
        width = shutil.get_terminal_size().columns
        self._frame += 1
        lines = [self._line(shot, width) for shot in self._shots]
        up = f"\x1b[{self._drawn}A" if self._drawn else ""
        sys.stdout.write(up + "".join(f"\r\x1b[K{line}\n" for line in lines))
        sys.stdout.flush()
        self._drawn = len(lines)

    def _line(self, shot: Shot, width: int) -> str:
        mark = self._mark(shot)
        seconds = f"{shot.seconds(anyio.current_time()):5.1f} s" if shot.started else " " * 7
        state = printable(
            shot.progress if shot.progress and shot.state == "running" else shot.state
        )
        rest = printable(shot.words)[: max(0, width - 50)]
        return (
            f"  {mark} {shot.provider:<13}{shot.title:<14}{state:<10}{seconds}  {DIM}{rest}{PLAIN}"
        )

    def _mark(self, shot: Shot) -> str:
        if shot.state in ENDED:
            return f"{GREEN}✓{PLAIN}" if shot.good else f"{RED}✗{PLAIN}"
        if shot.state == "running":
            return f"{RED}{SPINNER[self._frame % len(SPINNER)]}{PLAIN}"
        return f"{DIM}·{PLAIN}"

    def table(self, shots: Sequence[Shot]) -> None:
        """Print for each shot its state, duration, number of polls, cost and file."""
        heads = ("", "provider", "what", "state", "took", "polls", "cost", "file")
        rows = [
            (
                "ok" if shot.good else "FAILED",
                shot.provider,
                shot.title,
                shot.state,
                f"{shot.seconds(0.0):.1f} s",
                "-" if shot.polls is None else str(shot.polls),
                shot.cost or "-",
                _files(shot),
            )
            for shot in shots
        ]
        widths = [max(len(row[i]) for row in (heads, *rows)) for i in range(len(heads))]
        self.say("")
        for row in (heads, *rows):
            line = "  ".join(f"{cell:<{w}}" for cell, w in zip(row, widths, strict=True)).rstrip()
            line = printable(line)
            self.say(f"{BOLD}{line}{PLAIN}" if self.live and row is heads else line)
        for shot in shots:
            if not shot.good:
                self.say(printable(f"\n{shot.provider}, {shot.title}: {shot.note}"))


def _files(shot: Shot) -> str:
    if not shot.files:
        return shot.note if shot.good else "-"
    more = f" and {len(shot.files) - 1} more" if len(shot.files) > 1 else ""
    return shot.files[0].name + more
