"""Real processes, real sockets, SIGKILL at random instants."""

from __future__ import annotations

import json
import random
import sqlite3
import time
from collections import Counter
from typing import TYPE_CHECKING, cast

import pytest

from darkroom_tools.emulators.zsky.emulator import OTHER_KEY
from tests.faults.real import (
    DEADLINE_SECONDS,
    ServerProcess,
    environment,
    sandbox_on_a_port,
    server,
)

if TYPE_CHECKING:
    from pathlib import Path

    from darkroom_tools.emulators.record import Asked
    from darkroom_tools.emulators.sandbox import Sandbox
    from darkroom_tools.emulators.zsky.emulator import ZskyEmulator
    from tests.harness import Fields

MOST_SECONDS_ALIVE = 1.0
SMALL = {"width": 256, "height": 256}


def current_key(sandbox: Sandbox) -> str:
    """Return ZSky's key as the person finds it on the provider's page."""
    keys = cast("ZskyEmulator", sandbox.emulators["zsky"]).keys
    return next(key for key in keys if key != OTHER_KEY)


def taken(sandbox: Sandbox) -> list[Asked]:
    """Return the submissions that ZSky and Zupertry took."""
    return [
        each
        for name in ("zsky", "zupertry")
        for each in sandbox.emulators[name].requests
        if each.operation in {"generate_image", "submit"}
        and each.acted
        and (each.status is None or each.status < 400)
    ]


def subject(body: bytes | str) -> str:
    """Return what tells one intent from the others."""
    fields = json.loads(body)
    return str(fields.get("prompt") or fields["garment_image_url"])


def journal(folder: Path) -> list[Fields]:
    """Return all jobs as the journal has them."""
    database = sqlite3.connect(folder / "state" / "journal.sqlite")
    try:
        return [json.loads(row) for (row,) in database.execute("SELECT row FROM jobs")]
    finally:
        database.close()


def settled(one: ServerProcess, folder: Path) -> list[Fields]:
    """Check every job until it has ended or is unknown; return all."""
    until = time.monotonic() + 4 * DEADLINE_SECONDS
    while time.monotonic() < until:
        going = [j for j in journal(folder) if j["status"] in {"queued", "submitting", "running"}]
        if not going:
            return journal(folder)
        for job in going:
            tool = "zsky_check_job" if job["provider"] == "zsky" else "zupertry_check_tryon"
            one.call(tool, job_id=job["job_id"], wait_seconds=5)
    pytest.fail("jobs never ended")


def compare(sandbox: Sandbox, jobs: list[Fields]) -> None:
    """Hold the journal to what the providers took."""
    times = Counter(subject(each.body) for each in taken(sandbox))
    assert max(times.values(), default=0) <= 1, "paid twice"
    rows = {subject(json.dumps(job["arguments"])): job for job in jobs}
    assert len(rows) == len(jobs), "one intent, two jobs"
    for of in times:
        assert of in rows, "lost"
        assert rows[of]["status"] in {"completed", "unknown"}, rows[of]
    for of, job in rows.items():
        if job["status"] == "completed":
            assert of in times
        else:
            assert job["status"] == "unknown", job
    claimed = Counter(job["provider_job_id"] for job in jobs if job.get("provider_job_id"))
    assert max(claimed.values(), default=0) <= 1
    charged = sum(len(sandbox.emulators[name].charges) for name in ("zsky", "zupertry"))
    assert charged == len(taken(sandbox))


def kills(folder: Path, number: int, seed: int, servers: int) -> None:
    """Kill servers at random instants of starts, polls, downloads and rotations."""
    chance = random.Random(seed)  # noqa: S311 -- repeatable, not secret
    key_file = folder / "zsky.key"
    with sandbox_on_a_port() as sandbox:
        variables = environment(
            sandbox,
            folder,
            ZSKY_API_KEY="",
            ZSKY_API_KEY_FILE=str(key_file),
            DARKROOM_APPROVAL__NEVER_ASK='["zsky_rotate_key"]',
        )
        known: list[str] = []
        errors = ""
        running: list[ServerProcess] = []
        try:
            for serial in range(number):
                key_file.write_text(current_key(sandbox))
                while len(running) < servers:
                    running.append(ServerProcess(variables))
                one = running.pop(chance.randrange(len(running)))
                for step in range(chance.randint(1, 3)):
                    match chance.randrange(6):
                        case 0 | 1 | 2:
                            one.begin("zsky_start_image", prompt=f"{serial}-{step}", **SMALL)
                        case 3:
                            one.begin(
                                "zupertry_start_tryon",
                                model_image_url="https://example.org/model.jpg",
                                garment_image_url=f"https://example.org/{serial}-{step}.jpg",
                            )
                        case 4 if known:
                            one.begin("zsky_check_job", job_id=chance.choice(known))
                        case _:
                            if serial % 5 == 4:
                                one.begin("zsky_rotate_key")
                    time.sleep(chance.uniform(0, 0.1))
                time.sleep(chance.uniform(0, MOST_SECONDS_ALIVE))
                one.kill()
                errors += one.errors
                known = [job["job_id"] for job in journal(folder) if job["provider"] == "zsky"]
            key_file.write_text(current_key(sandbox))
            one = running[0] if running else ServerProcess(variables)
            running[:1] = [one]
            jobs = settled(one, folder)
        finally:
            for each in running:
                each.stop()
        compare(sandbox, jobs)
        secrets = [
            *cast("ZskyEmulator", sandbox.emulators["zsky"]).keys,
            variables["CLAID_API_KEY"],
        ]
        assert not [key for key in secrets if key in errors]


@pytest.mark.slow
@pytest.mark.parametrize("servers", [1, 2])
def test_ten_kills_lose_nothing_and_pay_nothing_twice(tmp_path: Path, servers: int) -> None:
    kills(tmp_path, 10, seed=servers, servers=servers)


@pytest.mark.soak
@pytest.mark.parametrize("servers", [1, 2])
@pytest.mark.parametrize("seed", range(10))
def test_two_hundred_kills_lose_nothing_and_pay_nothing_twice(
    tmp_path: Path, servers: int, seed: int
) -> None:
    kills(tmp_path, 10, seed=100 + 2 * seed + servers, servers=servers)


@pytest.mark.slow
def test_two_servers_answer_for_each_others_jobs_and_poll_each_once(tmp_path: Path) -> None:
    with sandbox_on_a_port() as sandbox:
        variables = environment(sandbox, tmp_path)
        with server(variables) as one:
            job = one.call("zsky_start_image", prompt="of one", **SMALL)
            with server(variables) as two:
                listed = two.call("list_jobs")["jobs"]
                assert [each["job_id"] for each in listed] == [job["job_id"]]
                waiting = two.begin("zsky_check_job", job_id=job["job_id"], wait_seconds=40)
                mine = one.begin("zsky_check_job", job_id=job["job_id"], wait_seconds=40)
                done = two.answer(waiting)["structuredContent"]
                assert done["status"] == "completed"
                assert done["outputs"][0]["file"]
                assert one.answer(mine)["structuredContent"]["status"] == "completed"
            again = one.call("zsky_start_image", prompt="two is gone", **SMALL)
            done = one.call("zsky_check_job", job_id=again["job_id"], wait_seconds=40)
            assert done["status"] == "completed"
        polls = Counter(
            each.path for each in sandbox.emulators["zsky"].requests if each.operation == "get_job"
        )
        rows = {job["provider_job_id"]: job for job in journal(tmp_path)}
        for path, number in polls.items():
            assert number == rows[path.rpartition("/")[2]]["polls"]


@pytest.mark.slow
def test_a_killed_servers_jobs_are_taken_over_by_the_other_one(tmp_path: Path) -> None:
    with sandbox_on_a_port(time_scale=0.5) as sandbox:
        variables = environment(sandbox, tmp_path)
        with server(variables) as one, server(variables) as two:
            two.call("list_jobs")
            job = one.call("zsky_start_image", prompt="left behind", **SMALL)
            one.kill()
            until = time.monotonic() + DEADLINE_SECONDS
            while (done := two.call("zsky_check_job", job_id=job["job_id"]))["status"] == "running":
                assert time.monotonic() < until
            assert done["status"] == "completed"
        assert len(taken(sandbox)) == 1
