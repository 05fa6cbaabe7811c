"""The results as a page for people and as JSON."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from benchmarks.measure import Detail, Number
    from darkroom.errors import JsonObject

Results = dict[str, list["Number"]]


def to_json(about: Mapping[str, Detail], results: Mapping[str, Sequence[Number]]) -> JsonObject:
    """Return everything that was found."""
    return {
        "machine": dict(about),
        "numbers": [
            {
                "benchmark": name,
                "what": number.what,
                "value": round(number.value, 4),
                "unit": number.unit,
                "at_most": number.at_most,
                "at_least": number.at_least,
                "met": number.met,
                "details": {label: _rounded(value) for label, value in number.details.items()},
                "profile": list(number.profile),
            }
            for name, numbers in results.items()
            for number in numbers
        ],
    }


def to_markdown(about: Mapping[str, Detail], results: Mapping[str, Sequence[Number]]) -> str:
    """Return the page; every figure on it comes from the run."""
    lines = [
        "# Results",
        "",
        "Written by `python -m benchmarks`; see [how it measures](../docs/benchmarks.md).",
        "",
        "Machine: " + ", ".join(f"{label} {_text(value)}" for label, value in about.items()) + ".",
        "",
        "| benchmark | number | found | target | |",
        "|---|---|--:|--:|---|",
    ]
    for name, numbers in results.items():
        for number in numbers:
            verdict = "" if not number.target else "met" if number.met else "**missed**"
            found = f"{number.value:,.{number.digits}f} {number.unit}".strip()
            lines.append(f"| {name} | {number.what} | {found} | {number.target} | {verdict} |")
    lines += ["", "## What the numbers were made from", ""]
    for name, numbers in results.items():
        for number in numbers:
            if not number.details and not number.profile:
                continue
            details = ", ".join(
                f"{label} {_text(value)}" for label, value in number.details.items()
            )
            lines.append(f"- **{name}**, {number.what}: {details}".rstrip(": "))
            lines += [f"  - {line}" for line in number.profile]
    return "\n".join(lines) + "\n"


def _rounded(value: Detail) -> Detail:
    return value if isinstance(value, str) else round(value, 3)


def _text(value: Detail) -> str:
    if isinstance(value, str):
        return value
    return f"{value:,.0f}" if value == int(value) or abs(value) >= 1000 else f"{value:.3g}"
