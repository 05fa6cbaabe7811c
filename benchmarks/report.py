"""What a run found: kept as JSON, from which the page and the plots are made."""

from __future__ import annotations

import json
import re
from collections import defaultdict
from dataclasses import dataclass, field, fields
from typing import TYPE_CHECKING, Any, cast

from benchmarks.measure import Number

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

    from benchmarks.measure import Detail

_MARKUP, _ESCAPED = re.compile(r"[<_*`]"), r"\\\g<0>"


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """The machine, the numbers of each benchmark, and the ``seconds`` that each took."""

    machine: Mapping[str, Detail]
    results: Mapping[str, Sequence[Number]]
    seconds: Mapping[str, float] = field(default_factory=dict[str, float])

    @classmethod
    def read(cls, path: Path) -> Report:
        """Read what `write` wrote."""
        found = json.loads(path.read_text("utf-8"))
        names = {each.name for each in fields(Number)}
        results: defaultdict[str, list[Number]] = defaultdict(list)
        for row in cast("list[dict[str, Any]]", found["numbers"]):
            given = {name: value for name, value in row.items() if name in names}
            results[row["benchmark"]].append(Number(**given))
        return cls(machine=found["machine"], results=dict(results), seconds=found["seconds"])

    def write(self, path: Path) -> None:
        """Write everything as JSON."""
        found = {
            "machine": {label: _rounded(value) for label, value in self.machine.items()},
            "seconds": {name: round(seconds, 1) for name, seconds in self.seconds.items()},
            "numbers": [_row(name, number) for name, number in self],
        }
        path.write_text(json.dumps(found, indent=2, ensure_ascii=False) + "\n", "utf-8")

    def __iter__(self) -> Iterator[tuple[str, Number]]:
        """Yield every number with the name of its benchmark."""
        for name, numbers in self.results.items():
            for number in numbers:
                yield name, number

    @property
    def missed(self) -> list[tuple[str, Number]]:
        """The numbers that are not what we want them to be."""
        return [(name, number) for name, number in self if not number.met]

    def page(self) -> str:
        """Return the page for people; every figure on it comes from the run."""
        judged = [number for _, number in self if number.target]
        lines = [
            "# Results",
            "",
            "Written by `make bench`; see [how each is taken](../docs/benchmarks.md).",
            "",
            "Machine: " + _list(self.machine) + ".",
            "",
            f"{len(judged) - len(self.missed)} of {len(judged)} targets are met.",
            "",
            "| benchmark | number | found | target | |",
            "|---|---|--:|--:|---|",
            *(f"| {name} {_cells(number)}" for name, number in self),
            "",
            "## What is not reached",
            "",
            self.shortfalls(),
            "",
            "## What the numbers were made from",
            "",
        ]
        for name, number in self:
            if number.details or number.profile:
                what = f"- **{name}**, {number.what}: {_list(number.details)}"
                lines += [what.rstrip(": "), *_reasons(number)]
        lines += ["", "## How long it took", "", "Seconds: " + _list(self.seconds) + "."]
        return "\n".join(lines) + "\n"

    def table(self, name: str) -> str:
        """Return the table of one benchmark's numbers; empty if it has not run."""
        head = ["| number | found | target | |", "|---|--:|--:|---|"]
        rows = [_cells(number) for number in self.results.get(name, ())]
        return "\n".join([*head, *rows]) if rows else ""

    def shortfalls(self) -> str:
        """Say what misses its target, and where the time goes."""
        lines: list[str] = []
        for name, number in self.missed:
            lines.append(f"- **{name}**, {number.what}: {number.found}, {number.target}")
            lines += [f"  - {_list(number.details)}"] if number.details else []
            lines += _reasons(number)
        return "\n".join(lines) or "Every target is met."


def _row(name: str, number: Number) -> dict[str, object]:
    """Return a number as JSON has it: what is not there is left out."""
    row: dict[str, object] = {
        "value": round(number.value, 4),
        "details": {label: _rounded(value) for label, value in number.details.items()},
        "profile": list(number.profile),
    }
    all_fields = {
        each.name: row.get(each.name, getattr(number, each.name)) for each in fields(number)
    }
    kept = {key: value for key, value in all_fields.items() if value not in (None, "", {}, [])}
    return {"benchmark": name, **kept, "met": number.met}


def _cells(number: Number) -> str:
    verdict = "" if not number.target else "met" if number.met else "**missed**"
    return f"| {number.what} | {number.found} | {number.target} | {verdict} |"


def _reasons(number: Number) -> list[str]:
    """Return the profile as items of a list, plain: names of functions are no markup."""
    return [f"  - {_MARKUP.sub(_ESCAPED, line)}" for line in number.profile]


def _list(values: Mapping[str, Detail]) -> str:
    return ", ".join(f"{label} {_text(value)}" for label, value in values.items())


def _rounded(value: Detail) -> Detail:
    return value if isinstance(value, str) else round(value, 3)


def _text(value: Detail) -> str:
    if isinstance(value, str):
        return value
    return f"{value:,.0f}" if value == int(value) or abs(value) >= 1000 else f"{value:.3g}"
