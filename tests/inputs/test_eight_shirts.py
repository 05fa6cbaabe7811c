"""Eight shirts on five models from one call: files on a disk, and strict emulators."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import anyio
import pytest

from tests.harness import call
from tests.inputs.support import bucket_rig, picture

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


pytestmark = pytest.mark.anyio


async def test_eight_shirts_on_five_models_are_one_call_and_thirteen_uploads(
    tmp_path: Path, clock: Callable[[], float]
) -> None:
    rig = bucket_rig(clock, tmp_path)
    for kind, count in (("shirts", 8), ("models", 5)):
        (tmp_path / "photos" / kind).mkdir()
        for n in range(count):
            content = picture(seed=n + (100 if kind == "models" else 0))
            (tmp_path / "photos" / kind / f"{n}.jpg").write_bytes(content)
    with anyio.fail_after(3_600):
        async with rig.client() as client:
            started = await call(
                client,
                "start_batch",
                tool="zupertry_start_tryon",
                for_each={"garment_image_url": ["shirts/*.jpg"], "model_image_url": ["models"]},
            )
            assert started["total"] == 40
            said = json.dumps(started)
            report = started
            while report["status"] == "running":
                report = await call(
                    client, "check_batch", batch_id=started["batch_id"], wait_seconds=40
                )
                said += json.dumps(report)
            assert report["status"] == "completed", report
            await anyio.sleep(5)
            assert "X-Amz" not in said
            assert "bucket.sandbox.test" not in said
            assert len(said) < 20_000
    asked = rig.sandbox.bucket.requests
    assert sum(each.method == "PUT" for each in asked) == 13
    assert rig.sandbox.bucket.objects == {}
    assert len(rig.sandbox.emulators["zupertry"].charges) == 40
