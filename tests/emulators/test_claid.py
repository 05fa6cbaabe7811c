"""Claid's emulator: the asynchronous API page, the edit contract, limits and errors."""

from __future__ import annotations

import base64
import hashlib
import hmac
import io
import json
import uuid
from typing import TYPE_CHECKING, Any, Protocol, cast

import anyio
import httpx2
import pytest
from PIL import Image, ImageDraw
from starlette.applications import Starlette
from starlette.routing import Mount

from darkroom_tools.emulators.claid import emulator as claid
from darkroom_tools.emulators.claid.contract import problems
from darkroom_tools.emulators.claid.emulator import TEST_KEY, UNSCOPED_KEY, ClaidEmulator
from darkroom_tools.emulators.claid.operations import output_size
from darkroom_tools.emulators.kit import Fault, FetchFailedError
from darkroom_tools.emulators.transport import EmulatorTransport

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

pytestmark = pytest.mark.anyio

BASE = "https://claid.sandbox.test"
SUBMIT = "/v1-beta1/image/edit/async"
INPUT = "https://pictures.example/200.jpg"
EDIT: dict[str, object] = {"input": INPUT, "operations": {}}
LONGEST_SECONDS = claid.PROCESSING_SECONDS * claid.LONGEST
DAY_SECONDS = 24 * 60 * 60


def product(size: tuple[int, int] = (160, 100), kind: str = "JPEG") -> bytes:
    """Return a red square in the middle of plain white."""
    image = Image.new("RGB", size, "white")
    x, y = size[0] // 2, size[1] // 2
    ImageDraw.Draw(image).rectangle((x - 30, y - 30, x + 30, y + 30), fill="red")
    file = io.BytesIO()
    image.save(file, kind)
    return file.getvalue()


async def fetch(address: str) -> bytes:
    if "missing" in address:
        raise FetchFailedError("not retrievable")
    if address.endswith(".ppm"):
        return product(kind="PPM")
    return product(kind="PNG") if address.endswith(".png") else product()


class Build(Protocol):
    """Build an emulator with some of its switches set."""

    def __call__(self, **switches: Any) -> ClaidEmulator: ...


@pytest.fixture
def build(clock: Callable[[], float]) -> Build:
    def build(**switches: Any) -> ClaidEmulator:
        return ClaidEmulator(clock=clock, base_url=BASE, fetch=fetch, **switches)

    return build


def client(emulator: ClaidEmulator, key: str | None = TEST_KEY) -> httpx2.AsyncClient:
    headers = {} if key is None else {"Authorization": f"Bearer {key}"}
    transport = EmulatorTransport({"claid.sandbox.test": emulator.app})
    return httpx2.AsyncClient(transport=transport, base_url=BASE, headers=headers)


async def submitted(http: httpx2.AsyncClient, **changes: object) -> dict[str, Any]:
    answer = await http.post(SUBMIT, json=EDIT | changes)
    assert answer.status_code == 200, answer.text
    return answer.json()["data"]


async def state(http: httpx2.AsyncClient, task_id: int) -> dict[str, Any]:
    answer = await http.get(f"{SUBMIT}/{task_id}")
    assert answer.status_code == 200, answer.text
    return answer.json()["data"]


async def finished(http: httpx2.AsyncClient, **changes: object) -> dict[str, Any]:
    """Submit an edit and return its task after it must have ended."""
    task = await submitted(http, **changes)
    await anyio.sleep(LONGEST_SECONDS)
    return await state(http, task["id"])


async def edited(emulator: ClaidEmulator, **changes: object) -> Image.Image:
    """Return the picture that an edit results in, as it is downloaded: without a key."""
    task = await finished(client(emulator), **changes)
    assert task["status"] == "DONE", task
    output = task["result"]["output_object"]
    answer = await client(emulator, None).get(output["tmp_url"])
    assert answer.status_code == 200
    assert answer.headers["content-type"] == output["mime"]
    assert int(answer.headers["content-length"]) == len(answer.content)
    image = Image.open(io.BytesIO(answer.content))
    assert image.size == (output["width"], output["height"])
    assert image.format == output["format"]
    return image


def pixel(image: Image.Image, at: tuple[int, int]) -> tuple[int, ...]:
    return cast("tuple[int, ...]", image.getpixel(at))


# "Async API Reference": submit, then ask for the result.


@pytest.mark.parametrize("prefix", ["/v1-beta1", "/v1"])
async def test_a_submission_is_accepted_as_the_page_shows(build: Build, prefix: str) -> None:
    body = {
        "input": INPUT,
        "operations": {"resizing": {"width": 1000}, "background": {"remove": False}},
    }
    http = client(build())
    data = (await http.post(f"{prefix}/image/edit/async", json=body)).json()["data"]
    assert list(data) == ["id", "status", "result_url", "created_at", "request"]
    assert isinstance(data["id"], int)
    assert data["status"] == "ACCEPTED"
    assert data["result_url"] == f"{BASE}{prefix}/image/edit/async/{data['id']}"
    assert data["created_at"] == "2026-11-22T09:00:00.000000+00:00"
    assert data["request"] == body
    assert (await http.get(data["result_url"])).json()["data"]["id"] == data["id"]


async def test_addresses_start_with_the_base_when_mounted_under_a_prefix(
    clock: Callable[[], float],
) -> None:
    base = "http://sandbox.test/claid"
    emulator = ClaidEmulator(clock=clock, base_url=base, fetch=fetch)
    app = Starlette(routes=[Mount("/claid", emulator.app)])
    headers = {"Authorization": f"Bearer {TEST_KEY}"}
    transport = EmulatorTransport({"sandbox.test": app})
    async with httpx2.AsyncClient(transport=transport, headers=headers) as http:
        task = (await http.post(f"{base}/v1/image/edit/async", json=EDIT)).json()["data"]
        assert task["result_url"] == f"{base}/v1/image/edit/async/{task['id']}"
        await anyio.sleep(LONGEST_SECONDS)
        data = (await http.get(task["result_url"])).json()["data"]
        assert (await http.get(data["result"]["output_object"]["tmp_url"])).status_code == 200


async def test_a_task_is_accepted_then_processing_then_done(build: Build) -> None:
    http = client(build(limits=((10_000, 60.0),)))
    task = await submitted(http)
    seen: list[str] = []
    for _ in range(200):
        data = await state(http, task["id"])
        if data["status"] != "DONE":
            assert (data["errors"], data["result"]) == ([], {})
        seen.append(data["status"])
        await anyio.sleep(LONGEST_SECONDS / 100)
    assert list(dict.fromkeys(seen)) == ["ACCEPTED", "PROCESSING", "DONE"]
    assert seen == sorted(seen, key=["ACCEPTED", "PROCESSING", "DONE"].index)


async def test_a_done_task_describes_both_pictures(build: Build) -> None:
    data = await finished(client(build()), operations={"resizing": {"width": 1000}})
    assert list(data) == ["id", "status", "created_at", "request", "errors", "result"]
    assert data["errors"] == []
    assert data["result"]["input_object"] == {
        "ext": "jpeg",
        "mps": 0.016,
        "mime": "image/jpeg",
        "format": "JPEG",
        "width": 160,
        "height": 100,
    }
    output = data["result"]["output_object"]
    assert output.pop("tmp_url").endswith("/200.jpeg")
    assert output == {
        "ext": "jpeg",
        "mps": 0.625,
        "mime": "image/jpeg",
        "format": "JPEG",
        "width": 1000,
        "height": 625,
    }


async def test_the_temporary_address_is_good_for_a_day(build: Build) -> None:
    # "Image input and output": without an output the result is kept for 24 hours.
    http = client(build())
    start = await submitted(http)
    await anyio.sleep(LONGEST_SECONDS)
    url = (await state(http, start["id"]))["result"]["output_object"]["tmp_url"]
    await anyio.sleep(DAY_SECONDS - LONGEST_SECONDS)
    assert (await http.get(url)).status_code == 200
    await anyio.sleep(LONGEST_SECONDS)
    answer = await http.get(url)
    assert answer.status_code == 403
    assert answer.headers["content-type"] == "application/xml"
    assert (await state(http, start["id"]))["result"]["output_object"]["tmp_url"] == url


async def test_nothing_is_at_other_addresses(build: Build) -> None:
    http = client(build())
    url = (await finished(http))["result"]["output_object"]["tmp_url"]
    for wrong in (url.replace("200.jpeg", "201.jpeg"), url.replace("/200", "0/200"), f"{BASE}/v2"):
        answer = await http.get(wrong)
        assert answer.status_code == 404
        assert uuid.UUID(answer.headers["x-request-id"])


async def test_the_quirks_of_the_page_are_on_a_switch(build: Build) -> None:
    http = client(build(quirks=True))
    done = await finished(http, output={"format": "avif"})
    shown = done["result"]["input_object"]
    assert (shown["ext"], shown["format"], shown["mime"]) == ("pnj", "jpeg", "image/jpeg")
    shown = done["result"]["output_object"]
    assert (shown["ext"], shown["format"], shown["mime"]) == ("av1", "avif", "image/avif")
    failed = await finished(http, input="https://pictures.example/missing.jpg")
    assert isinstance(failed["errors"][0]["created_at"], int)


# Errors of a task: "status will have ERROR value", "result ... will be empty".


@pytest.mark.parametrize("name", ["missing.jpg", "plain.ppm"])
async def test_an_input_that_cannot_be_read_ends_in_an_error(build: Build, name: str) -> None:
    data = await finished(client(build()), input=f"https://pictures.example/{name}")
    assert data["status"] == "ERROR"
    assert data["result"] == {}
    (error,) = data["errors"]
    assert set(error) == {"error", "created_at", "input_object"}
    assert error["created_at"].startswith("2026-11-22T09:00:0")
    assert error["input_object"] is None


@pytest.mark.parametrize(
    "changes",
    [
        {"input": "https://pictures.example/fails-in-processing.jpg"},
        {"operations": {"resizing": {"width": 40_000}}},
        {"output": "storage://nowhere/folder/"},
        {
            "operations": {
                "generative": {
                    "style_transfer": {"style_reference_image": "https://a.example/missing"}
                }
            }
        },
    ],
    ids=json.dumps,
)
async def test_an_error_after_reading_describes_the_input(
    build: Build, changes: dict[str, object]
) -> None:
    data = await finished(client(build()), **changes)
    assert (data["status"], data["result"]) == ("ERROR", {})
    assert data["errors"][0]["input_object"]["width"] == 160


async def test_a_task_can_be_planned_never_to_end(build: Build) -> None:
    emulator = build()
    emulator.faults.add("submit", Fault(kind="never_finish"))
    http = client(emulator)
    task = await submitted(http)
    await anyio.sleep(DAY_SECONDS)
    assert (await state(http, task["id"]))["status"] == "PROCESSING"


@pytest.mark.parametrize("status", ["WAITING", "PAUSED", "CANCELLED"])
async def test_the_other_documented_states_can_be_forced(build: Build, status: Any) -> None:
    # The OpenAPI description's status enum has three words more than the page.
    emulator = build()
    http = client(emulator)
    task = await submitted(http)
    emulator.force_status(task["id"], status)
    await anyio.sleep(LONGEST_SECONDS)
    data = await state(http, task["id"])
    assert (data["status"], data["result"]) == (status, {})
    emulator.force_status(task["id"], None)
    assert (await state(http, task["id"]))["status"] == "DONE"


# Payment: "Re-posting ... consumes new API call credits"; 402 "No API calls left".


async def test_each_accepted_submission_is_charged_until_no_call_is_left(build: Build) -> None:
    emulator = build(calls=2)
    http = client(emulator)
    ids = [str((await submitted(http))["id"]) for _ in range(2)]
    answer = await http.post(SUBMIT, json=EDIT)
    assert answer.status_code == 402
    assert answer.json()["error_type"] == "billing"
    assert [(c.job_id, c.amount, c.unit) for c in emulator.charges] == [
        (task_id, 1, "calls") for task_id in ids
    ]


async def test_a_failed_edit_is_refunded_when_switched_so(build: Build) -> None:
    emulator = build(calls=1, charge_errors=False)
    http = client(emulator)
    for _ in range(2):
        await finished(http, input="https://pictures.example/missing.jpg")
    assert [charge.amount for charge in emulator.charges] == [1, -1, 1, -1]


# "Rate limits": 120 in a minute and 4 in a second, headers on every answer.


async def test_every_answer_has_a_request_id_and_says_what_is_left(build: Build) -> None:
    emulator = build()
    http = client(emulator)
    ids: set[str] = set()
    for left, (method, path) in enumerate(
        [("GET", f"{SUBMIT}/999"), ("POST", SUBMIT), ("GET", f"{SUBMIT}/x")]
    ):
        answer = await http.request(method, path)
        assert answer.status_code >= 400
        assert answer.headers["ratelimit-limit"] == "120, 120;w=60, 4;w=1"
        assert answer.headers["ratelimit-remaining"] == str(119 - left)
        assert answer.headers["ratelimit-reset"] == "60"
        ids.add(str(uuid.UUID(answer.headers["x-request-id"])))
    answer = await client(emulator, None).get(f"{SUBMIT}/1")
    assert answer.headers["ratelimit-remaining"] == "120"
    assert len(ids | {answer.headers["x-request-id"]}) == 4


async def test_the_fifth_request_in_a_second_is_refused_with_a_nested_error(build: Build) -> None:
    emulator = build()
    http = client(emulator)
    for _ in range(4):
        await submitted(http)
    await anyio.sleep(0.5)
    answer = await http.post(SUBMIT, json=EDIT)
    assert answer.status_code == 429
    assert answer.json() == {
        "detail": {
            "error_code": "2001",
            "error_type": "general",
            "error_message": "Too Many Requests. Rate limit exceeded.",
        }
    }
    assert answer.headers["ratelimit-remaining"] == "-1"
    assert answer.headers["ratelimit-reset"] == "1"
    assert len(emulator.charges) == 4
    await anyio.sleep(0.5)
    await submitted(http)


async def test_the_121st_request_in_a_minute_is_refused(build: Build) -> None:
    http = client(build())
    first = await submitted(http)
    for _ in range(119):
        await anyio.sleep(0.25)
        await state(http, first["id"])
    await anyio.sleep(1)
    answer = await http.get(f"{SUBMIT}/{first['id']}")
    assert answer.status_code == 429
    wait = int(answer.headers["ratelimit-reset"])
    assert wait == 30
    await anyio.sleep(wait)
    await state(http, first["id"])


async def test_the_limits_of_the_other_copy_of_the_page_can_be_set(build: Build) -> None:
    http = client(build(limits=((30, 60.0), (1, 1.0))))
    assert (await http.get(f"{SUBMIT}/1")).headers["ratelimit-limit"] == "30, 30;w=60, 1;w=1"
    assert (await http.get(f"{SUBMIT}/1")).status_code == 429


# "Errors": the envelope, 401 code 111, 403, 404, 422 code 9000 with dotted paths.


@pytest.mark.parametrize("header", [None, "Bearer nobody", TEST_KEY, f"bearer {TEST_KEY}"])
async def test_a_request_without_a_valid_key_is_refused(build: Build, header: str | None) -> None:
    headers = {} if header is None else {"Authorization": header}
    answer = await client(build(), None).post(SUBMIT, json={}, headers=headers)
    assert answer.status_code == 401
    assert answer.json() == {
        "error_code": "111",
        "error_type": "auth",
        "error_message": "Authorization is required.",
        "error_details": {},
    }


async def test_a_key_for_another_product_is_refused(build: Build) -> None:
    answer = await client(build(), UNSCOPED_KEY).post(SUBMIT, json={})
    assert (answer.status_code, answer.json()["error_type"]) == (403, "auth")


async def test_a_task_is_found_only_by_the_key_that_made_it(build: Build) -> None:
    emulator = build(keys={TEST_KEY: ["image_editing"], "other": ["image_editing"]})
    task = await submitted(client(emulator))
    for http, task_id in ((client(emulator), 10**30), (client(emulator, "other"), task["id"])):
        answer = await http.get(f"{SUBMIT}/{task_id}")
        assert answer.status_code == 404
        assert set(answer.json()) == {
            "error_code",
            "error_type",
            "error_message",
            "error_details",
        }


async def test_a_body_that_is_no_json_is_refused(build: Build) -> None:
    http = client(build())
    as_json = {"content-type": "application/json"}
    answer = await http.post(SUBMIT, content=b"{", headers=as_json)
    assert (answer.status_code, answer.json()["error_type"]) == (400, "general")
    for content, headers in ((b"[]", as_json), (b"{}", {"content-type": "text/plain"})):
        answer = await http.post(SUBMIT, content=content, headers=headers)
        assert answer.status_code == 422
        assert answer.json()["error_details"] == {"__root__": ["value is not a valid dict"]}


async def test_every_mistake_is_named_with_its_dotted_path(build: Build) -> None:
    emulator = build()
    body = {"operations": {"resizing": {"depth": 1}, "adjustments": {"hdr": 101}}}
    answer = await client(emulator).post(SUBMIT, json=body)
    assert answer.status_code == 422
    assert answer.json() == {
        "error_code": "9000",
        "error_type": "validation",
        "error_message": (
            "input: field required. operations.resizing.depth: extra fields not permitted. "
            "operations.adjustments.hdr: ensure this value is less than or equal to 100."
        ),
        "error_details": {
            "input": ["field required"],
            "operations.resizing.depth": ["extra fields not permitted"],
            "operations.adjustments.hdr": ["ensure this value is less than or equal to 100"],
        },
    }
    assert emulator.charges == []


# "Image edit contract": what each field accepts.

VALID: list[dict[str, Any]] = [
    {},
    {"restorations": {"decompress": None, "upscale": None, "polish": True}},
    {"restorations": {"decompress": "auto", "upscale": "smart_enhance"}},
    {"restorations": {"upscale": {"type": "photo", "version": "3"}}},
    {"resizing": {}},
    {"resizing": None},
    {"resizing": {"width": "auto", "height": 10}},
    {"resizing": {"width": "50%", "height": "25%", "fit": "bounds"}},
    {"resizing": {"width": 10, "height": 10, "fit": {"type": "crop", "crop": "smart"}}},
    {"resizing": {"width": 10, "fit": {"crop": "center"}}},
    {"resizing": {"fit": {"type": "outpaint", "feathering": "15%", "outpaint_by": "5% 15%"}}},
    {"resizing": {"fit": {"type": "outpaint", "outpaint_by": "10px 5px"}}},
    {"adjustments": {"hdr": {"intensity": 100, "stitching": True}, "exposure": -100}},
    {"background": {"remove": {"category": "cars", "clipping": True, "selective": None}}},
    {"background": {"remove": {"selective": {"object_to_keep": "the chair"}}}},
    {"background": {"blur": {"type": "lens", "level": "high"}, "color": "#A0b1C2"}},
    {"background": {"color": "transparent"}},
    {"padding": "50%"},
    {"padding": "5% 25%"},
    {"privacy": {"blur_car_plate": True, "identity_crop": False}},
    {"generative": {"style_transfer": {"style_reference_image": INPUT, "style_strength": 1}}},
]

INVALID: list[tuple[str, dict[str, Any]]] = [
    ("operations.sharpen", {"sharpen": 1}),
    ("operations.restorations.decompress", {"restorations": {"decompress": "weak"}}),
    ("operations.restorations.upscale", {"restorations": {"upscale": True}}),
    (
        "operations.restorations.upscale.version",
        {"restorations": {"upscale": {"type": "photo", "version": 3}}},
    ),
    ("operations.restorations.upscale.type", {"restorations": {"upscale": {"version": "3"}}}),
    ("operations.restorations.polish", {"restorations": {"polish": None}}),
    ("operations.resizing", {"resizing": {"width": "auto", "height": "auto"}}),
    ("operations.resizing", {"resizing": {"width": 10, "height": "50%"}}),
    ("operations.resizing", {"resizing": "50%"}),
    ("operations.resizing.width", {"resizing": {"width": "1000"}}),
    ("operations.resizing.width", {"resizing": {"width": 0}}),
    ("operations.resizing.width", {"resizing": {"width": 10.0}}),
    ("operations.resizing.width", {"resizing": {"width": True}}),
    ("operations.resizing.height", {"resizing": {"height": "0%"}}),
    ("operations.resizing.fit", {"resizing": {"fit": "Crop"}}),
    ("operations.resizing.fit.type", {"resizing": {"fit": {"type": "stretch"}}}),
    ("operations.resizing.fit.type", {"resizing": {"fit": {}}}),
    ("operations.resizing.fit.crop", {"resizing": {"fit": {"crop": "left"}}}),
    ("operations.resizing.fit.crop", {"resizing": {"fit": {"type": "cover", "crop": "smart"}}}),
    (
        "operations.resizing.fit.feathering",
        {"resizing": {"fit": {"type": "outpaint", "feathering": "015%"}}},
    ),
    (
        "operations.resizing.fit.outpaint_by",
        {"resizing": {"fit": {"type": "outpaint", "outpaint_by": "10"}}},
    ),
    ("operations.adjustments.exposure", {"adjustments": {"exposure": 101}}),
    ("operations.adjustments.sharpness", {"adjustments": {"sharpness": -1}}),
    ("operations.adjustments.contrast", {"adjustments": {"contrast": 0.5}}),
    ("operations.adjustments.hdr.intensity", {"adjustments": {"hdr": {"intensity": 101}}}),
    # The page's default lists a field that the contract does not declare.
    ("operations.background.use_original_alpha", {"background": {"use_original_alpha": False}}),
    ("operations.background.remove", {"background": {"remove": "general"}}),
    ("operations.background.remove.category", {"background": {"remove": {"category": "food"}}}),
    (
        "operations.background.blur.selective.object_to_keep",
        {"background": {"blur": {"selective": {"object_to_keep": "ab"}}}},
    ),
    ("operations.background.color", {"background": {"color": "#fff"}}),
    ("operations.background.color", {"background": {"color": "white"}}),
    ("operations.padding", {"padding": "51%"}),
    ("operations.padding", {"padding": "10px"}),
    ("operations.padding", {"padding": 10}),
    ("operations.privacy.blur_car_plate", {"privacy": {"blur_car_plate": 1}}),
    (
        "operations.generative.style_transfer.style_reference_image",
        {"generative": {"style_transfer": {"prompt": "warm"}}},
    ),
    (
        "operations.generative.style_transfer.depth_strength",
        {"generative": {"style_transfer": {"style_reference_image": INPUT, "depth_strength": 1.5}}},
    ),
]

VALID_OUTPUTS: list[Any] = [
    None,
    "storage://shop/folder/",
    {},
    {"destination": "storage://shop/folder/", "format": None, "metadata": None},
    {"format": {"type": "jpeg", "quality": 1, "progressive": False}},
    {"format": {"type": "png", "compression": "optimal"}},
    {"format": {"type": "webp", "compression": {"type": "lossy", "quality": 100}}},
    {"format": {"type": "webp", "compression": "lossless"}},
    {"format": {"type": "avif", "compression": {"type": "lossless"}}},
    {"metadata": {"dpi": 300, "color_space": {"type": "CMYK", "color_profile": "ISO_Coated"}}},
]

INVALID_OUTPUTS: list[tuple[str, Any]] = [
    ("output", "folder"),
    ("output", "ftp://shop/folder"),
    ("output", 5),
    ("output.quality", {"quality": 5}),
    ("output.format", {"format": "jpg"}),
    ("output.format", {"format": "JPEG"}),
    ("output.format.quality", {"format": {"type": "jpeg", "quality": 0}}),
    ("output.format.quality", {"format": {"type": "png", "quality": 90}}),
    ("output.format.compression", {"format": {"type": "png", "compression": "lossy"}}),
    (
        "output.format.compression.quality",
        {"format": {"type": "webp", "compression": {"type": "lossless", "quality": 5}}},
    ),
    ("output.metadata.color_space", {"metadata": {"color_space": "rgb"}}),
    ("output.metadata.dpi", {"metadata": {"dpi": "300"}}),
]

INVALID_INPUTS: list[Any] = ["", "200.jpg", "ftp://a.example/b", "https://", "https:///a", None, []]


@pytest.mark.parametrize("operations", VALID, ids=json.dumps)
async def test_the_contract_accepts(operations: dict[str, Any]) -> None:
    assert problems({"input": INPUT, "operations": operations}) == {}


@pytest.mark.parametrize(("path", "operations"), INVALID, ids=json.dumps)
async def test_the_contract_refuses(path: str, operations: dict[str, Any]) -> None:
    assert list(problems({"input": INPUT, "operations": operations})) == [path]


@pytest.mark.parametrize("output", VALID_OUTPUTS, ids=json.dumps)
async def test_the_contract_accepts_the_output(output: object) -> None:
    assert problems({"input": INPUT, "operations": {}, "output": output}) == {}


@pytest.mark.parametrize(("path", "output"), INVALID_OUTPUTS, ids=json.dumps)
async def test_the_contract_refuses_the_output(path: str, output: object) -> None:
    assert list(problems({"input": INPUT, "operations": {}, "output": output})) == [path]


@pytest.mark.parametrize("address", [*INVALID_INPUTS, "https://a.example/" + 4096 * "a"])
async def test_the_contract_refuses_the_input(address: object) -> None:
    assert list(problems({"input": address, "operations": {}})) == ["input"]


# What the operations do to the picture.


@pytest.mark.parametrize(
    ("resizing", "size"),
    [
        ({}, (160, 100)),
        ({"width": 80}, (80, 50)),
        ({"height": "50%"}, (80, 50)),
        ({"width": "200%", "height": "100%"}, (320, 100)),
        ({"width": 50, "height": 50}, (50, 50)),
        ({"width": 50, "height": 50, "fit": "cover"}, (80, 50)),
        ({"width": 80, "height": 80, "fit": "bounds"}, (80, 50)),
        ({"width": 80, "height": 90, "fit": {"type": "canvas"}}, (80, 90)),
        ({"width": 80, "height": 90, "fit": "outpaint"}, (80, 90)),
        ({"fit": {"type": "outpaint", "outpaint_by": "10% 5%"}}, (176, 120)),
        ({"fit": {"type": "outpaint", "outpaint_by": "8px"}}, (176, 116)),
    ],
    ids=json.dumps,
)
async def test_a_picture_is_resized(
    build: Build, resizing: dict[str, object], size: tuple[int, int]
) -> None:
    assert output_size((160, 100), {"resizing": resizing}) == size
    assert (await edited(build(), operations={"resizing": resizing})).size == size


async def test_the_fits_crop_and_canvas_differ_in_what_is_kept(build: Build) -> None:
    emulator = build()
    square = {"width": 100, "height": 100}
    cropped = await edited(emulator, operations={"resizing": square})
    operations = {"resizing": square | {"fit": "canvas"}, "background": {"color": "#00ff00"}}
    framed = await edited(emulator, operations=operations, output={"format": "png"})
    assert pixel(cropped, (22, 50))[1] < 60
    assert pixel(framed, (22, 50)) == (255, 255, 255)
    assert pixel(framed, (50, 5)) == (0, 255, 0)


async def test_a_plain_background_is_removed_and_coloured(build: Build) -> None:
    emulator = build()
    remove = {"background": {"remove": True}}
    png = await edited(emulator, operations=remove, output={"format": "png"})
    assert pixel(png, (5, 5))[3] == 0
    assert pixel(png, (80, 50))[3] == 255
    # "transparent" only works for png output.
    jpeg = await edited(
        emulator, operations={"background": {"remove": True, "color": "transparent"}}
    )
    assert min(pixel(jpeg, (5, 5))) > 250
    colored = {"background": {"remove": {"category": "products"}, "color": "#0000ff"}}
    blue = await edited(emulator, operations=colored, output={"format": "png"})
    assert pixel(blue, (5, 5)) == (0, 0, 255)
    assert pixel(blue, (80, 50))[0] > 240


async def test_padding_shrinks_the_content_and_keeps_the_size(build: Build) -> None:
    emulator = build()
    operations = {"padding": "25%", "background": {"color": "#00ff00"}}
    padded = await edited(emulator, operations=operations, output={"format": "png"})
    assert padded.size == (160, 100)
    assert pixel(padded, (80, 10)) == (0, 255, 0)
    assert pixel(padded, (80, 50))[0] > 240


async def test_adjustments_change_the_colours(build: Build) -> None:
    emulator = build()
    plain = await edited(emulator, output={"format": "png"})
    gray = await edited(
        emulator, operations={"adjustments": {"saturation": -100}}, output={"format": "png"}
    )
    dark = await edited(
        emulator, operations={"adjustments": {"exposure": -100}}, output={"format": "png"}
    )
    red, green, blue = pixel(gray, (80, 50))
    assert red == green == blue
    assert pixel(dark, (80, 50))[0] < pixel(plain, (80, 50))[0] * 0.6


async def test_a_blurred_background_leaves_the_subject_sharp(build: Build) -> None:
    emulator = build()
    stripes = Image.new("RGB", (200, 200))
    draw = ImageDraw.Draw(stripes)
    for x in range(200):
        draw.line((x, 0, x, 200), fill=(x * 97 % 256,) * 3)
    file = io.BytesIO()
    stripes.save(file, "PNG")
    emulator.stored["storage://shop/stripes.png"] = file.getvalue()
    blurred = await edited(
        emulator,
        input="storage://shop/stripes.png",
        operations={"background": {"blur": {"level": "high"}}},
        output={"format": "png"},
    )

    def contrast(y: int) -> int:
        values = [pixel(blurred, (x, y))[0] for x in range(92, 108)]
        return max(values) - min(values)

    assert contrast(100) > 200
    assert contrast(3) < 60


OTHER_OPERATIONS: list[dict[str, object]] = [
    {"restorations": {"decompress": "strong", "upscale": "photo", "polish": True}},
    {"adjustments": {"hdr": 80, "contrast": 30, "sharpness": 50}},
    {"generative": {"style_transfer": {"style_reference_image": "https://a.example/style.png"}}},
    {"background": {"blur": True}},
]


@pytest.mark.parametrize("operations", OTHER_OPERATIONS, ids=json.dumps)
async def test_the_other_operations_result_in_another_picture(
    build: Build, operations: dict[str, object]
) -> None:
    emulator = build()
    before, after = (
        await edited(emulator, operations={}, output={"format": "png"}),
        await edited(emulator, operations=operations, output={"format": "png"}),
    )
    assert before.size == after.size
    assert before.tobytes() != after.tobytes()


async def test_a_transparent_picture_stays_so_as_png(build: Build) -> None:
    emulator = build()
    file = io.BytesIO()
    Image.new("RGBA", (160, 100), (255, 0, 0, 0)).save(file, "PNG")
    emulator.stored["storage://shop/clear.png"] = file.getvalue()
    for operations in OTHER_OPERATIONS[1:3]:
        image = await edited(
            emulator,
            input="storage://shop/clear.png",
            operations=operations,
            output={"format": "png"},
        )
        assert pixel(image, (5, 5))[3] == 0


@pytest.mark.parametrize("kind", ["jpeg", "png", "webp", "avif", "tiff"])
async def test_every_format_is_written(build: Build, kind: str) -> None:
    task = await finished(client(build()), output={"format": kind})
    assert task["result"]["output_object"]["ext"] == kind
    assert (await edited(build(), output={"format": kind})).format == kind.upper()


async def test_quality_resolution_and_colour_space_are_honoured(build: Build) -> None:
    emulator = build()
    metadata = {"dpi": 300, "color_space": "CMYK"}
    image = await edited(emulator, output={"metadata": metadata})
    assert (image.mode, image.info["dpi"]) == ("CMYK", (300, 300))
    coarse = {"format": {"type": "jpeg", "quality": 1, "progressive": False}}
    image = await edited(emulator, output=coarse)
    assert "progressive" not in image.info
    lossless = {"format": {"type": "webp", "compression": "lossless"}}
    image = await edited(emulator, input="https://pictures.example/a.png", output=lossless)
    assert pixel(image, (80, 50)) == (255, 0, 0)


async def test_a_result_goes_to_a_connected_storage_and_can_be_edited_again(build: Build) -> None:
    emulator = build(storages=["shop"])
    http = client(emulator)
    output = (await finished(http, output="storage://shop/edits/"))["result"]["output_object"]
    assert "tmp_url" not in output
    assert output["object_bucket"] == "shop"
    assert output["object_key"] == "edits/200.jpeg"
    assert output["claid_storage_uri"] == "storage://shop/edits/200.jpeg"
    assert (await finished(http, input=output["claid_storage_uri"]))["status"] == "DONE"


# "Webhooks": of the account; the body of the result, signed if there is a secret.


@pytest.mark.parametrize("encoding", ["hex", "base64"])
async def test_a_webhook_carries_the_result_and_its_signature(build: Build, encoding: str) -> None:
    received: list[tuple[bytes, Mapping[str, str]]] = []

    async def deliver(url: str, body: bytes, headers: Mapping[str, str]) -> int:
        assert url == "https://receiver.example/claid"
        received.append((body, headers))
        return 200

    emulator = build(
        deliver=deliver,
        webhook_url="https://receiver.example/claid",
        webhook_events=["DONE"],
        webhook_secret="shared",
        signature_encoding=encoding,
    )
    http = client(emulator)
    task = await submitted(http)
    await submitted(http, input="https://pictures.example/missing.jpg")
    await anyio.sleep(LONGEST_SECONDS)
    await emulator.settle()
    ((body, headers),) = received
    digest = hmac.new(b"shared", body, hashlib.sha256).digest()
    expected = digest.hex() if encoding == "hex" else base64.b64encode(digest).decode()
    assert headers["x-claid-hmac-sha256"] == expected
    assert json.loads(body) == {"data": await state(http, task["id"])}
    assert [delivery.status for delivery in emulator.deliveries] == [200]
