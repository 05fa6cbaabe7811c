"""The check of a finished job over HTTP: how many a second, and how late while jobs are polled."""

from __future__ import annotations

import json
import time
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

from benchmarks import listeners
from benchmarks.http_load import in_flight, one_by_one, result
from benchmarks.measure import Number, interleaved, percentile, quiet_p99, spread
from benchmarks.seeding import fill, running, write
from benchmarks.wire import ERAS, environment

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from benchmarks.http_load import Line, Listener
    from benchmarks.measure import Detail, Options
    from benchmarks.wire import Era

SIDE_BY_SIDE = 8
"""Calls in flight: as many as a few busy chats have."""

EXTRA = ("httptools", "uvloop")
"""What our extra ``http`` brings. The SDK's own server takes the first, too, where it finds it."""

AT_LEAST = 1.2

POLLED_JOBS = 1_000
POLLED_AGES_SECONDS = 60.0
"""The jobs take about a minute, and were begun at any time within the last one."""

AT_MOST = 1.5
BLOCK = 400
"""Calls, one after the other, before the other server has its turn."""

MICRO = 1e6


def web(options: Options) -> list[Number]:
    """Compare how many checks a second servers answer, and what polling does to one of ours."""
    return [*_throughput(options), _polled(options)]


def _throughput(options: Options) -> list[Number]:
    with TemporaryDirectory() as temporary, ExitStack() as stack:
        folder = Path(temporary)
        state, payload = folder / "state", folder / "payload.json"
        fill(state, folder / "results", 1)
        extra = environment(folder)
        plain = listeners.without(extra, folder / "plain", *EXTRA)
        servers = {"ours": stack.enter_context(listeners.ours(extra, state))}
        servers["ours plain"] = stack.enter_context(listeners.ours(plain, state))
        payload.write_text(json.dumps(_answer(servers["ours"])))
        servers["bare"] = stack.enter_context(listeners.bare(plain, payload))
        servers["bare with httptools"] = stack.enter_context(listeners.bare(extra, payload))
        return [number for era in ERAS for number in _in_one_era(options, era, servers)]


def _answer(server: Listener) -> dict[str, object]:
    with server.lines(1) as (line,):
        _, body = line.ask(server.calls("2026-07-28", 1)[0])
        return result(body)


@dataclass(frozen=True, slots=True)
class _Block:
    """Some calls to one server; returns the seconds that one took.

    Each block has connections of its own: the bare server closes those that were idle for 5 s, and
    on a busy machine the others take longer.
    """

    server: Listener
    calls: Sequence[bytes]
    rounds: int

    def __call__(self) -> float:
        with self.server.lines(len(self.calls)) as lines:
            in_flight(lines, self.calls, 1)
            return in_flight(lines, self.calls, self.rounds)


def _in_one_era(options: Options, era: Era, servers: Mapping[str, Listener]) -> list[Number]:
    rounds = options.times(25, 2)
    blocks = [
        _Block(server, server.calls(era, SIDE_BY_SIDE), rounds) for server in servers.values()
    ]
    taken = interleaved(options.times(30, 1), *blocks, warm_up=2)
    seconds = dict(zip(servers, taken, strict=True))
    details: dict[str, Detail] = {}
    for name, samples in seconds.items():
        details[f"{name} a second, most"] = 1 / min(samples)
        details[f"{name} a second, median"] = 1 / percentile(samples, 0.5)
        details[f"{name} a second, p10"] = 1 / percentile(samples, 0.9)
    what = f"`check` requests a second over HTTP, protocol {era}"
    ratios = {
        " / bare `MCPServer` returning the same payload": ("ours", "bare"),
        " / the same with `httptools` for both": ("ours", "bare with httptools"),
        ", without our extra `http` / bare `MCPServer`": ("ours plain", "bare"),
    }
    return [
        Number(
            what=what + words,
            value=min(seconds[theirs]) / min(seconds[mine]),
            at_least=AT_LEAST if not number else None,
            label=f"check over HTTP ({era})" if not number else "",
            details=details if not number else {},
        )
        for number, (words, (mine, theirs)) in enumerate(ratios.items())
    ]


def _polled(options: Options) -> Number:
    rounds, jobs = options.times(20, 2), options.times(POLLED_JOBS, 50)
    with TemporaryDirectory() as temporary, ExitStack() as stack:
        provider = stack.enter_context(listeners.patient_provider())
        lines: dict[str, Line] = {}
        calls: dict[str, bytes] = {}
        for name in ("idle", "busy"):
            folder = Path(temporary) / name
            state = folder / "state"
            fill(state, folder / "results", 1)
            if name == "busy":
                begun = (1 + number for number in range(jobs))
                write(state, (running(at, POLLED_AGES_SECONDS * at / jobs) for at in begun))
            variables = environment(folder, ZSKY_BASE_URL=provider.address)
            server = stack.enter_context(
                listeners.ours(listeners.with_root(variables), state, listeners.UNLIMITED)
            )
            _answer(server)
            (lines[name],) = stack.enter_context(server.lines(1))
            (calls[name],) = server.calls("2026-07-28", 1)
        samples: dict[str, list[float]] = {"idle": [], "busy": []}
        for name in samples:
            one_by_one(lines[name], calls[name], BLOCK)
        asked, began = provider.asked(), time.perf_counter()
        for number in range(rounds):
            for name in reversed(samples) if number % 2 else samples:
                samples[name] += one_by_one(lines[name], calls[name], BLOCK)
        polls = (provider.asked() - asked) / (time.perf_counter() - began)
    return Number(
        what=f"p99 of a check over HTTP while {jobs:,} jobs are polled / of an idle server, "
        "in the quieter rounds",
        value=quiet_p99(samples["busy"], BLOCK) / quiet_p99(samples["idle"], BLOCK),
        at_most=AT_MOST,
        label=f"check while {jobs:,} jobs are polled / idle (p99)",
        details={
            "polls a second": polls,
            **spread(samples["busy"], "polled µs", MICRO),
            "polled µs p99": percentile(samples["busy"], 0.99) * MICRO,
            **spread(samples["idle"], "idle µs", MICRO),
            "idle µs p99": percentile(samples["idle"], 0.99) * MICRO,
        },
    )
