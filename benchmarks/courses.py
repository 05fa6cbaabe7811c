"""What a batch of a thousand is up against at each provider, and the least time it can take."""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

from darkroom.providers.provider import Rate
from darkroom_tools.emulators.claid import emulator as claid_emulator
from darkroom_tools.emulators.zsky import emulator as zsky_emulator
from darkroom_tools.emulators.zupertry import emulator as zupertry_emulator
from darkroom_tools.emulators.zyng import emulator as zyng_emulator
from darkroom_tools.providers import zsky, zupertry, zyng
from darkroom_tools.providers.claid import provider as claid

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from darkroom.core.json_types import JsonObject
    from darkroom_tools.emulators.sandbox import Sandbox


Batch: TypeAlias = "Callable[[Sandbox, int], JsonObject]"
"""``(sandbox, items)`` -> arguments of ``start_batch``."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Course:
    """A batch and the limits that it is up against.

    ``seconds`` is how long an item takes at the emulator, at least and on average, ``declared`` what
    it multiplies with a random share; ``polls(jobs)``
    is how many questions it takes to learn of every end; ``opens`` are requests beside one for each
    item (Zyng's registrations). ``judged``: it has a target.
    """

    what: str
    limits: str
    emulator: str
    submit: str
    declared: float
    rates: tuple[Rate, ...]
    seconds: tuple[float, float]
    batch: Batch
    polls: Callable[[int], int]
    slots: int | None = None
    opens: Callable[[int], int] = lambda _: 0
    environment: Mapping[str, str] = field(default_factory=dict[str, str])
    switches: Mapping[str, object] = field(default_factory=dict[str, object])
    items: int = 1_000
    judged: bool = True


def optimum(course: Course, items: int) -> float:
    """Return the fewest seconds from the first request to knowing of the last end."""
    requests = course.opens(items) + items + course.polls(items)
    leave = earliest(course.rates, requests)
    last_submission = leave[course.opens(items) + items - 1]
    shortest, mean = course.seconds
    bound = max(leave[-1], last_submission + shortest)
    if course.slots is None:
        return bound
    return max(bound, items * mean / course.slots)


def earliest(rates: Sequence[Rate], count: int) -> list[float]:
    """Return when each of so many requests may leave at the earliest."""
    leave: list[float] = []
    for number in range(count):
        free = [leave[number - r.requests] + r.seconds for r in rates if number >= r.requests]
        leave.append(max([0.0, *free]))
    return leave


# --- the courses ---


def _prompts(sandbox: Sandbox, count: int) -> JsonObject:
    del sandbox
    return {
        "tool": "zsky_start_image",
        "arguments": {"width": 256, "height": 256},
        "for_each": {"prompt": [f"A harbour at dusk, {number}" for number in range(count)]},
    }


def _videos(sandbox: Sandbox, count: int) -> JsonObject:
    return {**_prompts(sandbox, count), "tool": "zsky_start_video", "arguments": {}}


def _tryons(sandbox: Sandbox, count: int) -> JsonObject:
    return {
        "tool": "zupertry_start_tryon",
        "arguments": {"model_image_url": sandbox.sample("model", 1)},
        "for_each": {"garment_image_url": _addresses(sandbox, "garment", count)},
    }


def _edits(sandbox: Sandbox, count: int) -> JsonObject:
    return {
        "tool": "claid_start_image_edit",
        "arguments": {"operations": {"adjustments": {"hdr": 5}}},
        "for_each": {"input": _addresses(sandbox, "product", count)},
    }


def _workflows(sandbox: Sandbox, count: int) -> JsonObject:
    addresses = _addresses(sandbox, "product", count)
    size = min(zyng.MOST_IMAGES, count)
    return {
        "tool": "zyng_start_images",
        "arguments": {
            "workflow_details": {"operation": "grayscale"},
            "output_details": {"format": "png"},
        },
        "for_each": {
            "images": [
                [{"image_url": address} for address in addresses[start : start + size]]
                for start in range(0, count, size)
            ]
        },
    }


def _addresses(sandbox: Sandbox, kind: str, count: int) -> list[Any]:
    return [f"{sandbox.sample(kind, 1)}?number={number}" for number in range(count)]


def _zyng(tier: int, items: int = 1_000) -> Course:
    return Course(
        what=f"Zyng tier {tier}",
        limits=f"{zyng.REQUESTS_PER_MINUTE[tier]:,} a minute",
        emulator="zyng",
        submit="process_image",
        declared=zyng_emulator.PROCESSING_SECONDS,
        rates=(Rate(zyng.REQUESTS_PER_MINUTE[tier], 60),),
        seconds=(
            zyng_emulator.PROCESSING_SECONDS * zyng_emulator.SHORTEST,
            zyng_emulator.PROCESSING_SECONDS,
        ),
        batch=_workflows,
        polls=lambda count: math.ceil(count / zyng.MOST_IMAGES),
        opens=lambda count: math.ceil(count / zyng.MOST_IMAGES),
        environment={
            "DARKROOM_ZYNG__TIER": str(tier),
            "ZYNG_API_KEY": f"zyng-sandbox-key-tier-{tier}",
        },
        switches={"counted": ("register_request", "process_image", "poll_results")},
        items=items,
    )


def _zsky(what: str, kind: Literal["image", "video"], batch: Batch) -> Course:
    seconds, average = (
        zsky_emulator.SECONDS[kind],
        (zsky_emulator.SHORTEST + zsky_emulator.LONGEST) / 2,
    )
    return Course(
        what=what,
        limits="20 a minute, 3 at once",
        emulator="zsky",
        submit=f"generate_{kind}",
        declared=seconds,
        rates=(Rate(zsky.REQUESTS_PER_MINUTE, 60),),
        slots=zsky.CONCURRENT_JOBS,
        seconds=(seconds * zsky_emulator.SHORTEST, seconds * average),
        batch=batch,
        polls=lambda count: count,
        environment={
            "DARKROOM_ZSKY__IMAGES_PER_DAY": "1000000",
            "DARKROOM_ZSKY__VIDEOS_PER_DAY": "1000000",
            "DARKROOM_ZSKY__ALLOW_OVERAGE": "true",
        },
        switches={"overage": True, "soft_cap": False},
    )


COURSES: dict[str, Course] = {
    "zsky": _zsky("ZSky images", "image", _prompts),
    "zsky-video": replace(_zsky("ZSky videos", "video", _videos), items=200, judged=False),
    "zupertry": Course(
        what="Zuper Try-On",
        limits="60 a minute",
        emulator="zupertry",
        submit="submit",
        declared=zupertry_emulator.PENDING_SECONDS + zupertry_emulator.PROCESSING_SECONDS,
        rates=(Rate(zupertry.REQUESTS_PER_MINUTE, 60),),
        seconds=(
            (zupertry_emulator.PENDING_SECONDS + zupertry_emulator.PROCESSING_SECONDS)
            * zupertry_emulator.SHORTEST,
            zupertry_emulator.PENDING_SECONDS + zupertry_emulator.PROCESSING_SECONDS,
        ),
        batch=_tryons,
        polls=lambda count: math.ceil(count / zupertry.LARGEST_PAGE),
    ),
    "claid": Course(
        what="Claid",
        limits="120 a minute, 4 a second",
        emulator="claid",
        submit="submit",
        declared=claid_emulator.PROCESSING_SECONDS,
        rates=(Rate(claid.REQUESTS_PER_MINUTE, 60), Rate(claid.REQUESTS_PER_SECOND, 1)),
        seconds=(
            claid_emulator.PROCESSING_SECONDS * claid_emulator.SHORTEST,
            claid_emulator.PROCESSING_SECONDS,
        ),
        batch=_edits,
        polls=lambda count: count,
    ),
    "zyng-1": _zyng(1),
    "zyng-2": _zyng(2),
    "zyng-3": replace(_zyng(3), judged=False),
    "zyng-3-long": _zyng(3, 10_000),
}
