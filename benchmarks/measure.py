"""What a measurement is, and how two things are compared fairly on a machine that others use too."""

from __future__ import annotations

import math
import os
import platform
import statistics
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field
from importlib.metadata import version
from multiprocessing import get_context
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from concurrent.futures import Executor

Detail: TypeAlias = float | str
"""One figure, or a remark."""

PACKAGES = ("mcp", "pydantic", "anyio", "httpx2")


@dataclass(frozen=True, slots=True, kw_only=True)
class Number:
    """One line of the results: what was found, and what we want it to be.

    ``at_most`` or ``at_least`` is the target; with neither the number is for information.
    ``label`` is what a plot calls it (empty: it stands in none). ``details`` are what the number
    was made from, ``profile`` says why: where the time goes, or what went wrong.
    """

    what: str
    value: float
    unit: str = ""
    at_most: float | None = None
    at_least: float | None = None
    digits: int = 2
    label: str = ""
    details: Mapping[str, Detail] = field(default_factory=dict[str, Detail])
    profile: Sequence[str] = ()

    @property
    def met(self) -> bool:
        """Tell whether the number, as it is shown, is what we want."""
        shown = round(self.value, self.digits)
        return (self.at_most is None or shown <= self.at_most) and (
            self.at_least is None or shown >= self.at_least
        )

    @property
    def found(self) -> str:
        """The number as it is shown."""
        return f"{self.value:,.{self.digits}f} {self.unit}".strip()

    @property
    def target(self) -> str:
        """What we want it to be, in words; empty where there is no target."""
        if self.at_most is not None:
            return f"at most {self.at_most:,g}"
        return "" if self.at_least is None else f"at least {self.at_least:,g}"


@dataclass(frozen=True, slots=True)
class Options:
    """How much to do: ``quick`` only shows that the measurement works."""

    quick: bool = False

    def times(self, full: int, quick: int) -> int:
        """Return how often to do something."""
        return quick if self.quick else full


def interleaved(
    rounds: int, *candidates: Callable[[], float], warm_up: int = 1
) -> list[list[float]]:
    """Measure candidates in turn, the order reversed every other round; return their samples."""
    samples: list[list[float]] = [[] for _ in candidates]
    for _ in range(warm_up):
        for candidate in candidates:
            candidate()
    order = list(range(len(candidates)))
    for number in range(rounds):
        for index in order if number % 2 else reversed(order):
            samples[index].append(candidates[index]())
    return samples


def elsewhere() -> Executor:
    """Return a process of its own for what waits in real time, beside what measures none."""
    return ProcessPoolExecutor(1, get_context("spawn"))


def percentile(samples: Sequence[float], share: float) -> float:
    """Return the smallest sample that at least ``share`` of all do not exceed."""
    ordered = sorted(samples)
    return ordered[max(0, math.ceil(share * len(ordered)) - 1)]


def quiet_p99(samples: Sequence[float], block: int) -> float:
    """Return the p99 that a quarter of the rounds stay below: others' work is in the rest.

    ``block`` is how many samples a round has.
    """
    rounds = range(0, len(samples), block)
    return percentile([percentile(samples[at : at + block], 0.99) for at in rounds], 0.25)


def spread(samples: Sequence[float], label: str, scale: float = 1e3) -> dict[str, Detail]:
    """Return minimum, median and 90th percentile of samples, scaled (to milliseconds)."""
    return {
        f"{label} min": min(samples) * scale,
        f"{label} median": statistics.median(samples) * scale,
        f"{label} p90": percentile(samples, 0.9) * scale,
    }


def machine() -> dict[str, Detail]:
    """Describe this machine, as far as the numbers depend on it: no names, no paths."""
    return {
        "cores": os.cpu_count() or 0,
        "processor": _processor(),
        "memory GiB": round(_memory_bytes() / 2**30, 1),
        "system": f"{platform.system()} {platform.machine()}",
        "python": f"{platform.python_implementation()} {platform.python_version()}",
        **{name: version(name) for name in PACKAGES},
    }


def load() -> float:
    """Return how many processes wanted a core in the last minute (0 where it is not known)."""
    return os.getloadavg()[0] if hasattr(os, "getloadavg") else 0.0


def _processor() -> str:
    try:
        with Path("/proc/cpuinfo").open(encoding="utf-8") as lines:
            name = next(line for line in lines if line.startswith("model name"))
            return name.partition(":")[2].strip()
    except (OSError, StopIteration):
        return platform.processor() or "unknown"


def _memory_bytes() -> int:
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, ValueError, OSError):
        return 0
