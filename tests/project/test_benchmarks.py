"""The benchmarks run: what they find is for `make bench`, on a machine that is quiet."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest
from benchmarks.__main__ import BENCHMARKS
from benchmarks.measure import Number, interleaved, percentile
from benchmarks.plots import plots
from benchmarks.report import Report

from tests.project.documents import RESULTS

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "benchmarks.md"
TARGETS = {
    "spawn": 2,
    "memory": 3,
    "check": 2,
    "web": 3,
    "live": 2,
    "poll": 1,
    "journal": 1,
    "polling": 4,
    "batches": 16,
    "least_time": 42,
    "faults": 2,
    "conversation": 1,
    "pictures": 3,
    "tokens": 10,
}
"""How many numbers of each benchmark have a target."""


IN_NO_PLOT = {"faults", "least_time"}
"""What must be nothing is not drawn, nor what has a row for each of 70 cells."""


@pytest.mark.slow
@pytest.mark.parametrize("name", BENCHMARKS)
def test_a_benchmark_runs_and_reports_all_its_numbers(name: str, tmp_path: Path) -> None:
    found = tmp_path / "found.json"
    run = subprocess.run(
        [sys.executable, "-m", "benchmarks", name, "--quick", "--json", str(found)],
        cwd=ROOT,
        capture_output=True,
        check=False,
        timeout=240,
    )
    assert found.exists(), run.stderr.decode()
    report = Report.read(found)
    numbers = report.results[name]
    assert sum(bool(number.target) for number in numbers) == TARGETS[name]
    assert all(number.value >= 0 or number.unit == "MiB" for number in numbers)
    assert bool(plots(report)) == (name not in IN_NO_PLOT)


def test_the_page_says_of_every_benchmark_how_it_is_taken_and_what_it_means() -> None:
    sections = PAGE.read_text("utf-8").split("\n## ")
    told = {
        match[1]
        for section in sections
        if (match := re.search(r"<!-- made: found (\w+) -->", section)) and "*For you:*" in section
    }
    assert told == BENCHMARKS.keys()


def test_the_results_that_are_shown_are_those_of_the_benchmarks() -> None:
    report = Report.read(RESULTS)
    assert report.results.keys() == BENCHMARKS.keys()
    assert {"processor", "cores", "load before", "load after", "minutes"} <= report.machine.keys()


def test_a_number_is_judged_as_it_is_shown() -> None:
    assert Number(what="ratio", value=1.004, at_most=1.0).met
    assert not Number(what="ratio", value=1.006, at_most=1.0).met
    assert Number(what="ratio", value=1.196, at_least=1.2).met
    assert not Number(what="ratio", value=1.194, at_least=1.2).met
    assert Number(what="for information", value=1e9).met


def test_candidates_are_measured_in_turn_with_the_order_reversed() -> None:
    order: list[str] = []

    def candidate(name: str) -> float:
        order.append(name)
        return float(len(order))

    first, second = interleaved(2, lambda: candidate("a"), lambda: candidate("b"), warm_up=0)
    assert order == ["b", "a", "a", "b"]
    assert (first, second) == ([2.0, 3.0], [1.0, 4.0])


def test_a_percentile_is_a_sample_that_was_taken() -> None:
    samples = [float(value) for value in range(1, 101)]
    assert percentile(samples, 0.5) == 50
    assert percentile(samples, 0.99) == 99
    assert percentile([7.0], 0.99) == 7


def test_a_missed_target_stands_out_on_the_page() -> None:
    slow = Number(
        what="ratio",
        value=1.5,
        at_most=1.0,
        details={"ours ms": 15.0},
        profile=["mcp 400 ms, __exit__ <1>"],
    )
    few = Number(what="requests", value=1.1, at_least=1.2)
    good = Number(what="tokens", value=4_345, at_most=4_500, digits=0)
    report = Report(machine={"cores": 2}, results={"spawn": [slow, good], "web": [few]})
    page = report.page()
    assert "1 of 3 targets are met." in page
    assert "| spawn | ratio | 1.50 | at most 1 | **missed** |" in page
    assert "| spawn | tokens | 4,345 | at most 4,500 | met |" in page
    assert "| web | requests | 1.10 | at least 1.2 | **missed** |" in page
    assert (
        "- **spawn**, ratio: 1.50, at most 1\n  - ours ms 15\n  - mcp 400 ms, \\_\\_exit\\_\\_ \\<1>\n"
        in page
    )


def test_a_report_is_the_same_after_it_was_written_and_read(tmp_path: Path) -> None:
    report = Report(
        machine={"cores": 2, "processor": "a core"},
        results={
            "spawn": [
                Number(
                    what="ratio",
                    value=1.5,
                    unit="ms",
                    at_most=1.0,
                    digits=1,
                    label="start",
                    details={"min": 0.25, "counted by": "hand"},
                    profile=["mcp 400 ms"],
                ),
                Number(what="for information", value=7),
            ],
            "web": [Number(what="requests", value=1.1, at_least=1.2)],
        },
        seconds={"spawn": 2.5, "web": 1},
    )
    report.write(tmp_path / "found.json")
    assert Report.read(tmp_path / "found.json") == report
