"""What a server process holds: memory, open files, threads, tasks."""

from __future__ import annotations

import json
import os
import re
import select
import signal
import time
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from darkroom.core.task_pool import MOST_RESTING
from tests.soak.inside import FIGURES

if TYPE_CHECKING:
    from collections.abc import Generator, Mapping

SECONDS = 60.0
"""How long a server has to answer, or to come to rest."""

LOOK_SECONDS = 0.2
FIRST_LOOKS = 20
MOST_KEPT = 12
"""Connections to providers that are kept for the next request: four for each, and downloads."""

SPARE = {"darkroom.core.task_pool.TaskPool._work_off": MOST_RESTING, "AnyIO worker thread": 40}
"""Tasks and threads that are kept for the next piece of work, up to so many."""


@dataclass(frozen=True, kw_only=True)
class Held:
    """What a process holds at a moment.

    ``blocks`` are objects and parts of them, by Python's count; ``descriptors`` all that is open but
    the ``connections`` to providers.
    """

    calls: int
    rss_kib: int
    pss_kib: int
    blocks: int
    descriptors: int
    connections: int
    threads: Mapping[str, int]
    tasks: Mapping[str, int]

    def beyond(self, other: Held) -> dict[str, int]:
        """Return what is more than it was, memory aside."""
        more = {
            "descriptors": self.descriptors - other.descriptors,
            "connections": self.connections - max(other.connections, MOST_KEPT),
        }
        for now, then in ((self.threads, other.threads), (self.tasks, other.tasks)):
            for name, count in now.items():
                more[name] = count - max(then.get(name, 0), SPARE.get(name, 0))
        return {name: count for name, count in more.items() if count > 0}

    def total(self) -> int:
        """Return how many things it holds."""
        return self.descriptors + sum(self.threads.values()) + sum(self.tasks.values())

    def __str__(self) -> str:
        return (
            f"{self.calls:>7} calls: {self.rss_kib:>6} KiB RSS, {self.pss_kib:>6} KiB PSS, "
            f"{self.blocks:>6} blocks, {self.descriptors} descriptors, "
            f"{self.connections} connections, {sum(self.threads.values())} threads, "
            f"{sum(self.tasks.values()):>3} tasks"
        )


class Eye:
    """Looks into the process of a server that runs under `tests.soak.inside`.

    ``providers`` is the port of the emulators.
    """

    def __init__(self, process_id: int, pipe: int, providers: int) -> None:
        self._process_id = process_id
        self._pipe = pipe
        self._providers = providers

    def look(self, calls: int) -> Held:
        """Return what the server holds now."""
        os.kill(self._process_id, signal.SIGUSR1)
        line = b""
        while not line.endswith(b"\n"):
            assert select.select([self._pipe], [], [], SECONDS)[0], "the server does not answer"
            line += os.read(self._pipe, 65_536)
        told = json.loads(line)
        opened, connections = self._opened()
        proc = Path(f"/proc/{self._process_id}")
        return Held(
            calls=calls,
            rss_kib=_number(r"VmRSS:\s+(\d+) kB", proc / "status"),
            pss_kib=_number(r"Pss:\s+(\d+) kB", proc / "smaps_rollup"),
            descriptors=opened - connections,
            connections=connections,
            blocks=told["blocks"],
            threads=told["threads"],
            tasks=told["tasks"],
        )

    def _opened(self) -> tuple[int, int]:
        """Return how many files are open, and how many of them are connections to providers."""
        proc = Path(f"/proc/{self._process_id}")
        remote = f":{self._providers:04X}"
        rows = [line.split() for line in (proc / "net/tcp").read_text("ascii").splitlines()[1:]]
        theirs = {f"socket:[{row[9]}]" for row in rows if row[2].endswith(remote)}
        names: list[str] = []
        for descriptor in (proc / "fd").iterdir():
            with suppress(FileNotFoundError):  # closed meanwhile
                names.append(str(descriptor.readlink()))
        return len(names), sum(name in theirs for name in names)

    def at_rest(self, calls: int, rest_of: Held | None) -> Held:
        """Return what the server holds when it holds no more than at ``rest_of``, memory aside.

        Without ``rest_of``: the least of what several looks in turn see.
        """
        if rest_of is None:
            return min((self._later(calls) for _ in range(FIRST_LOOKS)), key=Held.total)
        deadline = time.monotonic() + SECONDS
        while (held := self._later(calls)).beyond(rest_of):
            assert time.monotonic() < deadline, f"more than it was: {held.beyond(rest_of)}"
        return held

    def _later(self, calls: int) -> Held:
        time.sleep(LOOK_SECONDS)
        return self.look(calls)


def _number(pattern: str, file: Path) -> int:
    found = re.search(pattern, file.read_text("ascii", "replace"))
    assert found is not None
    return int(found[1])


@contextmanager
def figures(folder: Path) -> Generator[tuple[dict[str, str], int]]:
    """Yield the variables of a server that can be looked into, and the pipe to read from."""
    path = folder / "figures"
    os.mkfifo(path)
    pipe = os.open(path, os.O_RDWR)  # both ends, so that neither side waits for the other
    try:
        yield {FIGURES: str(path)}, pipe
    finally:
        os.close(pipe)
