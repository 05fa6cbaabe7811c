"""From the command to the first list of tools, and what the process weighs then."""

from __future__ import annotations

import subprocess
import time
from collections import defaultdict
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

from benchmarks.measure import Number, interleaved, spread
from benchmarks.seeding import fill
from benchmarks.wire import BARE, ERAS, OURS, environment, host, opening

if TYPE_CHECKING:
    from collections.abc import Sequence

    from benchmarks.measure import Options
    from benchmarks.wire import Era

IDLE_SECONDS = 1.0
JOBS_IN_JOURNAL = 100_000
MIB = 2**20


def spawn(options: Options) -> list[Number]:
    """Compare the time from starting the process to its first list of tools."""
    numbers: list[Number] = []
    for era in ERAS:
        cpu: dict[tuple[str, ...], list[float]] = {BARE: [], OURS: []}
        bare, ours = interleaved(
            options.times(25, 1),
            partial(first_list, BARE, era, cpu[BARE]),
            partial(first_list, OURS, era, cpu[OURS]),
        )
        numbers.append(
            Number(
                what=f"spawn to first `tools/list`, protocol {era}, all providers on "
                "/ bare `MCPServer` with one tool",
                value=min(ours) / min(bare),
                at_most=1.00,
                label=f"start ({era})",
                details={
                    "tools listed": float(_tools(era)),
                    **spread(ours, "ours ms"),
                    **spread(bare, "bare ms"),
                    "ours CPU ms min": min(cpu[OURS]) * 1e3,
                    "bare CPU ms min": min(cpu[BARE]) * 1e3,
                },
                profile=() if options.quick else _imports(era),
            )
        )
    return numbers


def first_list(command: Sequence[str], era: Era, cpu: list[float]) -> float:
    """Return the seconds from starting a process to its first list of tools.

    ``cpu``: gets the seconds that its main thread has had a core until then; on a machine that is
    busy with other things they say more.
    """
    with TemporaryDirectory() as folder:
        variables = environment(Path(folder))
        began = time.perf_counter()
        with host(command, variables) as server:
            server.tools(era)
            seconds = time.perf_counter() - began
            cpu.append(_core_seconds(server.pid))
            return seconds


def _core_seconds(pid: int) -> float:
    try:
        return int(Path(f"/proc/{pid}/schedstat").read_text().split(maxsplit=1)[0]) / 1e9
    except OSError:
        return 0.0


def memory(options: Options) -> list[Number]:
    """Compare what the processes weigh once they are idle, with little and with much to remember."""
    jobs = options.times(JOBS_IN_JOURNAL, 2_000)
    with TemporaryDirectory() as empty, TemporaryDirectory() as full:
        fill(Path(full) / "state", Path(full) / "results", jobs)
        rounds = options.times(3, 1)
        samples: dict[str, list[tuple[float, float, float]]] = defaultdict(list)
        for _ in range(rounds):
            samples["bare"].append(_idle(BARE, Path(empty)))
            samples["ours"].append(_idle(OURS, Path(empty)))
            samples["full"].append(_idle(OURS, Path(full)))
    weights = {name: min(rss for rss, _, _ in taken) for name, taken in samples.items()}
    shares = {name: min(pss for _, pss, _ in taken) for name, taken in samples.items()}
    lists = {name: min(seconds for _, _, seconds in taken) for name, taken in samples.items()}
    return [
        Number(
            what="memory idle, all providers on, over the bare server (RSS)",
            value=(weights["ours"] - weights["bare"]) / MIB,
            unit="MiB",
            at_most=10,
            digits=1,
            label="memory when idle (over the bare server)",
            details={
                "ours MiB": weights["ours"] / MIB,
                "bare MiB": weights["bare"] / MIB,
                "difference by PSS MiB": (shares["ours"] - shares["bare"]) / MIB,
            },
        ),
        Number(
            what=f"memory more with {jobs:,} finished jobs in the journal (RSS)",
            value=(weights["full"] - weights["ours"]) / MIB,
            unit="MiB",
            at_most=5,
            digits=1,
            label=f"memory for {jobs:,} finished jobs",
            details={"difference by PSS MiB": (shares["full"] - shares["ours"]) / MIB},
        ),
        Number(
            what=f"first `tools/list` with {jobs:,} finished jobs in the journal / with none",
            value=lists["full"] / lists["ours"],
            at_most=1.05,
            details={"full ms": lists["full"] * 1e3, "empty ms": lists["ours"] * 1e3},
        ),
    ]


def _idle(command: Sequence[str], folder: Path) -> tuple[float, float, float]:
    """Return RSS and PSS in bytes after a second of idleness, and the seconds to the first list."""
    variables = environment(folder)
    began = time.perf_counter()
    with host(command, variables) as server:
        server.tools("2026-07-28")
        listed = time.perf_counter() - began
        time.sleep(IDLE_SECONDS)
        fields = dict(
            text.split(":")
            for text in Path(f"/proc/{server.pid}/smaps_rollup").read_text().splitlines()[1:]
        )
        return _bytes(fields["Rss"]), _bytes(fields["Pss"]), listed


def _bytes(text: str) -> float:
    return float(text.split(maxsplit=1)[0]) * 1024


def _tools(era: Era) -> int:
    with TemporaryDirectory() as folder, host(OURS, environment(Path(folder))) as server:
        return len(server.tools(era))


def _imports(era: Era) -> list[str]:
    """Say where the time of importing goes, by package, in ours and in the bare server."""
    lines: list[str] = []
    for name, command in (("ours", OURS), ("bare", BARE)):
        with TemporaryDirectory() as folder:
            python, *rest = command
            run = subprocess.run(
                (python, "-X", "importtime", *rest),
                input=opening(era),
                env=environment(Path(folder)),
                capture_output=True,
                check=False,
            )
        spent: dict[str, float] = defaultdict(float)
        for text in run.stderr.decode().splitlines():
            if text.startswith("import time:") and "cumulative" not in text:
                own, _, module = text.removeprefix("import time:").split("|")
                spent[module.strip().partition(".")[0]] += float(own) / 1e3
        first = sorted(spent, key=lambda package: -spent[package])[:7]
        shown = list(dict.fromkeys([*first, *(p for p in spent if p.startswith("darkroom"))]))
        parts = ", ".join(f"{package} {spent[package]:.0f}" for package in shown)
        lines.append(f"importing, ms, {name}: {sum(spent.values()):.0f} in all; {parts}")
    return lines
