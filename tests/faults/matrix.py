"""The page ``docs/faults.md``: the result of every operation with every fault.

``python -m tests.faults.matrix --write`` writes it; a test compares it.
"""

from __future__ import annotations

import sys
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING

from tests.faults.playing import mistakes, played
from tests.faults.scenarios import FAULTS, SCENARIOS

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from tests.faults.playing import Outcome
    from tests.faults.scenarios import Scenario

PAGE = Path(__file__).parents[2] / "docs" / "faults.md"

OPENING = """# The result of every fault

Every operation of every provider is run with every fault that the emulators can produce, on a
virtual clock. `python -m tests.faults.matrix --write` writes this page, and a test compares it. Other
tests cancel the same calls at every point at which a task can be cancelled.

- **What goes wrong**: `drop`, `hang` and `status` happen before the provider acts, or, with `after`,
  after it; `drop_during` is in the middle of the response. A fault happens once, or `always`.
- **The call says**: the status of the job that the call starts or checks, `ok`, or the error code.
- **Job**: how the job ends if nobody does anything; `queued` jobs are tried again without end.
- **Done**: how many times the provider did it. **Charged**: what the customer paid in the end.
- **Journal**: the attempts; a read has none.
"""


def cells(scenario: Scenario) -> Iterator[tuple[str, Outcome]]:
    """Play a scenario with every fault."""
    for fault in FAULTS:
        yield fault, played(scenario, fault)


def section(scenario: Scenario, outcomes: Mapping[str, Outcome]) -> str:
    """Write the table of one scenario: faults of which the same comes share a row."""
    rows: dict[str, list[str]] = {}
    for fault, outcome in outcomes.items():
        rows.setdefault(_row(scenario, outcome), []).append(fault)
    lines = [f"### {scenario}", ""]
    if scenario.repeatable:
        lines += ["| what goes wrong | the call says | charged |", "|---|---|---|"]
    else:
        lines += [
            "| what goes wrong | the call says | job | done | charged | journal |",
            "|---|---|---|---|---|---|",
        ]
    lines += [f"| {', '.join(faults)} | {row} |" for row, faults in rows.items()]
    return "\n".join(lines) + "\n"


def _row(scenario: Scenario, outcome: Outcome) -> str:
    charged = f"{outcome.charged:g}"
    if scenario.repeatable:
        return f"{outcome.said} | {charged}"
    counts = Counter(outcome.attempts)
    journal = ", ".join(
        state if number == 1 else f"{number} times {state}" for state, number in counts.items()
    )
    job = outcome.job if scenario.check_tool and outcome.job else "none"
    return f"{outcome.said} | {job} | {outcome.acted} | {charged} | {journal or 'none'}"


def page(played_cells: Mapping[Scenario, Mapping[str, Outcome]]) -> str:
    """Write the whole page."""
    parts = [OPENING]
    provider = ""
    for scenario in SCENARIOS:
        if scenario.emulator != provider:
            provider = scenario.emulator
            parts.append(f"## {provider}\n")
        parts.append(section(scenario, played_cells[scenario]))
    return "\n".join(parts)


def main() -> int:
    """Write the page, or say what would change; exit status 1 if a promise is broken."""
    everything = {scenario: dict(cells(scenario)) for scenario in SCENARIOS}
    broken = [
        f"{scenario}, {fault}: {mistake}"
        for scenario, outcomes in everything.items()
        for fault, outcome in outcomes.items()
        for mistake in mistakes(scenario, outcome)
    ]
    sys.stderr.write("".join(f"{line}\n" for line in broken))
    text = page(everything)
    if "--write" in sys.argv[1:]:
        PAGE.write_text(text, "utf-8")
    return 1 if broken else 0


if __name__ == "__main__":
    sys.exit(main())
