"""Zyng's emulator: what its API page states, and that each invention can be exchanged."""

from __future__ import annotations

import io
import json
import math
from typing import TYPE_CHECKING, Any, Protocol, cast

import anyio
import httpx2
import pytest
from PIL import Image, ImageDraw

from darkroom_tools.emulators.kit import Fault, FetchFailedError
from darkroom_tools.emulators.transport import EmulatorTransport
from darkroom_tools.emulators.zyng import emulator as zyng
from darkroom_tools.emulators.zyng.emulator import TEST_KEY, TEST_KEYS, ZyngEmulator
from darkroom_tools.emulators.zyng.workflows import WORKFLOWS, workflow_of

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

pytestmark = pytest.mark.anyio

BASE = "https://zyng.sandbox.test"
WORKFLOW: dict[str, object] = {"operation": "grayscale", "strength": 1}
OUTPUT: dict[str, object] = {"format": "jpg"}
LONGEST_SECONDS = zyng.PROCESSING_SECONDS * zyng.LONGEST
TIER_2_KEY = next(key for key, tier in TEST_KEYS.items() if tier == 2)


def product(size: tuple[int, int] = (120, 80)) -> bytes:
    """Return a red ring on plain white: its hole has the background's colour."""
    image = Image.new("RGB", size, "white")
    ImageDraw.Draw(image).ellipse((30, 10, 90, 70), outline="red", width=15)
    file = io.BytesIO()
    image.save(file, "PNG")
    return file.getvalue()


async def fetch(address: str) -> bytes:
    if "missing" in address:
        raise FetchFailedError(address)
    return b"no picture" if address.endswith(".txt") else product()


class Caller:
    """A client of one emulator; all its answers are checked by the test that asked."""

    def __init__(self, emulator: ZyngEmulator, key: str = TEST_KEY) -> None:
        transport = EmulatorTransport({"zyng.sandbox.test": emulator.app})
        self.http = httpx2.AsyncClient(
            transport=transport, base_url=BASE, headers={"Authorization": f"Bearer {key}"}
        )

    async def send(self, body: object) -> httpx2.Response:
        return await self.http.post("/process_image", json=body)

    async def register(
        self, workflow: Mapping[str, object] = WORKFLOW, output: Mapping[str, object] = OUTPUT
    ) -> str:
        answer = await self.send(
            {"task": "register_request", "workflowDetails": workflow, "outputDetails": output}
        )
        assert answer.status_code == 200
        assert list(answer.json()) == ["rid"]
        return answer.json()["rid"]

    async def process(self, rid: str, name: str, **changes: object) -> httpx2.Response:
        body: dict[str, object] = {
            "rid": rid,
            "task": "process_image",
            "imglink": f"https://pictures.example/{name}.jpg",
            "image_name": name,
            "workflowDetails": WORKFLOW,
            "outputDetails": OUTPUT,
        }
        return await self.send(body | changes)

    async def poll(self, rid: str) -> list[dict[str, Any]]:
        answer = await self.http.get("/poll_results", params={"rid": rid})
        assert answer.status_code == 200
        return answer.json()


class Build(Protocol):
    """Build an emulator with some of its switches set."""

    def __call__(self, **switches: Any) -> ZyngEmulator: ...


@pytest.fixture
def build(clock: Callable[[], float]) -> Build:
    def build(**switches: Any) -> ZyngEmulator:
        return ZyngEmulator(clock=clock, base_url=BASE, fetch=fetch, **switches)

    return build


def opened(data: bytes) -> Image.Image:
    return Image.open(io.BytesIO(data))


# "Standard API Flow": register, process, poll.


async def test_an_image_goes_from_registration_to_a_result_as_the_page_shows(build: Build) -> None:
    emulator = build()
    caller = Caller(emulator)
    rid = await caller.register()
    answer = await caller.process(rid, "product_photo_variant_1")
    assert answer.status_code == 200
    assert answer.text == '"Processing Images"'
    assert await caller.poll(rid) == []
    await anyio.sleep(LONGEST_SECONDS)
    (result,) = await caller.poll(rid)
    assert set(result) == {"iid", "layers", "name", "rid"}
    assert result["name"] == "product_photo_variant_1.jpg"
    assert result["layers"] is False
    assert result["rid"] == rid
    assert result["iid"].startswith(f"{BASE}/processed/")
    assert result["iid"].endswith("/product_photo_variant_1.jpg")
    picture = await fetched(emulator, result["iid"])
    assert picture.headers["content-type"] == "image/jpeg"
    assert int(picture.headers["content-length"]) == len(picture.content)
    assert opened(picture.content).format == "JPEG"


async def fetched(emulator: ZyngEmulator, url: str) -> httpx2.Response:
    """Fetch a result without any key: result addresses are public."""
    transport = EmulatorTransport({"zyng.sandbox.test": emulator.app})
    async with httpx2.AsyncClient(transport=transport) as http:
        return await http.get(url)


async def test_results_appear_one_by_one(build: Build) -> None:
    caller = Caller(build())
    rid = await caller.register()
    for index in range(4):
        await caller.process(rid, f"image-{index}")
    seen: list[int] = []
    for _ in range(math.ceil(LONGEST_SECONDS / 0.25)):
        await anyio.sleep(0.25)
        seen.append(len(await caller.poll(rid)))
    assert seen == sorted(seen)
    assert set(seen) >= {1, 2, 3, 4}


async def test_each_accepted_image_is_charged_once(build: Build) -> None:
    emulator = build()
    caller = Caller(emulator)
    rid = await caller.register()
    assert emulator.charges == []
    await caller.process(rid, "one")
    await caller.process(rid, "two")
    await anyio.sleep(LONGEST_SECONDS)
    await caller.poll(rid)
    assert [(c.job_id, c.amount, c.unit) for c in emulator.charges] == [(rid, 1, "images")] * 2


async def test_charging_can_wait_for_the_result(build: Build) -> None:
    emulator = build(charge_when="completed")
    caller = Caller(emulator)
    rid = await caller.register()
    await caller.process(rid, "one")
    await caller.process(rid, "lost", imglink="https://pictures.example/missing.jpg")
    assert emulator.charges == []
    await anyio.sleep(LONGEST_SECONDS)
    await caller.poll(rid)
    await caller.poll(rid)
    assert len(emulator.charges) == 1


# "Rate Limits & Request Queueing": queued, never rejected; 10, 100, 1000 a minute.


async def test_requests_beyond_the_tier_are_accepted_and_start_a_minute_later(build: Build) -> None:
    caller = Caller(build())
    rid = await caller.register()
    answers = [await caller.process(rid, f"image-{index}") for index in range(25)]
    assert {answer.status_code for answer in answers} == {200}
    for minute, done in ((0, 10), (1, 20), (2, 25)):
        assert len(await caller.poll(rid)) == (0, 10, 20)[minute]
        await anyio.sleep(LONGEST_SECONDS)
        assert len(await caller.poll(rid)) == done
        await anyio.sleep(59.9 - LONGEST_SECONDS)
        assert len(await caller.poll(rid)) == done
        await anyio.sleep(0.1)


async def test_a_higher_tier_starts_more_at_once(build: Build) -> None:
    caller = Caller(build(), TIER_2_KEY)
    rid = await caller.register()
    for index in range(25):
        await caller.process(rid, f"image-{index}")
    await anyio.sleep(LONGEST_SECONDS)
    assert len(await caller.poll(rid)) == 25


async def test_polls_count_against_the_tier_when_switched_so(build: Build) -> None:
    caller = Caller(build(counted=("register_request", "process_image", "poll_results")))
    rid = await caller.register()
    for _ in range(9):
        await caller.poll(rid)
    await caller.process(rid, "late")
    await anyio.sleep(LONGEST_SECONDS)
    assert await caller.poll(rid) == []
    await anyio.sleep(60)
    assert len(await caller.poll(rid)) == 1


# "Each object in the array represents a successfully processed image": failures never appear.


@pytest.mark.parametrize(
    "link", ["https://pictures.example/missing.jpg", "https://pictures.example/notes.txt"]
)
async def test_an_image_that_cannot_be_read_never_appears(build: Build, link: str) -> None:
    caller = Caller(build())
    rid = await caller.register()
    assert (await caller.process(rid, "bad", imglink=link)).status_code == 200
    await caller.process(rid, "good")
    await anyio.sleep(3600)
    assert [result["name"] for result in await caller.poll(rid)] == ["good.jpg"]


async def test_an_image_is_lost_silently_by_its_name_or_by_a_planned_fault(build: Build) -> None:
    emulator = build()
    caller = Caller(emulator)
    rid = await caller.register()
    emulator.faults.add("process_image", Fault(kind="never_finish"))
    for name in ("by-fault", "this-never-completes", "good"):
        assert (await caller.process(rid, name)).text == '"Processing Images"'
    await anyio.sleep(3600)
    assert [result["name"] for result in await caller.poll(rid)] == ["good.jpg"]
    assert len(emulator.charges) == 3


async def test_faults_tell_registering_from_processing(build: Build) -> None:
    emulator = build()
    caller = Caller(emulator)
    emulator.faults.add("process_image", Fault(kind="status", status=503))
    rid = await caller.register()
    assert (await caller.process(rid, "one")).status_code == 503
    asked = [request.operation for request in emulator.requests]
    assert asked == ["register_request", "process_image"]


# "name: often derived from the image_name"; outputs follow outputDetails.


@pytest.mark.parametrize(
    ("output", "name", "result", "written"),
    [
        ({}, "shirt", "shirt.png", "PNG"),
        ({"format": "webp"}, "shirt.jpg", "shirt.webp", "WEBP"),
        ({"format": "JPEG"}, "v1.5", "v1.5.jpg", "JPEG"),
        ({"format": "png"}, "größe/ä b?#.jpeg", "größe/ä b?#.png", "PNG"),
        ({"format": "hologram"}, ".jpg", ".jpg.png", "PNG"),
    ],
)
async def test_a_result_has_the_names_stem_and_the_formats_extension(
    build: Build, output: dict[str, object], name: str, result: str, written: str
) -> None:
    emulator = build()
    caller = Caller(emulator)
    rid = await caller.register(output=output)
    link = "https://pictures.example/a.jpg"
    await caller.process(rid, name, outputDetails=output, imglink=link)
    await anyio.sleep(LONGEST_SECONDS)
    (listed,) = await caller.poll(rid)
    assert listed["name"] == result
    assert opened((await fetched(emulator, listed["iid"])).content).format == written


async def test_a_result_may_be_named_otherwise(build: Build) -> None:
    caller = Caller(build(result_name="{}_edited.{}".format, layers=True))
    rid = await caller.register()
    await caller.process(rid, "shirt")
    await anyio.sleep(LONGEST_SECONDS)
    (listed,) = await caller.poll(rid)
    assert listed["name"] == "shirt_edited.jpg"
    assert listed["layers"] is True


async def test_every_workflow_changes_the_picture_in_its_way(build: Build) -> None:
    emulator = build()
    caller = Caller(emulator, TIER_2_KEY)
    pictures: dict[str, Image.Image] = {}
    for operation in WORKFLOWS:
        details = {"operation": operation}
        rid = await caller.register(details, {"format": "png"})
        await caller.process(rid, "a", workflowDetails=details, outputDetails={"format": "png"})
        await anyio.sleep(LONGEST_SECONDS)
        (listed,) = await caller.poll(rid)
        pictures[operation] = opened((await fetched(emulator, listed["iid"])).content)
    ring, hole, outside = (60, 17), (60, 40), (3, 3)
    removed = pictures["remove_background"]
    assert cast("tuple[int, ...]", removed.getpixel(outside))[3] == 0
    assert cast("tuple[int, ...]", removed.getpixel(ring)) == (255, 0, 0, 255)
    assert cast("tuple[int, ...]", removed.getpixel(hole))[3] == 255
    assert pictures["white_background"].getpixel(outside) == (255, 255, 255)
    red, green, blue = cast("tuple[int, int, int]", pictures["grayscale"].getpixel(ring))
    assert red == green == blue
    assert pictures["square"].size == (120, 120)
    assert pictures["shadow"].getpixel((88, 60)) != (255, 255, 255)


async def test_opaque_details_choose_a_workflow_by_what_they_hash_to() -> None:
    chosen = [workflow_of({"steps": [index]}) for index in range(40)]
    assert set(chosen) == set(WORKFLOWS)
    assert chosen == [workflow_of({"steps": [index]}) for index in range(40)]


# "Must be the *exact same* object provided during registration."

DIFFERENT = [
    {"workflowDetails": {"operation": "grayscale", "strength": 2}},
    {"workflowDetails": {"operation": "grayscale", "strength": 1.0}},
    {"workflowDetails": {"operation": "grayscale", "strength": True}},
    {"workflowDetails": {"strength": 1, "operation": "grayscale"}},
    {"outputDetails": {"format": "jpg", "quality": None}},
]


@pytest.mark.parametrize("changes", DIFFERENT, ids=json.dumps)
async def test_details_other_than_the_registered_are_refused(
    build: Build, changes: dict[str, object]
) -> None:
    emulator = build()
    caller = Caller(emulator)
    rid = await caller.register()
    assert (await caller.process(rid, "one", **changes)).status_code == 400
    assert emulator.charges == []


@pytest.mark.parametrize(("on_mismatch", "results"), [("never", 0), ("accept", 1)])
async def test_other_details_may_be_taken_without_a_word(
    build: Build, on_mismatch: str, results: int
) -> None:
    caller = Caller(build(on_mismatch=on_mismatch))
    rid = await caller.register()
    assert (await caller.process(rid, "one", **DIFFERENT[0])).status_code == 200
    await anyio.sleep(3600)
    assert len(await caller.poll(rid)) == results


# No error is documented: what is answered is invented, and can be exchanged.


@pytest.mark.parametrize("header", [None, "Bearer nobody", f"bearer {TEST_KEY}", TEST_KEY])
async def test_a_request_without_a_valid_bearer_token_is_refused(
    build: Build, header: str | None
) -> None:
    emulator = build()
    transport = EmulatorTransport({"zyng.sandbox.test": emulator.app})
    headers = {} if header is None else {"Authorization": header}
    async with httpx2.AsyncClient(transport=transport, base_url=BASE, headers=headers) as http:
        for answer in (await http.post("/process_image", json={}), await http.get("/poll_results")):
            assert answer.status_code == 401
            assert answer.json() == {"error": "Unauthorized"}


REGISTER: dict[str, object] = {
    "task": "register_request",
    "workflowDetails": {},
    "outputDetails": {},
}


@pytest.mark.parametrize(
    "body",
    [
        [],
        {},
        REGISTER | {"task": "delete"},
        REGISTER | {"workflowDetails": "{}"},
        {"task": "register_request", "workflowDetails": {}},
        REGISTER | {"task": "process_image"},
        REGISTER | {"task": "process_image", "rid": "r", "imglink": 5, "image_name": "n"},
        REGISTER | {"task": "process_image", "rid": "r", "imglink": "", "image_name": "n"},
        REGISTER | {"task": "process_image", "rid": "r", "imglink": "i", "image_name": "\ud800"},
    ],
    ids=json.dumps,
)
async def test_a_body_that_is_not_as_documented_is_refused(build: Build, body: object) -> None:
    http = Caller(build()).http
    answer = await http.post(
        "/process_image", content=json.dumps(body), headers={"content-type": "application/json"}
    )
    assert answer.status_code == 400


async def test_a_body_that_is_not_declared_as_json_is_refused(build: Build) -> None:
    http = Caller(build()).http
    assert (await http.post("/process_image", content=json.dumps(REGISTER))).status_code == 400
    wrong = {"content-type": "application/json"}
    assert (await http.post("/process_image", content=b"{", headers=wrong)).status_code == 400


async def test_an_unknown_rid_is_refused_for_an_image_and_empty_for_a_poll(build: Build) -> None:
    emulator = build()
    mine, other = Caller(emulator), Caller(emulator, TIER_2_KEY)
    rid = await mine.register()
    for caller, unknown in ((mine, "no-such-rid"), (other, rid)):
        assert (await caller.process(unknown, "one")).status_code == 404
        assert await caller.poll(unknown) == []
    assert (await mine.http.get("/poll_results")).status_code == 400


async def test_every_invented_answer_can_be_exchanged(build: Build) -> None:
    caller = Caller(
        build(
            answers={"unknown_rid_polled": (404, {"detail": "gone"}), "duplicate": (409, "twice")},
            on_duplicate="refuse",
            plain_confirmation=True,
        )
    )
    answer = await caller.http.get("/poll_results", params={"rid": "no-such-rid"})
    assert (answer.status_code, answer.json()) == (404, {"detail": "gone"})
    rid = await caller.register()
    assert (await caller.process(rid, "one")).text == "Processing Images"
    answer = await caller.process(rid, "one")
    assert (answer.status_code, answer.json()) == (409, "twice")


async def test_a_name_used_twice_is_paid_twice(build: Build) -> None:
    emulator = build()
    caller = Caller(emulator)
    rid = await caller.register()
    await caller.process(rid, "one")
    await caller.process(rid, "one")
    await anyio.sleep(LONGEST_SECONDS)
    assert [result["name"] for result in await caller.poll(rid)] == ["one.jpg", "one.jpg"]
    assert len(emulator.charges) == 2


async def test_a_result_is_good_for_ever_unless_switched(build: Build) -> None:
    for lifetime, status in ((None, 200), (3600.0, 403)):
        emulator = build(result_seconds=lifetime)
        caller = Caller(emulator)
        rid = await caller.register()
        await caller.process(rid, "one")
        await anyio.sleep(LONGEST_SECONDS)
        (listed,) = await caller.poll(rid)
        assert (await fetched(emulator, listed["iid"])).status_code == 200
        await anyio.sleep(3600)
        answer = await fetched(emulator, listed["iid"])
        assert answer.status_code == status
        if status == 403:
            assert answer.headers["content-type"] == "application/xml"
        other = listed["iid"].replace("one.jpg", "two.jpg")
        assert (await fetched(emulator, other)).status_code == 404


# "Webhook Alternative": tiers 2 and 3, "the same response format as the polling endpoint".


class Receiver:
    def __init__(self) -> None:
        self.bodies: list[object] = []

    async def __call__(self, url: str, body: bytes, headers: Mapping[str, str]) -> int:
        assert url == "https://receiver.example/zyng"
        assert dict(headers) == {"content-type": "application/json"}
        self.bodies.append(json.loads(body))
        return 204


@pytest.mark.parametrize(("when", "lengths"), [("each", [1, 2]), ("all", [2])])
async def test_a_webhook_carries_the_poll_array(
    build: Build, when: str, lengths: list[int]
) -> None:
    receiver = Receiver()
    hooks = dict.fromkeys(TEST_KEYS, "https://receiver.example/zyng")
    emulator = build(deliver=receiver, webhooks=hooks, webhook_when=when)
    caller = Caller(emulator, TIER_2_KEY)
    rid = await caller.register()
    for name in ("one", "two", "never-completes"):
        await caller.process(rid, name)
    await anyio.sleep(LONGEST_SECONDS)
    await emulator.settle()
    assert [len(cast("list[object]", body)) for body in receiver.bodies] == lengths
    assert receiver.bodies[-1] == await caller.poll(rid)
    assert [delivery.status for delivery in emulator.deliveries] == [204] * len(lengths)


async def test_tier_1_has_no_webhook(build: Build) -> None:
    receiver = Receiver()
    hooks = {TEST_KEY: "https://receiver.example/zyng"}
    emulator = build(deliver=receiver, webhooks=hooks)
    caller = Caller(emulator)
    rid = await caller.register()
    await caller.process(rid, "one")
    await anyio.sleep(LONGEST_SECONDS)
    assert len(await caller.poll(rid)) == 1
    assert receiver.bodies == []


async def test_the_same_seed_gives_the_same_rids(build: Build) -> None:
    first, second, other = [await Caller(build(seed=seed)).register() for seed in (7, 7, 8)]
    assert first == second != other
