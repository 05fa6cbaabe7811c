"""Claid through the server. [S] is the source document, [O] the OpenAPI of its image edit."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, cast

import pytest

from darkroom.cli.token_count import tool_tokens
from darkroom.engine.arguments.schema import input_schema
from darkroom.providers.messages import Response, UnreadableError
from darkroom_tools.emulators.claid.emulator import UNSCOPED_KEY, ClaidEmulator
from darkroom_tools.emulators.kit import Fault, FaultKind
from darkroom_tools.providers.claid import provider as claid
from tests.harness import ERAS, Era, Fields, Rig, call, inline, refused, rig

if TYPE_CHECKING:
    from collections.abc import Callable

    from darkroom.core.json_types import JsonObject

pytestmark = pytest.mark.anyio

ALLOWED = {"DARKROOM_CLAID__OUTPUT_HOSTS": '["shop"]'}
SHOP = {"claid": {"storages": ["shop"]}}

RESIZE: Fields = {"resizing": {"width": 300}}


def emulator(server: Rig) -> ClaidEmulator:
    return cast("ClaidEmulator", server.sandbox.emulators["claid"])


def edit(server: Rig, operations: Fields | None = None, **more: Any) -> Fields:
    return {
        "input": server.sandbox.sample("product", 1),
        "operations": RESIZE if operations is None else operations,
        **more,
    }


def sent(server: Rig) -> Fields:
    (asked,) = [each for each in emulator(server).requests if each.operation == "submit"]
    return json.loads(asked.body)


@pytest.mark.parametrize("era", ERAS)
async def test_an_edit_is_started_waited_for_and_saved(
    clock: Callable[[], float], tmp_path: Path, era: Era
) -> None:
    server = rig(clock, tmp_path)
    async with server.client(era) as client:
        started = await call(client, "claid_start_image_edit", **edit(server))
        assert (started["status"], started["provider_job_id"]) == ("running", "1")
        assert started["cost"] == {"amount": 1, "unit": "credits", "basis": "estimate"}
        ended = await call(client, "claid_check_image_edit", job_id=started["job_id"])
    assert (ended["status"], ended["provider_status"]) == ("completed", "DONE")
    (output,) = ended["outputs"]
    assert (output["media_type"], output["width"]) == ("image/jpeg", 300)
    assert (await inline(Path(output["file"]).read_bytes)).startswith(b"\xff\xd8")
    assert {each.path.partition("/image")[0] for each in emulator(server).requests[:2]} == {
        "/v1-beta1"
    }


async def test_the_path_prefix_is_a_setting(clock: Callable[[], float], tmp_path: Path) -> None:
    server = rig(clock, tmp_path, environment={"DARKROOM_CLAID__PATH_PREFIX": "/v1"})
    async with server.client() as client:
        started = await call(client, "claid_start_image_edit", **edit(server))
        ended = await call(client, "claid_check_image_edit", job_id=started["job_id"])
        assert ended["status"] == "completed"
    asked = [each.path for each in emulator(server).requests if each.operation != "download"]
    assert all(path.startswith("/v1/image/edit/async") for path in asked)


# --- the typed operations ("Image edit contract" [O]) ---

FORMS: list[tuple[Fields, Fields]] = [
    ({}, {}),
    ({"resizing": {"width": 1000}}, {"resizing": {"width": 1000}}),
    (
        {"resizing": {"width": "1000", "height": "auto"}},
        {"resizing": {"width": 1000, "height": "auto"}},
    ),
    ({"resizing": {"width": 800.0}}, {"resizing": {"width": 800}}),
    ({"resizing": {"width": "50%"}}, {"resizing": {"width": "50%"}}),
    ({"resizing": {"width": 9, "fit": "bounds"}}, {"resizing": {"width": 9, "fit": "bounds"}}),
    (
        {"resizing": {"width": 9, "fit": {"type": "cover"}}},
        {"resizing": {"width": 9, "fit": "cover"}},
    ),
    (
        {"resizing": {"width": 9, "fit": {"crop": "smart"}}},
        {"resizing": {"width": 9, "fit": {"type": "crop", "crop": "smart"}}},
    ),
    (
        {"resizing": {"width": 9, "fit": {"type": "outpaint", "outpaint_by": "5% 15%"}}},
        {"resizing": {"width": 9, "fit": {"type": "outpaint", "outpaint_by": "5% 15%"}}},
    ),
    (
        {"restorations": {"decompress": "auto", "upscale": "faces", "polish": True}},
        {"restorations": {"decompress": "auto", "upscale": "faces", "polish": True}},
    ),
    (
        {"restorations": {"upscale": {"type": "photo", "version": "2"}}},
        {"restorations": {"upscale": {"type": "photo", "version": "2"}}},
    ),
    (
        {"adjustments": {"hdr": 60, "exposure": -100, "sharpness": 100}},
        {"adjustments": {"hdr": 60, "exposure": -100, "sharpness": 100}},
    ),
    (
        {"adjustments": {"hdr": {"intensity": 5, "stitching": True}}},
        {"adjustments": {"hdr": {"intensity": 5, "stitching": True}}},
    ),
    (
        {"background": {"remove": True, "color": "#ff00aa", "blur": False}},
        {"background": {"remove": True, "color": "#ff00aa", "blur": False}},
    ),
    (
        {"background": {"remove": {"category": "cars", "object_to_keep": "the car"}}},
        {
            "background": {
                "remove": {"category": "cars", "selective": {"object_to_keep": "the car"}}
            }
        },
    ),
    (
        {"background": {"blur": {"selective": {"object_to_keep": "the car"}, "level": "high"}}},
        {"background": {"blur": {"level": "high", "selective": {"object_to_keep": "the car"}}}},
    ),
    ({"padding": "5% 25%"}, {"padding": "5% 25%"}),
    ({"privacy": {"blur_car_plate": True}}, {"privacy": {"blur_car_plate": True}}),
    (
        {"generative": {"style_transfer": {"style_reference_image": "https://a.example/x.jpg"}}},
        {"generative": {"style_transfer": {"style_reference_image": "https://a.example/x.jpg"}}},
    ),
]


@pytest.mark.parametrize(("given", "expected"), FORMS)
async def test_every_form_of_the_page_is_sent_as_the_page_has_it(
    clock: Callable[[], float], tmp_path: Path, given: Fields, expected: Fields
) -> None:
    server = rig(clock, tmp_path)
    async with server.client() as client:
        started = await call(client, "claid_start_image_edit", **edit(server, given))
        assert (
            started["status"] == "running"
        )  # the emulator refuses what the contract does not have
    assert sent(server)["operations"] == expected
    assert "output" not in sent(server)


LOSSY = {"type": "lossy", "quality": 40}


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ("storage://shop/out/", "storage://shop/out/"),
        ({"format": "png"}, {"format": "png"}),
        (
            {"destination": "storage://shop/out", "format": {"type": "jpeg", "quality": 80}},
            {"destination": "storage://shop/out", "format": {"type": "jpeg", "quality": 80}},
        ),
        (
            {"format": {"type": "png", "compression": "best"}},
            {"format": {"type": "png", "compression": "best"}},
        ),
        (
            {"format": {"type": "webp", "quality": 40}},
            {"format": {"type": "webp", "compression": LOSSY}},
        ),
        (
            {"format": {"type": "avif", "compression": LOSSY}},
            {"format": {"type": "avif", "compression": LOSSY}},
        ),
        (
            {"format": {"type": "tiff", "compression": "lossless"}},
            {"format": {"type": "tiff", "compression": "lossless"}},
        ),
    ],
)
async def test_every_form_of_output_is_sent_as_the_page_has_it(
    clock: Callable[[], float], tmp_path: Path, given: object, expected: object
) -> None:
    server = rig(clock, tmp_path, environment=ALLOWED, switches=SHOP)
    async with server.client() as client:
        await call(client, "claid_start_image_edit", **edit(server, output=given))
    assert sent(server)["output"] == expected


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"input": "storage://"}, "input: the address does not begin with https"),
        ({"operations": {"resize": {}}}, "unknown argument 'resize'; did you mean 'resizing'?"),
        ({"operations": {"resizing": {"width": "wide"}}}, "width: expected pixels ('1000')"),
        ({"operations": {"resizing": {"width": 0}}}, "width: expected pixels"),
        ({"operations": {"resizing": {"width": True}}}, "width: expected a string, got true"),
        (
            {"operations": {"resizing": {"width": "auto", "height": "auto"}}},
            "width and height cannot both be 'auto'",
        ),
        (
            {"operations": {"resizing": {"width": 100, "height": "50%"}}},
            "both in pixels or both in percent",
        ),
        (
            {"operations": {"resizing": {"fit": {"type": "cover", "crop": "smart"}}}},
            "expected crop with type 'crop'",
        ),
        (
            {"operations": {"resizing": {"fit": {"crop": "smart", "outpaint_by": "5%"}}}},
            "crop does not go with feathering or outpaint_by",
        ),
        ({"operations": {"adjustments": {"exposure": 101}}}, "exposure: expected -100 to 100"),
        ({"operations": {"adjustments": {"hdr": -1}}}, "hdr: expected 0 to 100"),
        ({"operations": {"padding": "60%"}}, "padding: expected one or two percentages up to 50"),
        ({"operations": {"background": {"color": "red"}}}, "color: expected a color such as"),
        (
            {"operations": {"background": {"remove": {"selective": {"keep": "x"}}}}},
            "expected selective to be",
        ),
        (
            {"operations": {"background": {"remove": {"object_to_keep": "x"}}}},
            "object_to_keep: expected 3 to 128 characters",
        ),
        (
            {"operations": {"generative": {"style_transfer": {"depth_strength": 1}}}},
            "style_reference_image: missing",
        ),
        ({"output": "job:claid_x"}, "output: expected storage://name/path, or an address"),
        ({"output": {"format": "gif"}}, "output.format: expected one of 'jpeg'"),
        (
            {"output": {"format": {"type": "png", "quality": 5}}},
            "output.format: png without loss has no quality",
        ),
        (
            {"output": {"format": {"type": "jpeg", "compression": "best"}}},
            "output.format: jpeg takes no compression",
        ),
        (
            {"output": {"format": {"type": "webp", "progressive": True}}},
            "output.format: webp is never progressive",
        ),
    ],
)
async def test_mistakes_are_named_before_anything_is_sent(
    clock: Callable[[], float], tmp_path: Path, arguments: Fields, words: str
) -> None:
    server = rig(clock, tmp_path)
    async with server.client() as client:
        said = await refused(client, "claid_start_image_edit", **{**edit(server), **arguments})
        assert said.startswith("[invalid_argument]")
        assert words in said
    assert emulator(server).requests == []


def test_the_schema_fits_its_budget() -> None:
    tool = claid.START_IMAGE_EDIT
    assert tool_tokens(tool.name, tool.description, input_schema(tool.params)) <= 750


# --- answers ---


@pytest.mark.parametrize("quirks", [False, True])
@pytest.mark.parametrize(
    ("written", "media_type"), [("jpeg", "image/jpeg"), ("avif", "image/avif")]
)
async def test_the_slips_of_the_documents_change_nothing(  # "pnj", "av1", format in lower case [S]
    clock: Callable[[], float],
    tmp_path: Path,
    quirks: bool,  # noqa: FBT001 -- a parameter of the test
    written: str,
    media_type: str,
) -> None:
    environment = {"DARKROOM_RESULTS__DOWNLOAD": "never"}
    switches = {"claid": {"quirks": quirks}}
    server = rig(clock, tmp_path, environment=environment, switches=switches)
    async with server.client() as client:
        output = {"format": written}
        started = await call(client, "claid_start_image_edit", **edit(server, output=output))
        ended = await call(client, "claid_check_image_edit", job_id=started["job_id"])
        assert ended["status"] == "completed"
        assert ended["outputs"][0]["media_type"] == media_type
        assert ended["outputs"][0]["url"].startswith("https://claid.sandbox.test/temporary/")
        assert "expires_at" in ended["outputs"][0]
        lost = {"input": "https://missing.example/x.jpg", "operations": RESIZE}
        failing = await call(client, "claid_start_image_edit", **lost)
        failed = await call(client, "claid_check_image_edit", job_id=failing["job_id"])
    assert (failed["status"], failed["error"]["code"]) == ("failed", "provider_error")
    assert failed["error"]["provider_message"] == "nothing is there"


@pytest.mark.parametrize(
    ("forced", "status"),
    [("WAITING", "running"), ("PAUSED", "running"), ("CANCELLED", "cancelled")],  # APIV1Status [O]
)
async def test_the_newer_statuses_are_understood(
    clock: Callable[[], float],
    tmp_path: Path,
    forced: Literal["WAITING", "PAUSED", "CANCELLED"],
    status: str,
) -> None:
    server = rig(clock, tmp_path)
    async with server.client() as client:
        started = await call(client, "claid_start_image_edit", **edit(server))
        emulator(server).force_status(1, forced)
        job = await call(client, "claid_check_image_edit", job_id=started["job_id"])
        assert (job["status"], job["provider_status"]) == (status, forced)
        if status == "running":
            emulator(server).force_status(1, None)
            job = await call(client, "claid_check_image_edit", job_id=started["job_id"])
            assert job["status"] == "completed"


async def test_a_result_in_the_account_s_own_storage_is_named(
    clock: Callable[[], float], tmp_path: Path
) -> None:
    server = rig(clock, tmp_path, environment=ALLOWED, switches=SHOP)
    async with server.client() as client:
        arguments = edit(server, output="storage://shop/out")
        started = await call(client, "claid_start_image_edit", **arguments)
        ended = await call(client, "claid_check_image_edit", job_id=started["job_id"])
    (output,) = ended["outputs"]
    assert output["name"] == "shop/out/product-1.jpeg"
    assert "url" not in output
    assert "warnings" not in ended


async def test_a_task_that_was_started_elsewhere_is_picked_up_by_its_number(
    clock: Callable[[], float], tmp_path: Path
) -> None:
    elsewhere = rig(clock, tmp_path / "elsewhere")
    async with elsewhere.client() as client:
        await call(client, "claid_start_image_edit", **edit(elsewhere))
    server = rig(clock, tmp_path / "here", sandbox=elsewhere.sandbox)
    async with server.client() as client:
        ended = await call(client, "claid_check_image_edit", job_id="1")
        assert ended["status"] == "completed"
        assert (await refused(client, "claid_check_image_edit", job_id="99")).startswith(
            "[not_found]"  # 404: docs.claid.ai/errors
        )
        assert (await refused(client, "claid_check_image_edit", job_id="x")).startswith(
            "[invalid_argument]"  # 422: HTTPValidationError [O]
        )


def state_of(fields: object) -> object:
    answer = Response(status=200, body=cast("JsonObject", fields), received_at=1e9)
    return claid.read_state(answer).status


@pytest.mark.parametrize(
    ("fields", "status"),
    [
        ({"data": {"id": 1, "status": "accepted", "result": None, "errors": None}}, "running"),
        ({"id": 1, "status": "Processing"}, "running"),
        ({"data": {"status": "error", "errors": None, "result": {}}}, "failed"),
        (
            {"data": {"status": "ERROR", "errors": [{"error": "x", "created_at": 1678707429}]}},
            "failed",
        ),
        ({"data": {"status": "ERROR", "errors": [{"created_at": "2023-03-13"}]}}, "failed"),
        ({"data": {"status": "SOMETHING_NEW"}}, "running"),
        (
            {
                "data": {
                    "created_at": 1678707429000,
                    "status": "done",
                    "result": {"output_object": {"tmp_url": "https://x.example/1", "ext": "AV1"}},
                }
            },
            "completed",
        ),
    ],
)
def test_states_are_read_tolerantly(fields: object, status: str) -> None:
    assert state_of(fields) == status


@pytest.mark.parametrize(
    "fields",
    [
        {},
        {"data": []},
        {"data": {"status": 1}},
        {"data": {"status": "DONE", "result": {}}},
        {"data": {"status": "DONE", "result": None}},
        {"data": {"status": "DONE", "result": {"output_object": {"ext": "png"}}}},
    ],
)
def test_a_state_that_says_nothing_is_unreadable(fields: object) -> None:
    with pytest.raises(UnreadableError):
        state_of(fields)


@pytest.mark.parametrize(
    ("made", "media_type"),
    [
        ({"mime": "image/png", "ext": "pnj"}, "image/png"),
        ({"ext": "av1"}, "image/avif"),
        ({"format": "JPEG", "ext": "pnj"}, "image/jpeg"),
        ({"ext": "JPG"}, "image/jpeg"),
        ({"ext": "new"}, None),
    ],
)
def test_the_kind_of_a_picture_is_read_from_what_is_there(
    made: dict[str, Any], media_type: str | None
) -> None:
    fields: JsonObject = {"result": {"output_object": {"tmp_url": "https://x.example/1", **made}}}
    answer = Response(status=200, body=fields)
    assert claid.read_output(answer, fields).media_type == media_type


# --- errors (docs.claid.ai/errors, HttpErrorDetails [O]) and limits (docs.claid.ai/rate-limits) ---


def envelope(code: str, kind: str, message: str) -> bytes:
    return json.dumps(
        {"error_code": code, "error_type": kind, "error_message": message, "error_details": {}}
    ).encode()


DOCUMENTED: list[tuple[int, bytes, str, str]] = [
    (400, envelope("1", "image", "Not retrievable"), "invalid_argument", '"Not retrievable" (1)'),
    (401, envelope("111", "auth", "Authorization is required."), "auth_failed", "(111)"),
    (402, envelope("2", "billing", "No API calls left"), "insufficient_credits", "calls left"),
    (403, envelope("3", "auth", "Not enough permissions"), "forbidden", "permissions"),
    (404, envelope("4", "image", "Pipeline not found."), "not_found", "Pipeline"),
    (409, envelope("5", "general", "Conflict"), "conflict", "Conflict"),
    (422, envelope("9000", "validation", "name: too long."), "invalid_argument", "(9000)"),
    (
        422,
        b'{"detail":[{"loc":["body","input"],"msg":"field required","type":"x"}]}',
        "invalid_argument",
        '"body.input: field required"',
    ),
]


@pytest.mark.parametrize(("status", "body", "code", "words"), DOCUMENTED)
async def test_a_documented_error_of_a_submission_is_a_refusal(
    clock: Callable[[], float], tmp_path: Path, status: int, body: bytes, code: str, words: str
) -> None:
    server = rig(clock, tmp_path)
    left = {"RateLimit-Reset": "12"}  # in every answer; no reason to try a refused call again
    fault = Fault(kind="status", status=status, body=body, headers=left)
    emulator(server).faults.add("submit", fault)
    async with server.client() as client:
        said = await refused(client, "claid_start_image_edit", **edit(server))
        assert said.startswith(f"[{code}]")
        assert words in said
        assert "trying again does not help" in said
    assert emulator(server).charges == []


@pytest.mark.parametrize(("status", "body", "code", "words"), DOCUMENTED)
async def test_a_documented_error_of_a_poll_leaves_the_job_as_it_is(
    clock: Callable[[], float], tmp_path: Path, status: int, body: bytes, code: str, words: str
) -> None:
    del code, words
    server = rig(clock, tmp_path)
    emulator(server).faults.add("result", Fault(kind="status", status=status, body=body))
    async with server.client() as client:
        started = await call(client, "claid_start_image_edit", **edit(server))
        job = started
        for _ in range(4):
            job = await call(
                client, "claid_check_image_edit", job_id=started["job_id"], wait_seconds=40
            )
        assert job["status"] == "completed"


@pytest.mark.parametrize("status", [500, 502, 503])  # "500": nothing says that it was not begun
async def test_a_5xx_of_a_submission_is_unknown(
    clock: Callable[[], float], tmp_path: Path, status: int
) -> None:
    server = rig(clock, tmp_path)
    emulator(server).faults.add("submit", Fault(kind="status", status=status))
    async with server.client() as client:
        job = await call(client, "claid_start_image_edit", **edit(server))
        assert (job["status"], job["error"]["code"]) == ("unknown", "outcome_unknown")


@pytest.mark.parametrize("kind", ["drop_after", "wrong_types", "malformed", "empty"])
async def test_a_submission_is_never_sent_twice(
    clock: Callable[[], float], tmp_path: Path, kind: FaultKind
) -> None:
    server = rig(clock, tmp_path)
    emulator(server).faults.add("submit", Fault(kind=kind))
    async with server.client() as client:
        job = await call(client, "claid_start_image_edit", **edit(server))
        assert job["status"] == "unknown"
        again = await call(client, "claid_start_image_edit", **edit(server))
        assert again["job_id"] == job["job_id"]
    assert len(emulator(server).charges) == 1


async def test_a_nested_429_waits_for_the_reset_of_the_window(
    clock: Callable[[], float], tmp_path: Path
) -> None:
    server = rig(clock, tmp_path)
    body = b'{"detail":{"error_code":"2001","error_type":"general","error_message":"Too Many"}}'
    fault = Fault(kind="status", status=429, body=body, headers={"RateLimit-Reset": "7"})
    emulator(server).faults.add("submit", fault)
    began = clock()
    async with server.client() as client:
        job = await call(client, "claid_start_image_edit", **edit(server))
        assert (job["status"], job["queued_for"]) == ("queued", "pacing")
        ended = await call(client, "claid_check_image_edit", job_id=job["job_id"], wait_seconds=40)
        assert ended["status"] == "completed"
    first, second = [each.at - began for each in emulator(server).requests[:2]]
    assert (first, 7 <= second < 8) == (0, True)


async def test_the_documented_rates_are_used_and_never_passed(
    clock: Callable[[], float], tmp_path: Path
) -> None:
    environment = {"DARKROOM_RESULTS__DOWNLOAD": "never"}
    server = rig(clock, tmp_path, environment=environment)
    async with server.client() as client:
        jobs = [
            (await call(client, "claid_start_image_edit", **edit(server, {"padding": f"{n}%"})))[
                "job_id"
            ]
            for n in range(24)
        ]
        for job_id in jobs:
            ended = await call(client, "claid_check_image_edit", job_id=job_id, wait_seconds=40)
            assert ended["status"] == "completed"
    statuses = {each.status for each in emulator(server).requests}
    assert statuses == {200}
    times = [each.at for each in emulator(server).requests]
    assert max(sum(at <= other < at + 1 for other in times) for at in times) == 4


@pytest.mark.parametrize(
    ("environment", "switches", "code"),
    [
        ({"CLAID_API_KEY": "wrong"}, {}, "auth_failed"),
        ({"CLAID_API_KEY": UNSCOPED_KEY}, {}, "forbidden"),
        ({}, {"calls": 0}, "insufficient_credits"),
    ],
)
async def test_what_the_account_may_not_do_is_said(
    clock: Callable[[], float],
    tmp_path: Path,
    environment: dict[str, str],
    switches: dict[str, object],
    code: str,
) -> None:
    server = rig(clock, tmp_path, environment=environment, switches={"claid": switches})
    async with server.client() as client:
        said = await refused(client, "claid_start_image_edit", **edit(server))
        assert said.startswith(f"[{code}]")


async def test_the_result_of_another_job_can_be_edited(
    clock: Callable[[], float], tmp_path: Path
) -> None:
    server = rig(clock, tmp_path)
    async with server.client() as client:
        image = await call(client, "zsky_start_image", prompt="A lighthouse at dusk")
        source = {"input": f"job:{image['job_id']}", "operations": RESIZE}
        started = await call(client, "claid_start_image_edit", **source)
        ended = await call(
            client, "claid_check_image_edit", job_id=started["job_id"], wait_seconds=40
        )
        assert ended["status"] == "completed"
    assert sent(server)["input"].startswith("https://zsky.sandbox.test/")
