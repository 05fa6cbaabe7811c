"""A small call makes neither a large manifest nor much work."""

from __future__ import annotations

import csv
import json
import tracemalloc
from typing import TYPE_CHECKING, Any, cast

import pytest

from darkroom.engine.batches import manifest, plan
from darkroom.jobs.model import Job
from tests.harness import refused, rig

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from darkroom.core.json_types import JsonObject

MEBI = 1024 * 1024


def job(number: int, arguments: JsonObject) -> Job:
    return Job(
        job_id=f"zyng_{number}",
        owner="local",
        provider="zyng",
        operation="zyng_start_images",
        status="queued",
        arguments=arguments,
        intent="",
        fingerprint="",
        created_at=float(number),
        updated_at=float(number),
        item=str(number),
        batch_id="batch_1",
    )


def pointed(whole: Any, value: Any) -> Any:
    """Return what a JSON pointer of the manifest leads to."""
    for name in value["$ref"].removeprefix("#/").split("/"):
        whole = whole[name]
    return whole


def test_a_large_argument_that_jobs_share_stands_once_in_the_manifest(tmp_path: Path) -> None:
    one: JsonObject = {"text": "x" * 26_000}
    other: JsonObject = {"text": "y" * 1_000, "address": "https://a.example/x?signature=secret"}
    jobs = [
        job(n, {"prompt": f"p{n}", "details": dict(one if n % 2 else other)}) for n in range(300)
    ]
    manifest.write(tmp_path, job(0, {"name": "shirts"}), jobs)
    text = (tmp_path / manifest.JSON_NAME).read_text("utf-8")
    table = (tmp_path / manifest.CSV_NAME).read_text("utf-8")
    assert len(text) + len(table) < 400_000
    whole = json.loads(text)
    for entry, made in zip(whole["jobs"], jobs, strict=True):
        assert entry["arguments"]["prompt"] == made.arguments["prompt"]
        found = pointed(whole, entry["arguments"]["details"])
        assert found["text"] == cast("Any", made.arguments["details"])["text"]
    assert "signature" not in text
    rows = list(csv.DictReader(table.splitlines()))
    assert [json.loads(row["arguments"])["prompt"] for row in rows][:2] == ["p0", "p1"]


@pytest.mark.parametrize(
    "details", [{"text": "x" * 26_000}, {"text": "short"}], ids=["of-one-job", "short"]
)
def test_what_is_short_or_of_one_job_stands_with_its_job(
    tmp_path: Path, details: JsonObject
) -> None:
    jobs = [job(1, {"details": details}), job(2, {"details": {"text": "short"}})]
    manifest.write(tmp_path, job(0, {}), jobs)
    whole = json.loads((tmp_path / manifest.JSON_NAME).read_text("utf-8"))
    assert "shared" not in whole
    assert [entry["arguments"] for entry in whole["jobs"]] == [each.arguments for each in jobs]


@pytest.mark.anyio
async def test_a_call_whose_jobs_would_be_too_large_is_refused_before_they_are_looked_at(
    clock: Callable[[], float], tmp_path: Path
) -> None:
    """893 KB that 300 items share took 1.1 GB and seconds, although they were refused."""
    dependencies = rig(clock, tmp_path)
    images = [[{"image_url": f"https://a.example/{n}.jpg"}] for n in range(300)]
    arguments = {"workflow_details": {"text": "x" * 880_000}, "output_details": {"a": 1}}
    async with dependencies.client() as client:
        tracemalloc.start()
        text = await refused(
            client,
            "start_batch",
            tool="zyng_start_images",
            arguments=arguments,
            for_each={"images": images},
        )
        _, most = tracemalloc.get_traced_memory()
        tracemalloc.stop()
    assert "8 million characters" in text
    assert most < 24 * MEBI


@pytest.mark.anyio
async def test_a_call_that_makes_too_many_jobs_is_refused_before_they_are_looked_at(
    clock: Callable[[], float], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    looked_at: list[object] = []

    def looking(*given: object, **_: object) -> None:
        looked_at.append(given)

    monkeypatch.setattr(plan, "validate", looking)
    dependencies = rig(clock, tmp_path)
    item: JsonObject = {"tool": "zsky_start_image", "arguments": {}}
    async with dependencies.client() as client:
        text = await refused(client, "start_batch", items=[item] * 501, copies=16)
    assert "this makes 8016 jobs" in text
    assert looked_at == []
