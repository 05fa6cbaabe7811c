"""Zyng through the server: one job of many requests. No page of Zyng's documents an error."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import anyio
import pytest

from darkroom.config.settings import load
from darkroom.core.errors import ConfigurationError
from darkroom.jobs.matching import by_name
from darkroom.providers import Output
from darkroom_tools import CATALOGUE
from darkroom_tools.emulators.kit import Fault, FaultKind
from darkroom_tools.providers import zyng
from tests.harness import ERAS, Era, Fields, Rig, call, refused, rig

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from darkroom_tools.emulators.record import Asked
    from mcp import Client

pytestmark = pytest.mark.anyio

# Keys that no sorting would leave in this order, a null, and numbers that must not be rounded.
DETAILS: Fields = {
    "workflow_details": {"steps": [{"z": 1, "a": 2.50, "n": None}], "operation": "grayscale"},
    "output_details": {"format": "png", "a": {"nested": True}},
}
WORKFLOWS = {"DARKROOM_ZYNG__WORKFLOWS": json.dumps({"studio": DETAILS})}
LONG_SECONDS = 7_200


def build(clock: Callable[[], float], folder: Path, **options: Any) -> Rig:
    environment = {
        **WORKFLOWS,
        "DARKROOM_RESULTS__DOWNLOAD": "never",
        **options.pop("environment", {}),
    }
    return rig(clock, folder, environment=environment, **options)


def images(server: Rig, *names: str) -> list[dict[str, str]]:
    address = server.sandbox.sample("product", 1)
    return [{"image_url": address, "image_name": name} for name in names]


def asked(server: Rig, operation: str) -> list[Asked]:
    every = server.sandbox.emulators["zyng"].requests
    return [each for each in every if each.operation == operation]


def names_sent(server: Rig) -> list[str]:
    return [json.loads(each.body)["image_name"] for each in asked(server, "process_image")]


def details_sent(server: Rig) -> set[str]:
    """Return every way in which the details went out: as text, so that order and spelling count."""
    every = [*asked(server, "register_request"), *asked(server, "process_image")]
    return {each.body.decode().partition('"workflowDetails":')[2] for each in every}


async def until_ended(client: Client, job_id: str, **arguments: object) -> Fields:
    with anyio.fail_after(LONG_SECONDS):
        while True:
            job = await call(
                client, "zyng_check_images", job_id=job_id, wait_seconds=40, **arguments
            )
            if job["status"] not in {"queued", "running"}:
                return job


@pytest.mark.parametrize("era", ERAS)
async def test_a_registered_rid_is_used_without_repeating_the_details(
    clock: Callable[[], float], tmp_path: Path, era: Era
) -> None:
    server = build(clock, tmp_path, environment={"DARKROOM_RESULTS__DOWNLOAD": "always"})
    async with server.client(era) as client:
        rid = (await call(client, "zyng_register_request", **DETAILS))["rid"]
        started = await call(client, "zyng_start_images", rid=rid, images=images(server, "a", "b"))
        assert started["provider_job_id"] == rid
        ended = await until_ended(client, started["job_id"])
    assert ended["status"] == "completed"
    assert ended["progress"] == {"done": 2, "total": 2}
    assert [(o["index"], o["name"], o["media_type"]) for o in ended["outputs"]] == [
        (0, "a.png", "image/png"),
        (1, "b.png", "image/png"),
    ]
    assert all(output["file"].endswith(".png") for output in ended["outputs"])
    assert len(asked(server, "register_request")) == 1
    (sent,) = details_sent(server)
    assert json.loads(f'{{"workflowDetails":{sent}') == {
        "workflowDetails": DETAILS["workflow_details"],
        "outputDetails": DETAILS["output_details"],
    }
    assert sent.index('"steps"') < sent.index('"z"') < sent.index('"a":2.5') < sent.index('"n"')


async def test_a_rid_is_remembered_across_a_restart(
    clock: Callable[[], float], tmp_path: Path
) -> None:
    first = build(clock, tmp_path, store="sqlite")
    async with first.client() as client:
        rid = (await call(client, "zyng_register_request", workflow="studio"))["rid"]
    changed = {"DARKROOM_ZYNG__WORKFLOWS": "{}"}
    second = build(clock, tmp_path, store="sqlite", sandbox=first.sandbox, environment=changed)
    async with second.client() as client:
        started = await call(client, "zyng_start_images", rid=rid, images=images(second, "a"))
        assert (await until_ended(client, started["job_id"]))["status"] == "completed"
    assert len(details_sent(second)) == 1


async def test_a_rid_that_nothing_is_remembered_of_is_not_found(
    clock: Callable[[], float], tmp_path: Path
) -> None:
    server = build(clock, tmp_path)
    async with server.client() as client:
        said = await refused(client, "zyng_start_images", rid="x", images=images(server, "a"))
        assert said.startswith("[not_found]")
        assert "give workflow" in said
    assert server.sandbox.emulators["zyng"].requests == []


async def test_names_that_a_rid_has_seen_are_refused_and_its_own_job_is_found_again(
    clock: Callable[[], float], tmp_path: Path
) -> None:
    server = build(clock, tmp_path)
    async with server.client() as client:
        first = await call(
            client, "zyng_start_images", workflow="studio", images=images(server, "a", "b")
        )
        rid = first["provider_job_id"]
        again = images(server, "c", "b")
        said = await refused(client, "zyng_start_images", rid=rid, images=again)
        assert said.startswith("[invalid_argument] b: already sent")
        second = await call(client, "zyng_start_images", rid=rid, images=again[:1])
        same = await call(client, "zyng_start_images", rid=rid, images=again[:1])
        assert same["job_id"] == second["job_id"] != first["job_id"]
        ended = await until_ended(client, second["job_id"])
        assert [output["name"] for output in ended["outputs"]] == ["c.png"]


async def test_workflows_of_the_configuration_are_listed_and_sent_as_their_files_say(
    clock: Callable[[], float], tmp_path: Path
) -> None:
    (tmp_path / "details.json").write_text('{"z": 1, "operation": "square", "a": 2}')
    config = tmp_path / "config.toml"
    config.write_text(
        '[zyng.workflows.shop]\nworkflow_details = "details.json"\n'
        'output_details = {format = "jpeg"}\n'
    )
    server = rig(clock, tmp_path, environment={"DARKROOM_CONFIG": str(config)})
    async with server.client() as client:
        tools = {tool.name: tool for tool in (await client.list_tools()).tools}
        for name in ("zyng_register_request", "zyng_start_images"):
            assert tools[name].input_schema["properties"]["workflow"]["enum"] == ["shop"]
        started = await call(
            client, "zyng_start_images", workflow="shop", images=images(server, "a.jpg")
        )
        ended = await until_ended(client, started["job_id"])
        assert ended["outputs"][0]["name"] == "a.jpg"
        assert details_sent(server) == {
            '{"z":1,"operation":"square","a":2},"outputDetails":{"format":"jpeg"}}'
        }
        said = await refused(client, "zyng_register_request", workflow="shpo")
        assert "did you mean 'shop'?" in said


@pytest.mark.parametrize(
    ("table", "words"),
    [
        ({"workflow_details": "gone.json"}, "workflow_details: the file cannot be read"),
        ({"workflow_details": "x.txt"}, "workflow_details: expected a table, or a path that ends"),
        ({"workflow_details": "bad.json"}, "workflow_details: the file does not hold valid json"),
        ({"workflow_details": "list.json"}, "workflow_details: input should be a valid dictionary"),
        ({"workflow_detail": {}}, "did you mean 'workflow_details'?"),
        ({}, "output_details: field required"),
    ],
)
def test_a_wrong_workflow_is_named_at_the_start(
    tmp_path: Path, table: dict[str, object], words: str
) -> None:
    (tmp_path / "bad.json").write_text("{")
    (tmp_path / "list.json").write_text("[]")
    config = tmp_path / "config.toml"
    config.write_text("")
    environment = {
        "DARKROOM_CONFIG": str(config),
        "DARKROOM_ZYNG__WORKFLOWS": json.dumps({"shop": table}),
    }
    with pytest.raises(ConfigurationError, match=r"zyng\.workflows\.shop") as caught:
        load(CATALOGUE.providers, environment)
    assert words in str(caught.value)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({}, "give exactly one of rid, workflow or workflow_details with output_details"),
        ({"rid": "r", "workflow": "studio"}, "give exactly one of"),
        ({"workflow": "studio", **DETAILS}, "give exactly one of"),
        (
            {"output_details": {"a": 1}},
            "workflow_details: missing; the two objects belong together",
        ),
        ({"workflow": "stduio"}, "did you mean 'studio'?"),
        ({"images": []}, "images: missing; expected an array of 1 to 200 items"),
        ({"images": [{"image_url": "https://a.example/x.png"}] * 201}, "got an array of 201"),
        ({"images": [{"image_url": "ftp://a.example/x"}]}, "images[0].image_url: the address"),
        ({"twice": ("a", "a")}, "images[1].image_name: 'a' is the name of images[0] too"),
        ({"twice": ("a.jpg", "a.PNG")}, "'a.PNG' is the name of images[0] too"),
    ],
)
async def test_mistakes_are_named_before_anything_is_sent(
    clock: Callable[[], float], tmp_path: Path, arguments: Fields, words: str
) -> None:
    server = build(clock, tmp_path)
    given: Fields = {"images": images(server, "a"), **arguments}
    if "twice" in given:
        given |= {"images": images(server, *given.pop("twice")), "workflow": "studio"}
    async with server.client() as client:
        said = await refused(client, "zyng_start_images", **given)
        assert said.startswith("[invalid_argument]")
        assert words in said
    assert server.sandbox.emulators["zyng"].requests == []


async def test_missing_names_are_made_from_the_addresses_and_are_unique(
    clock: Callable[[], float], tmp_path: Path
) -> None:
    server = build(clock, tmp_path)
    base = "https://shop.example"
    given = [
        {"image_url": f"{base}/red%20shoe.jpg?size=1"},
        {"image_url": f"{base}/red%20shoe.png"},
        {"image_url": f"{base}/"},
        {"image_url": f"{base}/x.webp", "image_name": "image"},
    ]
    async with server.client() as client:
        started = await call(client, "zyng_start_images", workflow="studio", images=given)
        ended = await until_ended(client, started["job_id"])
    names = ["red-shoe", "red-shoe-2", "image-2", "image"]
    assert sorted(names_sent(server)) == sorted(names)
    assert [output["name"] for output in ended["outputs"]] == [f"{name}.png" for name in names]


@pytest.mark.parametrize(
    ("item", "result", "same"),
    [
        ("shoe", "shoe", True),
        ("shoe", "shoe.jpg", True),
        ("shoe.jpg", "shoe.png", True),
        ("shoe.jpg", "shoe.jpg.png", True),
        ("shoe.jpg", "shoe", True),
        ("shoe.v2", "shoe.v2.png", True),
        ("shoe.v2", "shoe.png", False),
        ("shoe", "shoe-2.png", False),
        ("shoe", "Shoe.png", False),
    ],
)
def test_a_result_is_told_by_the_stem_of_its_name(item: str, result: str, same: bool) -> None:  # noqa: FBT001 -- a parameter of the test
    names = zip(
        zyng.item_names(item), zyng.output_names(zyng.Output(index=0, name=result)), strict=True
    )
    assert any(one == other for one, other in names) is same


@pytest.mark.parametrize(("tier", "per_minute"), [(1, 10), (2, 100)])
async def test_no_minute_holds_more_requests_than_the_tier_allows(
    clock: Callable[[], float], tmp_path: Path, tier: int, per_minute: int
) -> None:
    server = build(clock, tmp_path, environment={"DARKROOM_ZYNG__TIER": str(tier)})
    count = 25 if tier == 1 else 130
    names = [f"image-{number}" for number in range(count)]
    began = clock()
    async with server.client() as client:
        started = await call(
            client, "zyng_start_images", workflow="studio", images=images(server, *names)
        )
        ended = await until_ended(client, started["job_id"])
    assert ended["status"] == "completed"
    assert len(ended["outputs"]) + ended["more_outputs"] == count
    times = [each.at for each in server.sandbox.emulators["zyng"].requests]
    for first in times:
        assert sum(first <= at < first + 60 for at in times) <= per_minute
    # ... and what it allows is used: questions while it sends cost a request a minute at most
    minutes_of_sending = (count + 1) // (per_minute - 1)
    last = max(each.at for each in asked(server, "process_image"))
    assert last - began <= 60 * minutes_of_sending + 15


@pytest.mark.parametrize(
    ("kind", "times_sent"),
    [("drop_after", 1), ("drop_during", 1), ("hang_after", 1), ("malformed", 1), ("refuse", 2)],
)
async def test_an_image_whose_answer_is_lost_is_adopted_by_its_name(
    clock: Callable[[], float], tmp_path: Path, kind: FaultKind, times_sent: int
) -> None:
    server = build(clock, tmp_path)
    server.sandbox.emulators["zyng"].faults.add("process_image", Fault(kind=kind))
    async with server.client() as client:
        started = await call(
            client, "zyng_start_images", workflow="studio", images=images(server, "a", "b")
        )
        ended = await until_ended(client, started["job_id"])
    assert ended["status"] == "completed"
    assert [output["name"] for output in ended["outputs"]] == ["a.png", "b.png"]
    assert "warnings" not in ended
    received = len(asked(server, "process_image"))
    assert received == 1 + times_sent
    assert len(server.sandbox.emulators["zyng"].charges) == 2


async def test_a_refused_key_stops_the_rest(clock: Callable[[], float], tmp_path: Path) -> None:
    server = build(clock, tmp_path)
    emulator = server.sandbox.emulators["zyng"]
    names = [f"image-{number}" for number in range(9)]
    async with server.client() as client:
        emulator.faults.add("process_image", Fault(kind="status", status=401), times=None)
        # The start says so itself where the images are refused before it has answered.
        arguments = {"workflow": "studio", "images": images(server, *names)}
        await client.call_tool("zyng_start_images", arguments)
        (started,) = (await call(client, "list_jobs"))["jobs"]
        ended = await until_ended(client, started["job_id"])
    assert ended["status"] == "failed"
    assert ended["error"]["code"] == "auth_failed"
    assert len(asked(server, "process_image")) <= 4  # those that were under way together
    assert asked(server, "poll_results") == []


@pytest.mark.parametrize(("status", "state"), [(400, "refused by Zyng"), (500, "never came")])
async def test_what_one_image_meets_is_named_and_the_others_come(
    clock: Callable[[], float], tmp_path: Path, status: int, state: str
) -> None:
    server = build(clock, tmp_path, environment={"DARKROOM_ZYNG__DEADLINE_SECONDS": "60"})
    fault = Fault(kind="status", status=status)
    server.sandbox.emulators["zyng"].faults.add("process_image", fault)
    async with server.client() as client:
        started = await call(
            client, "zyng_start_images", workflow="studio", images=images(server, "a", "b")
        )
        ended = await until_ended(client, started["job_id"])
    assert ended["status"] == "completed"
    (gone,) = {"a", "b"} - {output["name"].removesuffix(".png") for output in ended["outputs"]}
    (warning,) = ended["warnings"]
    assert warning.startswith(state)
    assert warning.endswith(f": {gone}")


async def test_the_deadline_names_what_never_came(
    clock: Callable[[], float], tmp_path: Path
) -> None:
    server = build(clock, tmp_path, environment={"DARKROOM_ZYNG__DEADLINE_SECONDS": "120"})
    began = clock()
    async with server.client() as client:
        started = await call(
            client,
            "zyng_start_images",
            workflow="studio",
            images=images(server, "a", "never-completes-1", "b", "never-completes-2"),
        )
        ended = await until_ended(client, started["job_id"])
        assert 120 <= clock() - began < 135
        assert ended["status"] == "completed"
        assert ended["progress"] == {"done": 2, "total": 4}
        assert [(o["index"], o["name"]) for o in ended["outputs"]] == [(0, "a.png"), (2, "b.png")]
        assert ended["warnings"] == [
            "never came before the deadline: never-completes-1, never-completes-2"
        ]
        alone = await call(
            client,
            "zyng_start_images",
            workflow="studio",
            images=images(server, "never-completes"),
        )
        ended = await until_ended(client, alone["job_id"])
        assert (ended["status"], ended["error"]["code"]) == ("unknown", "outcome_unknown")
        assert ended["error"]["retryable"] is False


async def test_a_restart_in_the_middle_sends_the_rest_once_with_the_same_details(
    clock: Callable[[], float], tmp_path: Path
) -> None:
    first = build(clock, tmp_path, store="sqlite")
    names = [f"image-{number}" for number in range(30)]
    async with first.client() as client:
        started = await call(
            client, "zyng_start_images", workflow="studio", images=images(first, *names)
        )
        await anyio.sleep(70)
    before = len(names_sent(first))
    assert 9 <= before < 30
    edited = {"studio": {**DETAILS, "workflow_details": {"operation": "square"}}}
    second = build(
        clock,
        tmp_path,
        store="sqlite",
        sandbox=first.sandbox,
        environment={"DARKROOM_ZYNG__WORKFLOWS": json.dumps(edited)},
    )
    async with second.client() as client:
        ended = await until_ended(client, started["job_id"])
    assert ended["status"] == "completed"
    assert [output["index"] for output in ended["outputs"]] == [0, 1]
    assert ended["more_outputs"] == 28
    assert ended["progress"] == {"done": 30, "total": 30}
    assert sorted(names_sent(second)) == sorted(names)
    assert len(details_sent(second)) == 1
    assert len(second.sandbox.emulators["zyng"].charges) == 30


async def test_a_rid_that_was_started_elsewhere_ends_when_the_expected_images_came(
    clock: Callable[[], float], tmp_path: Path
) -> None:
    elsewhere = build(clock, tmp_path / "elsewhere")
    async with elsewhere.client() as client:
        started = await call(
            client, "zyng_start_images", workflow="studio", images=images(elsewhere, "a", "b")
        )
    rid = started["provider_job_id"]
    here = build(
        clock,
        tmp_path / "here",
        sandbox=elsewhere.sandbox,
        environment={"DARKROOM_ZYNG__DEADLINE_SECONDS": "300"},
    )
    async with here.client() as client:
        job = await call(client, "zyng_check_images", job_id=rid, wait_seconds=40)
        assert job["status"] == "running"  # nobody said how many there are
        ended = await until_ended(client, rid, expected_images=2)
        assert (ended["status"], ended["progress"]) == ("completed", {"done": 2, "total": 2})
        nothing = await until_ended(client, "another-rid")
        assert (nothing["status"], nothing["error"]["code"]) == ("unknown", "outcome_unknown")


@pytest.mark.parametrize(
    ("fault", "code"),
    [
        (Fault(kind="status", status=400), "invalid_argument"),
        (Fault(kind="status", status=401), "auth_failed"),
        (Fault(kind="status", status=404), "not_found"),
        (Fault(kind="status", status=500), "outcome_unknown"),
        (Fault(kind="drop_after"), "outcome_unknown"),
        (Fault(kind="refuse"), "outcome_unknown"),
        (Fault(kind="wrong_types"), "bad_response"),
        (Fault(kind="malformed"), "bad_response"),
        (Fault(kind="empty"), "bad_response"),
    ],
)
async def test_a_registration_leaves_once_whatever_becomes_of_it(
    clock: Callable[[], float], tmp_path: Path, fault: Fault, code: str
) -> None:
    server = build(clock, tmp_path)
    server.sandbox.emulators["zyng"].faults.add("register_request", fault)
    async with server.client() as client:
        said = await refused(client, "zyng_register_request", workflow="studio")
        if fault.kind == "refuse":
            code = "provider_unavailable"
        assert said.startswith(f"[{code}]")
        if code == "outcome_unknown":
            assert "call it again" in said
        assert len(asked(server, "register_request")) <= 1


@pytest.mark.parametrize(
    ("fault", "status", "code"),
    [
        (Fault(kind="status", status=401), None, "auth_failed"),
        (Fault(kind="status", status=500), "unknown", "outcome_unknown"),
        (Fault(kind="wrong_types"), "unknown", "outcome_unknown"),
    ],
)
async def test_nothing_is_sent_after_a_registration_that_failed(
    clock: Callable[[], float], tmp_path: Path, fault: Fault, status: str | None, code: str
) -> None:
    server = build(clock, tmp_path)
    server.sandbox.emulators["zyng"].faults.add("register_request", fault)
    arguments: Fields = {"workflow": "studio", "images": images(server, "a")}
    async with server.client() as client:
        if status is None:
            assert (await refused(client, "zyng_start_images", **arguments)).startswith(f"[{code}]")
        else:
            job = await call(client, "zyng_start_images", **arguments)
            assert (job["status"], job["error"]["code"]) == (status, code)
        await anyio.sleep(300)
    assert asked(server, "process_image") == []


@pytest.mark.parametrize("fault", ["malformed", "wrong_types", "status", "drop_before", "huge"])
async def test_a_poll_that_fails_is_asked_again(
    clock: Callable[[], float], tmp_path: Path, fault: FaultKind
) -> None:
    server = build(clock, tmp_path)
    server.sandbox.emulators["zyng"].faults.add("poll_results", Fault(kind=fault))
    async with server.client() as client:
        started = await call(
            client, "zyng_start_images", workflow="studio", images=images(server, "a")
        )
        assert (await until_ended(client, started["job_id"]))["status"] == "completed"


@pytest.mark.parametrize(
    "switches", [{"plain_confirmation": True}, {"layers": True}, {"on_duplicate": "refuse"}]
)
async def test_what_no_document_settles_is_read_either_way(
    clock: Callable[[], float], tmp_path: Path, switches: dict[str, object]
) -> None:
    server = build(clock, tmp_path, switches={"zyng": switches})
    async with server.client() as client:
        started = await call(
            client, "zyng_start_images", workflow="studio", images=images(server, "a")
        )
        assert (await until_ended(client, started["job_id"]))["status"] == "completed"


async def test_results_of_other_jobs_go_through_a_workflow(
    clock: Callable[[], float], tmp_path: Path
) -> None:
    server = build(clock, tmp_path)
    async with server.client() as client:
        image = await call(client, "zsky_start_image", prompt="A lighthouse at dusk")
        given = [{"image_url": f"job:{image['job_id']}", "image_name": "lighthouse"}]
        started = await call(client, "zyng_start_images", workflow="studio", images=given)
        ended = await until_ended(client, started["job_id"])
        assert [output["name"] for output in ended["outputs"]] == ["lighthouse.png"]
    body = json.loads(asked(server, "process_image")[0].body)
    assert body["imglink"].startswith("https://zsky.sandbox.test/")


async def test_a_rid_that_was_started_elsewhere_keeps_no_more_than_is_expected(
    clock: Callable[[], float], tmp_path: Path
) -> None:
    server = build(clock, tmp_path)
    rows = [{"iid": f"https://zyng.sandbox.test/{n}.png", "name": str(n)} for n in range(3_000)]
    many = Fault(kind="status", status=200, body=json.dumps(rows).encode())
    server.sandbox.emulators["zyng"].faults.add("poll_results", many, times=None)
    async with server.client() as client:
        ended = await until_ended(client, "a-foreign-rid", expected_images=1)
    assert ended["status"] == "completed"
    assert len(ended["outputs"]) == 1
    assert "2999 results more" in ended["warnings"][0]


@pytest.mark.parametrize("results", [1_000, 70_000])
def test_the_work_of_matching_is_bounded_by_what_was_asked(results: int) -> None:
    items = [f"image-{n}" for n in range(200)]
    outputs = [Output(index=n, url=f"https://a.example/{n}", name=f"r-{n}") for n in range(results)]
    outputs[-1] = Output(index=0, url="https://a.example/x", name="image-7.png")
    looked_at: list[str | None] = []

    def counted(output: Output) -> Sequence[str]:
        looked_at.append(output.name)
        return zyng.output_names(output)

    come, left = by_name(replace(zyng.START_IMAGES, output_names=counted), items, outputs)
    assert len(looked_at) == results
    assert list(come) == ["image-7"]
    assert len(left) <= 400
