"""What tests of batches need: two batches to start, waiting for the end, what was paid."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import anyio

from tests.harness import Fields, Rig, call

if TYPE_CHECKING:
    from mcp import Client


def look_book(dependencies: Rig, **more: object) -> dict[str, Any]:
    """Return the arguments of the sentence: these shirts on these models, then cleaned up."""
    sample = dependencies.sandbox.sample
    return {
        "tool": "zupertry_start_tryon",
        "arguments": {},
        "for_each": {
            "model_image_url": [sample("model", 1), sample("model", 2)],
            "garment_image_url": [sample("garment", 1), sample("garment", 2)],
        },
        "then": {
            "tool": "claid_start_image_edit",
            "arguments": {"operations": {"resizing": {"width": 300}}},
            "input": "input",
        },
        "name": "Look book",
        **more,
    }


def prompts(count: int, what: str = "Harbour", tool: str = "zsky_start_image") -> dict[str, Any]:
    """Return the arguments of a batch of pictures, or videos, at ZSky."""
    return {
        "tool": tool,
        "arguments": {"width": 256, "height": 256} if tool == "zsky_start_image" else {},
        "for_each": {"prompt": [f"{what} {n}" for n in range(count)]},
    }


async def until_done(client: Client, batch_id: object, *, hours: float = 1.0) -> Fields:
    """Check until nothing is left to do."""
    with anyio.fail_after(3_600 * hours):
        while True:
            report = await call(client, "check_batch", batch_id=batch_id, wait_seconds=40)
            if report["status"] != "running":
                return report


def charged(dependencies: Rig, emulator: str) -> float:
    """Return what the customer paid in all."""
    return sum(charge.amount for charge in dependencies.sandbox.emulators[emulator].charges)
