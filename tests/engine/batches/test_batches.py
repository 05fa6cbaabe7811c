"""Batches through the server, on virtual time."""

from __future__ import annotations

import csv
import io
import json
import stat
from pathlib import Path
from typing import TYPE_CHECKING

import anyio
import pytest

from darkroom.cli import token_count as tokens
from darkroom_tools.emulators.kit import Fault
from tests.engine.batches.support import charged, look_book, prompts, until_done
from tests.harness import ERAS, Era, call, inline, refused, rig

if TYPE_CHECKING:
    from collections.abc import Callable

pytestmark = pytest.mark.anyio


@pytest.mark.parametrize("era", ERAS)
async def test_two_stages_run_to_their_end_with_a_manifest_beside_the_files(
    clock: Callable[[], float], tmp_path: Path, era: Era
) -> None:
    dependencies = rig(clock, tmp_path)
    async with dependencies.client(era) as client:
        started = await call(client, "start_batch", **look_book(dependencies))
        assert started["total"] == 8
        assert started["status"] == "running"
        ended = await until_done(client, started["batch_id"])
        assert ended["counts"] == {"completed": 8}
        await anyio.sleep(2)
        text = await inline(Path(ended["manifest"]).read_text)
        table = await inline(Path(ended["folder"], "manifest.csv").read_text)
    manifest = json.loads(text)
    assert {job["status"] for job in manifest["jobs"]} == {"completed"}
    files = [Path(file) for job in manifest["jobs"] for file in job["files"]]
    assert len(files) == 8
    assert {file.parent for file in files} == {Path(ended["folder"])}
    assert len(list(csv.DictReader(io.StringIO(table)))) == 8
    assert "Signature" not in text + table, "addresses die, and are secrets until then"
    assert charged(dependencies, "zupertry") == 4
    assert charged(dependencies, "claid") == 4


async def test_a_dry_run_says_the_same_and_starts_nothing(
    clock: Callable[[], float], tmp_path: Path
) -> None:
    dependencies = rig(clock, tmp_path)
    async with dependencies.client() as client:
        said = await call(client, "start_batch", **look_book(dependencies, dry_run=True))
        jobs = await call(client, "list_jobs")
    assert said["dry_run"] is True
    assert said["total"] == 8
    assert {(cost["provider"], cost["amount"]) for cost in said["cost"]} == {
        ("zupertry", 4),
        ("claid", 4),
    }
    assert said["seconds_left"] > 0
    assert jobs["jobs"] == []
    assert dependencies.sandbox.emulators["zupertry"].requests == []


async def test_mistakes_name_item_and_argument_and_nothing_is_sent(
    clock: Callable[[], float], tmp_path: Path
) -> None:
    dependencies = rig(clock, tmp_path)
    items: list[dict[str, object]] = [
        {"tool": "zsky_start_image", "arguments": {"promt": "x"}},
        {"tool": "zsky_start_image", "arguments": {"prompt": "fine"}, "id": "good"},
        {"tool": "zsky_paint", "arguments": {}},
        {"tool": "claid_start_image_edit", "arguments": {"input": "item:gone", "operations": {}}},
        {"tool": "claid_start_image_edit", "arguments": {"input": "job:zsky_x", "operations": {}}},
        {"tool": "zsky_start_imge", "arguments": {"prompt": "x"}},
    ]
    async with dependencies.client() as client:
        text = await refused(client, "start_batch", items=items)
    assert "item '0'" in text
    assert "did you mean 'prompt'" in text
    assert "item '2': 'zsky_paint' is not a start tool that is listed here" in text
    assert "item '5': 'zsky_start_imge' is not a start tool that is listed here" in text
    assert "did you mean 'zsky_start_image'?" in text
    assert "there is no item 'gone'" in text
    assert "there is no job zsky_x" in text
    assert "good" not in text
    assert all(not emulator.requests for emulator in dependencies.sandbox.emulators.values())


async def test_an_identical_batch_is_the_same_batch(
    clock: Callable[[], float], tmp_path: Path
) -> None:
    dependencies = rig(clock, tmp_path)
    async with dependencies.client() as client:
        first = await call(client, "start_batch", **prompts(3))
        again = await call(client, "start_batch", **prompts(3))
        other = await call(client, "start_batch", **prompts(4))
    assert again["batch_id"] == first["batch_id"]
    assert "nothing new was sent" in again["warnings"][0]
    assert other["batch_id"] != first["batch_id"]


@pytest.mark.parametrize("era", ERAS)
async def test_a_batch_that_is_written_in_another_way_is_the_same_batch(
    clock: Callable[[], float], tmp_path: Path, era: Era
) -> None:
    dependencies = rig(clock, tmp_path)
    plain = look_book(dependencies)
    del plain["arguments"]
    other: dict[str, object] = {
        **look_book(dependencies),
        "items": [],
        "copies": "1",
        "dry_run": "",
        "arguments": '{"workspace_id": "", "webhook_url": null}',
        "for_each": json.dumps(plain["for_each"]),
        "then": {
            "tool": "claid_start_image_edit",
            "arguments": {"operations": {"resizing": {"width": "300", "height": None}}},
            "input": "input",
        },
    }
    async with dependencies.client(era) as client:
        first = await call(client, "start_batch", **plain)
        again = await call(client, "start_batch", **other)
        keyed = await call(client, "start_batch", **other, idempotency_key="k")
        then = {**plain["then"], "arguments": {"operations": {"resizing": {"width": 301}}}}
        changed = await call(client, "start_batch", **{**plain, "then": then})
    assert again["batch_id"] == first["batch_id"]
    assert keyed["batch_id"] == first["batch_id"]
    assert changed["batch_id"] != first["batch_id"]


async def test_a_failure_is_counted_by_kind_and_what_depends_on_it_is_cancelled(
    clock: Callable[[], float], tmp_path: Path
) -> None:
    dependencies = rig(clock, tmp_path)
    dependencies.sandbox.emulators["zupertry"].faults.add(
        "submit", Fault(kind="status", status=422)
    )
    async with dependencies.client() as client:
        started = await call(client, "start_batch", **look_book(dependencies))
        ended = await until_done(client, started["batch_id"])
        shown = await call(
            client, "check_batch", batch_id=started["batch_id"], show="failed", wait_seconds=0
        )
    assert ended["status"] == "completed"
    assert ended["counts"] == {"completed": 6, "failed": 1, "cancelled": 1}
    assert {failure["code"]: failure["count"] for failure in ended["failures"]} == {
        "invalid_argument": 1,
        "input_failed": 1,
    }
    assert {job["status"] for job in shown["jobs"]} == {"failed", "cancelled"}
    assert charged(dependencies, "claid") == 3


async def test_only_what_failed_and_may_work_now_is_retried(
    clock: Callable[[], float], tmp_path: Path
) -> None:
    dependencies = rig(clock, tmp_path)
    faults = dependencies.sandbox.emulators["zsky"].faults
    faults.add("generate_image", Fault(kind="refuse"), times=3)  # never arrived, given up
    async with dependencies.client() as client:
        started = await call(client, "start_batch", **prompts(1))
        ended = await until_done(client, started["batch_id"])
        assert ended["counts"] == {"failed": 1}
        again = await call(client, "retry_batch", batch_id=started["batch_id"])
        assert again["retried"] == 1
        ended = await until_done(client, started["batch_id"])
        assert ended["counts"] == {"completed": 1}
        nothing = await call(client, "retry_batch", batch_id=started["batch_id"])
    assert nothing["retried"] == 0
    assert charged(dependencies, "zsky") == 1


async def test_an_unknown_item_is_never_retried(clock: Callable[[], float], tmp_path: Path) -> None:
    dependencies = rig(clock, tmp_path)
    dependencies.sandbox.emulators["zsky"].faults.add("generate_image", Fault(kind="drop_after"))
    async with dependencies.client() as client:
        started = await call(client, "start_batch", **prompts(2))
        ended = await until_done(client, started["batch_id"])
        again = await call(client, "retry_batch", batch_id=started["batch_id"])
    assert ended["counts"] == {"unknown": 1, "completed": 1}
    assert "unknown fate" in ended["warnings"][0]
    assert again["retried"] == 0
    assert charged(dependencies, "zsky") == 2


async def test_cancelling_stops_what_has_not_started_and_what_the_provider_lets_us(
    clock: Callable[[], float], tmp_path: Path
) -> None:
    dependencies = rig(clock, tmp_path)
    async with dependencies.client() as client:
        started = await call(client, "start_batch", **prompts(10))
        await anyio.sleep(1)
        ended = await call(client, "cancel_batch", batch_id=started["batch_id"])
        assert ended["counts"]["cancelled"] == 7, "three were under way"
        last = await until_done(client, started["batch_id"])
    assert last["status"] == "cancelled"
    assert last["counts"] == {"cancelled": 7, "completed": 3}
    assert charged(dependencies, "zsky") == 3


async def test_a_batch_beyond_a_cap_is_refused_whole(
    clock: Callable[[], float], tmp_path: Path
) -> None:
    dependencies = rig(clock, tmp_path, environment={"DARKROOM_SPENDING__ZSKY_IMAGES_PER_DAY": "4"})
    async with dependencies.client() as client:
        text = await refused(client, "start_batch", **prompts(5))
        spending = await call(client, "get_spending")
        fits = await call(client, "start_batch", **prompts(4))
    assert text.startswith("[spend_cap_reached]")
    assert spending["providers"][0]["spent"] == 0
    assert fits["total"] == 4


async def test_a_batch_beyond_the_day_waits_for_the_next_and_says_so(
    clock: Callable[[], float], tmp_path: Path
) -> None:
    dependencies = rig(clock, tmp_path, environment={"DARKROOM_ZSKY__IMAGES_PER_DAY": "2"})
    async with dependencies.client() as client:
        said = await call(client, "start_batch", **prompts(5), dry_run=True)
        assert "wait for the next 2 UTC days" in said["warnings"][0]
        started = await call(client, "start_batch", **prompts(5))
        await anyio.sleep(600)
        first = await call(client, "check_batch", batch_id=started["batch_id"], wait_seconds=0)
        assert first["counts"] == {"completed": 2, "queued": 3}
        await anyio.sleep(86_400)
        second = await call(client, "check_batch", batch_id=started["batch_id"], wait_seconds=0)
    assert second["counts"] == {"completed": 4, "queued": 1}


async def test_a_batch_beyond_the_month_is_warned_of(
    clock: Callable[[], float], tmp_path: Path
) -> None:
    dependencies = rig(
        clock,
        tmp_path,
        environment={"DARKROOM_ZSKY__IMAGES_PER_DAY": "5000"},
    )
    lists = {"prompt": ["Harbour"], "seed": list(range(1_000))}
    async with dependencies.client() as client:
        await call(client, "zsky_start_image", prompt="One of the month's thousand")
        said = await call(
            client,
            "start_batch",
            tool="zsky_start_image",
            arguments={},
            for_each=lists,
            dry_run=True,
        )
    assert "999 of the month's allowance" in said["warnings"][0]


async def test_a_single_call_waits_at_most_one_slot_behind_a_batch(
    clock: Callable[[], float], tmp_path: Path
) -> None:
    dependencies = rig(clock, tmp_path)
    async with dependencies.client() as client:
        await call(client, "start_batch", **prompts(40))
        await anyio.sleep(30)
        asked = clock()
        single = await call(client, "zsky_start_image", prompt="From the chat")
        while True:
            job = await call(client, "zsky_check_job", job_id=single["job_id"], wait_seconds=5)
            if job["status"] != "queued":
                break
        waited = clock() - asked
        requests = dependencies.sandbox.emulators["zsky"].requests
        between = [
            r
            for r in requests
            if r.operation == "generate_image" and asked < r.at <= asked + waited
        ]
    assert len(between) <= 4, "its own, and what was under way or one turn before it"


async def test_an_output_of_an_earlier_job_is_an_input_asked_for_afresh(
    clock: Callable[[], float], tmp_path: Path
) -> None:
    dependencies = rig(clock, tmp_path)
    sample = dependencies.sandbox.sample
    async with dependencies.client() as client:
        tryon = await call(
            client,
            "zupertry_start_tryon",
            model_image_url=sample("model", 1),
            garment_image_url=sample("garment", 1),
        )
        reference = f"job:{tryon['job_id']}"
        waiting = await call(
            client,
            "claid_start_image_edit",
            input=reference,
            operations={"adjustments": {"hdr": 5}},
        )
        assert waiting["status"] == "queued"
        assert waiting["queued_for"] == "input"
        edited = await call(client, "claid_check_image_edit", job_id=waiting["job_id"])
        assert edited["status"] == "completed"
        await anyio.sleep(2 * 3_600)  # the try-on's address has died
        later = await call(
            client,
            "claid_start_image_edit",
            input=reference,
            operations={"adjustments": {"hdr": 9}},
        )
        edited = await call(client, "claid_check_image_edit", job_id=later["job_id"])
    assert edited["status"] == "completed"


async def test_a_job_whose_input_failed_is_cancelled_and_never_sent(
    clock: Callable[[], float], tmp_path: Path
) -> None:
    dependencies = rig(clock, tmp_path)
    sample = dependencies.sandbox.sample
    async with dependencies.client() as client:
        tryon = await call(
            client,
            "zupertry_start_tryon",
            model_image_url=sample("model", 1),
            garment_image_url="https://example.com/fails-in-processing/missing.jpg",
        )
        waiting = await call(
            client, "claid_start_image_edit", input=f"job:{tryon['job_id']}#0", operations={}
        )
        ended = await call(client, "claid_check_image_edit", job_id=waiting["job_id"])
        text = await refused(
            client, "claid_start_image_edit", input="job:zupertry_nothing", operations={}
        )
    assert ended["status"] == "cancelled"
    assert ended["error"]["code"] == "input_failed"
    assert dependencies.sandbox.emulators["claid"].requests == []
    assert "there is no job behind job:zupertry_nothing" in text


async def test_a_batch_goes_on_after_a_restart(clock: Callable[[], float], tmp_path: Path) -> None:
    first = rig(clock, tmp_path, store="sqlite")
    async with first.client() as client:
        started = await call(client, "start_batch", **look_book(first))
        await anyio.sleep(3)
    second = rig(clock, tmp_path, store="sqlite", sandbox=first.sandbox)
    async with second.client() as client:
        ended = await until_done(client, started["batch_id"])
    assert ended["counts"] == {"completed": 8}
    assert charged(first, "zupertry") == 4
    assert charged(first, "claid") == 4


async def test_a_check_costs_few_tokens_whatever_the_size(
    clock: Callable[[], float], tmp_path: Path
) -> None:
    dependencies = rig(clock, tmp_path, environment={"DARKROOM_ZSKY__IMAGES_PER_DAY": "5000"})
    async with dependencies.client() as client:
        started = await call(client, "start_batch", **prompts(1_000))
        result = await client.call_tool(
            "check_batch", {"batch_id": started["batch_id"], "wait_seconds": 0}
        )
    count, exact = tokens.count(json.dumps(result.structured_content))
    assert exact
    assert count <= 300


async def test_a_batch_of_another_sort_of_id_is_not_found(
    clock: Callable[[], float], tmp_path: Path
) -> None:
    async with rig(clock, tmp_path).client() as client:
        job = await call(client, "zsky_start_image", prompt="No batch")
        for tool in ("check_batch", "cancel_batch", "retry_batch"):
            text = await refused(client, tool, batch_id=job["job_id"])
            assert text.startswith("[not_found]")


async def test_a_batch_starts_no_tool_that_a_filter_hides(
    clock: Callable[[], float], tmp_path: Path
) -> None:
    dependencies = rig(
        clock, tmp_path, environment={"DARKROOM_SERVE__EXCLUDE": '["zsky_start_image"]'}
    )
    async with dependencies.client() as client:
        text = await refused(client, "start_batch", **prompts(2))
    assert "is not a start tool that is listed here" in text


async def test_no_signature_of_an_input_stands_in_a_manifest_or_beside_a_file(
    clock: Callable[[], float], tmp_path: Path
) -> None:
    server = rig(clock, tmp_path)
    signed = server.sandbox.sample("model", 1) + "?X-Amz-Signature=s3cret#s3cret"
    async with server.client() as client:
        started = await call(
            client,
            "start_batch",
            tool="zupertry_start_tryon",
            arguments={"model_image_url": signed},
            for_each={"garment_image_url": [server.sandbox.sample("garment", n) for n in (1, 2)]},
        )
        ended = await until_done(client, started["batch_id"])
        assert ended["status"] == "completed", ended
        written = [path for path in server.results.rglob("*") if path.is_file()]
        texts = {path.name: path.read_bytes() for path in written}
    assert {"manifest.json", "manifest.csv"} < set(texts)
    assert [name for name, data in texts.items() if b"s3cret" in data] == []
    assert server.sandbox.sample("model", 1).encode() in texts["manifest.csv"]
    assert {stat.S_IMODE(path.stat().st_mode) for path in written} == {0o600}
    folders = {path.parent for path in written}
    assert {stat.S_IMODE(path.stat().st_mode) for path in folders} == {0o700}
