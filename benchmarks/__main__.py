"""Measure; when everything was measured, write the results and whatever is made from them.

Those are ``RESULTS.json`` and ``RESULTS.md`` beside this file, the plots and parts of the documents
(`tests.project.documents`, which ``make docs`` runs alone).
"""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

from tests.project import documents

from benchmarks import (
    batches,
    budget,
    check,
    conversation,
    faults,
    journal,
    least_time,
    live,
    pictures,
    polling,
    startup,
    web,
)
from benchmarks.measure import Options, load, machine
from benchmarks.report import Report

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from benchmarks.measure import Detail, Number

BENCHMARKS: dict[str, Callable[[Options], list[Number]]] = {
    "spawn": startup.spawn,
    "memory": startup.memory,
    "check": check.check,
    "web": web.web,
    "live": live.live,
    "poll": live.poll,
    "journal": journal.journal,
    "polling": polling.polling,
    "batches": batches.batches,
    "least_time": least_time.least_time,
    "faults": faults.faults,
    "conversation": conversation.conversation,
    "pictures": pictures.pictures,
    "tokens": budget.tokens,
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the benchmarks that are named, or all; return 0 if every target was met, else 1."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="name", help=", ".join(BENCHMARKS))
    parser.add_argument("--quick", action="store_true", help="show that it works, no more")
    parser.add_argument("--json", metavar="FILE", type=Path, help="write the results there")
    options = parser.parse_args(arguments)
    if unknown := set(options.names) - BENCHMARKS.keys():
        parser.error(f"no such benchmark: {', '.join(sorted(unknown))}")
    names = options.names or list(BENCHMARKS)
    about: dict[str, Detail] = {**machine(), "load before": load()}
    results: dict[str, list[Number]] = {}
    seconds: dict[str, float] = {}
    began = time.monotonic()
    for name in names:
        started = time.monotonic()
        results[name] = BENCHMARKS[name](Options(quick=options.quick))
        seconds[name] = time.monotonic() - started
        for number in results[name]:
            verdict = f" ({number.target})" if number.target else ""
            missed = "" if number.met else "  MISSED"
            print(f"{name}: {number.found}{verdict}  {number.what}{missed}", flush=True)
        print(f"{name}: {seconds[name]:.0f} s", flush=True)
    about |= {"load after": load(), "minutes": (time.monotonic() - began) / 60}
    report = Report(machine=about, results=results, seconds=seconds)
    if options.json is not None:
        report.write(options.json)
    if not options.names and not options.quick:
        report.write(documents.RESULTS)
        documents.write()
    return 1 if report.missed else 0


if __name__ == "__main__":
    sys.exit(main())
