"""The check of a finished job over stdio, beside a bare server that returns the same."""

from __future__ import annotations

import json
from contextlib import ExitStack
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

from benchmarks.measure import Number, interleaved, percentile
from benchmarks.seeding import fill, job_id
from benchmarks.wire import BARE, ERAS, OURS, environment, host, request

if TYPE_CHECKING:
    from benchmarks.measure import Options
    from benchmarks.wire import Era

FIRST_CALLS = 20
"""Calls that are not counted: imports and caches of both servers."""

MICRO = 1e6


def check(options: Options) -> list[Number]:
    """Compare the time of one check, from its line to the line of its answer."""
    return [number for era in ERAS for number in _check(options, era)]


def _check(options: Options, era: Era) -> list[Number]:
    with TemporaryDirectory() as temporary, ExitStack() as stack:
        folder = Path(temporary)
        fill(folder / "state", folder / "results", 1)
        variables = environment(folder)
        ours = stack.enter_context(host(OURS, variables))
        ours.tools(era)
        given = {"job_id": job_id(0)}
        call = request(era, 3, "tools/call", name="zsky_check_job", arguments=given)
        ours.send(call)
        payload = folder / "payload.json"
        payload.write_text(json.dumps(ours.answer(3)))
        same = request(era, 3, "tools/call", name="check", arguments=given)
        servers = {"dict": stack.enter_context(host((*BARE, str(payload), "dict"), variables))}
        servers["CallToolResult"] = stack.enter_context(
            host((*BARE, str(payload), "result"), variables)
        )
        for server in servers.values():
            server.tools(era)
        mine, *others = interleaved(
            options.times(1_500, 20),
            lambda: ours.seconds(call),
            *(lambda server=server: server.seconds(same) for server in servers.values()),
            warm_up=FIRST_CALLS,
        )
    return [
        Number(
            what=f"`check` of a finished job over stdio, protocol {era} / bare `MCPServer` "
            f"returning the same payload as `{kind}`",
            value=min(mine) / min(theirs),
            at_most=1.0 if kind == "dict" else None,
            label=f"check over stdio ({era}{'' if kind == 'dict' else ', ready-made result'})",
            details={
                "ours µs min": min(mine) * MICRO,
                "ours µs median": percentile(mine, 0.5) * MICRO,
                "ours µs p99": percentile(mine, 0.99) * MICRO,
                "bare µs min": min(theirs) * MICRO,
                "bare µs median": percentile(theirs, 0.5) * MICRO,
                "bare µs p99": percentile(theirs, 0.99) * MICRO,
            },
        )
        for kind, theirs in zip(servers, others, strict=True)
    ]
