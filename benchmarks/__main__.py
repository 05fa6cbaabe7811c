"""Measure; write RESULTS.md and RESULTS.json beside this file when everything was measured."""

from __future__ import annotations

import argparse
import json
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

from benchmarks import (
    batches,
    budget,
    check,
    conversation,
    journal,
    live,
    pictures,
    polling,
    startup,
)
from benchmarks.measure import Options, load, machine
from benchmarks.report import to_json, to_markdown

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from benchmarks.measure import Detail, Number

HERE = Path(__file__).parent

BENCHMARKS: dict[str, Callable[[Options], list[Number]]] = {
    "spawn": startup.spawn,
    "memory": startup.memory,
    "check": check.check,
    "live": live.live,
    "poll": live.poll,
    "journal": journal.journal,
    "polling": polling.polling,
    "batches": batches.batches,
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
    began = time.monotonic()
    for name in names:
        results[name] = BENCHMARKS[name](Options(quick=options.quick))
        for number in results[name]:
            verdict = f" ({number.target})" if number.target else ""
            missed = "" if number.met else "  MISSED"
            found = f"{number.value:,.{number.digits}f}"
            print(f"{name}: {found} {number.unit}{verdict}  {number.what}{missed}", flush=True)
    about |= {"load after": load(), "minutes": (time.monotonic() - began) / 60}
    if options.json is not None:
        _write_json(options.json, about, results)
    if not options.names and not options.quick:
        _write_json(HERE / "RESULTS.json", about, results)
        (HERE / "RESULTS.md").write_text(to_markdown(about, results), "utf-8")
    return 0 if all(number.met for numbers in results.values() for number in numbers) else 1


def _write_json(path: Path, about: dict[str, Detail], results: dict[str, list[Number]]) -> None:
    path.write_text(
        json.dumps(to_json(about, results), indent=2, ensure_ascii=False) + "\n", "utf-8"
    )


if __name__ == "__main__":
    sys.exit(main())
