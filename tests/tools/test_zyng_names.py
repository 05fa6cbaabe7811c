"""Zyng's results under names that are derived in another way: none that was paid for is lost."""

from __future__ import annotations

from typing import TYPE_CHECKING

import anyio
import pytest

from darkroom.jobs.matching import by_likeness, by_name
from darkroom.providers.values import Output
from darkroom_tools.emulators.kit import Fault
from darkroom_tools.emulators.zyng.emulator import numbered_names, underscored_name
from darkroom_tools.providers import zyng
from tests.harness import Fields, Rig, call
from tests.tools.test_zyng import DETAILS, asked, build, images, names_sent, until_ended

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

pytestmark = pytest.mark.anyio

DEADLINE = {"DARKROOM_ZYNG__DEADLINE_SECONDS": "120"}
UNDERSCORED = {"zyng": {"result_name": underscored_name}}


def numbered() -> dict[str, dict[str, object]]:
    return {"zyng": {"result_name": numbered_names()}}


def paid(server: Rig) -> int:
    return len(server.sandbox.emulators["zyng"].charges)


def given(job: Fields) -> list[tuple[int, str]]:
    return [(output["index"], output["name"]) for output in job["outputs"]]


async def test_results_under_derived_names_complete_the_job_that_opened_the_request(
    clock: Callable[[], float], tmp_path: Path
) -> None:
    server = build(clock, tmp_path, switches=UNDERSCORED)
    began = clock()
    async with server.client() as client:
        pictures = images(server, "Front View", "Back View", "plain")
        started = await call(client, "zyng_start_images", workflow="studio", images=pictures)
        ended = await until_ended(client, started["job_id"])
    assert ended["status"] == "completed"
    assert clock() - began < 60  # and not at the deadline
    assert given(ended) == [(0, "Front_View.png"), (1, "Back_View.png"), (2, "plain.png")]
    (warning,) = ended["warnings"]
    assert warning.startswith("matched by the nearest name: ")
    assert "Front View = Front_View.png" in warning
    assert "plain" not in warning
    assert ended["cost"] == {"amount": 3, "unit": "images", "basis": "exact"}
    assert paid(server) == 3


async def test_names_that_say_nothing_are_matched_by_their_order(
    clock: Callable[[], float], tmp_path: Path
) -> None:
    server = build(clock, tmp_path, switches=numbered())
    async with server.client() as client:
        pictures = images(server, "hat", "coat")
        started = await call(client, "zyng_start_images", workflow="studio", images=pictures)
        ended = await until_ended(client, started["job_id"])
    assert ended["status"] == "completed"
    assert sorted(name for _, name in given(ended)) == ["result_00001.png", "result_00002.png"]
    assert [index for index, _ in given(ended)] == [0, 1]
    assert ended["warnings"][0].startswith("matched by their order: ")


@pytest.mark.parametrize("registered", [True, False])
async def test_at_the_deadline_everything_that_came_is_handed_out(
    clock: Callable[[], float],
    tmp_path: Path,
    registered: bool,  # noqa: FBT001 -- a parameter of the test
) -> None:
    server = build(clock, tmp_path, switches=UNDERSCORED, environment=DEADLINE)
    async with server.client() as client:
        way: Fields = {"workflow": "studio"}
        if registered:
            way = {"rid": (await call(client, "zyng_register_request", **DETAILS))["rid"]}
        pictures = images(server, "Front View", "never-completes", "Back View")
        started = await call(client, "zyng_start_images", **way, images=pictures)
        ended = await until_ended(client, started["job_id"])
    assert ended["status"] == "completed"
    assert given(ended) == [(0, "Front_View.png"), (2, "Back_View.png")]
    assert "never came before the deadline: never-completes" in ended["warnings"]


async def test_results_of_another_job_are_not_taken_for_ones_own(
    clock: Callable[[], float], tmp_path: Path
) -> None:
    server = build(clock, tmp_path, switches=UNDERSCORED, environment=DEADLINE)
    async with server.client() as client:
        first = await call(
            client,
            "zyng_start_images",
            workflow="studio",
            images=images(server, "never-completes", "a"),
        )
        second = await call(
            client,
            "zyng_start_images",
            rid=first["provider_job_id"],
            images=images(server, "b", "c"),
        )
        ended = await until_ended(client, first["job_id"])
        other = await until_ended(client, second["job_id"])
    assert given(ended) == [(1, "a.png")]
    assert given(other) == [(0, "b.png"), (1, "c.png")]


async def test_what_was_accepted_and_did_not_come_is_unknown_never_run_again_and_looked_at_again(
    clock: Callable[[], float], tmp_path: Path
) -> None:
    server = build(clock, tmp_path, environment=DEADLINE)
    emulator = server.sandbox.emulators["zyng"]
    async with server.client() as client:
        # the provider answers that nothing is there, for longer than the deadline
        emulator.faults.add(
            "poll_results", Fault(kind="status", status=200, body=b"[]"), times=None
        )
        batch = await call(
            client,
            "start_batch",
            items=[
                {
                    "tool": "zyng_start_images",
                    "arguments": {"workflow": "studio", "images": images(server, "a", "b")},
                }
            ],
        )
        with anyio.fail_after(3_600):
            while batch["status"] == "running":
                batch = await call(
                    client, "check_batch", batch_id=batch["batch_id"], wait_seconds=40
                )
        assert batch["counts"] == {"unknown": 1}
        again = await call(client, "retry_batch", batch_id=batch["batch_id"])
        assert again["retried"] == 0
        (job,) = (await call(client, "list_jobs", status="unknown"))["jobs"]
        assert job["error"]["retryable"] is False
        assert "zyng_check_images" in job["error"]["next_step"]
        looks = len(asked(server, "poll_results"))
        for _ in range(5):
            seen = await call(client, "zyng_check_images", job_id=job["job_id"], wait_seconds=0)
            assert seen["status"] == "unknown"
        await anyio.sleep(30)  # polls wait for the tier's rate, too
        assert len(asked(server, "poll_results")) == looks + 1
        emulator.faults.clear()
        await anyio.sleep(61)
        found = await call(client, "zyng_check_images", job_id=job["job_id"])
    assert found["status"] == "completed"
    assert given(found) == [(0, "a.png"), (1, "b.png")]
    assert "error" not in found
    assert "evidence" not in found
    assert sorted(names_sent(server)) == ["a", "b"]
    assert paid(server) == 2


async def test_a_job_of_unknown_fate_is_found_again_after_a_restart(
    clock: Callable[[], float], tmp_path: Path
) -> None:
    first = build(clock, tmp_path, environment=DEADLINE, store="sqlite", switches=UNDERSCORED)
    emulator = first.sandbox.emulators["zyng"]
    emulator.faults.add("poll_results", Fault(kind="status", status=200, body=b"[]"), times=None)
    async with first.client() as client:
        pictures = images(first, "Front View", "b")
        started = await call(client, "zyng_start_images", workflow="studio", images=pictures)
        assert (await until_ended(client, started["job_id"]))["status"] == "unknown"
    emulator.faults.clear()
    second = build(clock, tmp_path, environment=DEADLINE, store="sqlite", sandbox=first.sandbox)
    async with second.client() as client:
        found = await call(client, "zyng_check_images", job_id=started["job_id"])
    assert found["status"] == "completed"
    assert given(found) == [(0, "Front_View.png"), (1, "b.png")]


# --- the rule itself ---


def results(*names: str) -> list[Output]:
    return [
        Output(index=index, name=name, url=f"https://a.example/{index}")
        for index, name in enumerate(names)
    ]


def named(come: dict[str, Output]) -> dict[str, str | None]:
    return {item: output.name for item, output in come.items()}


@pytest.mark.parametrize("items", [["shirt", "shirt.v2"], ["shirt.v2", "shirt"]])
@pytest.mark.parametrize(
    ("names", "expected"),
    [
        (("shirt.v2", "shirt"), {"shirt": "shirt", "shirt.v2": "shirt.v2"}),
        (("shirt.v2.png", "shirt.png"), {"shirt": "shirt.png", "shirt.v2": "shirt.v2.png"}),
        (("shirt.v2", "shirt.png"), {"shirt": "shirt.png", "shirt.v2": "shirt.v2"}),
        (("shirt.png", "shirt.jpg"), {"shirt": "shirt.png"}),
    ],
)
def test_the_exact_name_comes_first_and_a_result_belongs_to_one_item(
    items: list[str], names: tuple[str, ...], expected: dict[str, str]
) -> None:
    come, left = by_name(zyng.START_IMAGES, items, results(*names))
    assert named(come) == expected
    assert len(come) + len(left) == len(names)


def test_a_result_that_is_listed_twice_counts_once() -> None:
    come, left = by_name(zyng.START_IMAGES, ["a", "b"], results("a.png", "a.png", "a.png"))
    assert named(come) == {"a": "a.png"}
    assert left == []


def test_the_nearest_name_is_taken_whatever_the_order() -> None:
    left = results("side-view_final.png", "FRONTVIEW.png", "x1.png")
    near, in_order = by_likeness(zyng.START_IMAGES, ["zzz", "Front View", "Side View"], left)
    assert named(near) == {"Front View": "FRONTVIEW.png", "Side View": "side-view_final.png"}
    assert named(in_order) == {"zzz": "x1.png"}


def test_derived_names_of_many_images_are_all_given_and_none_twice() -> None:
    items = [f"picture {number}" for number in range(200)]
    come, left = by_name(zyng.START_IMAGES, items, results(*(f"r{n}.png" for n in range(70_000))))
    near, in_order = by_likeness(zyng.START_IMAGES, items, left)
    assert not come
    given_out = [*near.values(), *in_order.values()]
    assert len(given_out) == len({output.url for output in given_out}) == 200


def test_the_emulator_derives_names_as_told() -> None:
    name = numbered_names()
    assert [underscored_name("Front View.jpg", "png"), name("a", "png"), name("b", "png")] == [
        "Front_View.png",
        "result_00001.png",
        "result_00002.png",
    ]
