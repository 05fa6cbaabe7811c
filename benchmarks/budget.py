"""What the tools and their results cost a model, in tokens of o200k."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

from benchmarks.measure import Number
from benchmarks.seeding import finished
from darkroom.catalogue.dispatch import desks
from darkroom.cli.token_count import count, tool_tokens
from darkroom.config.settings import load
from darkroom.jobs.view import job_text, job_view
from darkroom.mcp.build import INSTRUCTIONS
from darkroom_tools import CATALOGUE

if TYPE_CHECKING:
    from benchmarks.measure import Detail, Options
    from darkroom.catalogue.dispatch import ToolHandler

LARGE = "claid_start_image_edit"
"""Its operations are typed; it has a limit of its own."""

SETS = {"znyx": 2_300}
SET_TOKENS = 1_800


def tokens(options: Options) -> list[Number]:
    """Count the tokens of the list of tools and of a check result."""
    del options
    found = desks([CATALOGUE], lambda _: True, load(CATALOGUE.providers, {}))
    costs = {name: _tokens(desk) for name, desk in found.items()}
    neutral = sum(costs[name] for name, desk in found.items() if desk.provider is None)
    ranked = sorted((n for n in costs if n != LARGE), key=lambda name: -costs[name])
    exact: dict[str, Detail] = {} if count("")[1] else {"counted": "by estimate"}
    numbers = [
        Number(
            what=f"tokens of all {len(costs)} tools",
            value=sum(costs.values()),
            at_most=4_500,
            digits=0,
            label=f"list of all {len(costs)} tools (tokens)",
            details=exact,
        ),
        Number(
            what=f"tokens of the dearest tool (`{ranked[0]}`), without `{LARGE}`",
            value=costs[ranked[0]],
            at_most=300,
            digits=0,
        ),
        Number(
            what="tokens of all names and the instructions",
            value=sum(count(name)[0] for name in costs) + count(INSTRUCTIONS)[0],
            at_most=400,
            digits=0,
        ),
    ]
    if LARGE in costs:
        numbers.append(
            Number(what=f"tokens of `{LARGE}`", value=costs[LARGE], at_most=750, digits=0)
        )
    for provider in CATALOGUE.providers:
        own = sum(costs[operation.name] for operation in provider.operations)
        numbers.append(
            Number(
                what=f"tokens of {provider.title} with the neutral tools",
                value=own + neutral,
                at_most=SETS.get(provider.name, SET_TOKENS),
                digits=0,
                details={"neutral tools": neutral},
            )
        )
    return [*numbers, _result()]


def _tokens(desk: ToolHandler) -> int:
    return tool_tokens(desk.tool.name, desk.tool.description, desk.schema)


def _result() -> Number:
    job, _ = finished(0, Path("/home/person/Pictures/Darkroom/2026-11-22"))
    view = job_view(job)
    structured = json.dumps(view, ensure_ascii=False, separators=(",", ":"))
    text = job_text(view, "zsky_check_job")
    return Number(
        what="tokens of a check result, the structured part or the text, whichever is more",
        value=max(count(structured)[0], count(text)[0]),
        at_most=250,
        digits=0,
        label="result of a check (tokens)",
        details={"structured": count(structured)[0], "text": count(text)[0]},
    )
