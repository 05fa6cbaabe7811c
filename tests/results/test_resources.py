"""Jobs and their outputs as resources, in both protocol eras."""

from __future__ import annotations

import base64
import io
from typing import TYPE_CHECKING, Any, cast

import anyio
import pytest
from mcp.shared.exceptions import MCPError
from mcp_types import (
    BlobResourceContents,
    ResourceTemplateReference,
    ResourceUpdatedNotification,
)
from PIL import Image

from mcp import Client
from tests.harness import ERAS, Era, call, rig
from tests.results.support import file_of, image, read_json

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

pytestmark = pytest.mark.anyio

OUTPUT = "darkroom://jobs/{job_id}/outputs/{index}{?width}"


async def blob(client: Client, uri: str) -> tuple[bytes, str | None]:
    (content,) = (await client.read_resource(uri)).contents
    assert isinstance(content, BlobResourceContents)
    return base64.b64decode(content.blob), content.mime_type


@pytest.mark.parametrize("era", ERAS)
async def test_what_can_be_read_is_listed(
    clock: Callable[[], float], tmp_path: Path, era: Era
) -> None:
    async with rig(clock, tmp_path).client(era) as client:
        fixed = [str(each.uri) for each in (await client.list_resources()).resources]
        templates = (await client.list_resource_templates()).resource_templates
    assert fixed[0] == "darkroom://jobs"
    assert fixed[1].startswith("ui://darkroom/gallery-")
    assert [each.uri_template for each in templates] == ["darkroom://jobs/{job_id}", OUTPUT]


@pytest.mark.parametrize("era", ERAS)
async def test_a_job_reads_as_its_check_shows_it(
    clock: Callable[[], float], tmp_path: Path, era: Era
) -> None:
    async with rig(clock, tmp_path).client(era) as client:
        job = await image(client)
        read = await read_json(client, f"darkroom://jobs/{job['job_id']}")
        assert read["label"] == "A lighthouse at dusk"
        assert read["tools"] == {"check": "zsky_check_job"}
        assert read["outputs"][0]["url"].startswith("https://")
        assert read["outputs"][0]["file"] == job["outputs"][0]["file"]
        for name in ("job_id", "status", "provider", "operation", "cost", "created_at"):
            assert read[name] == job[name]
        recent = await read_json(client, "darkroom://jobs")
        assert [each["job_id"] for each in recent["jobs"]] == [job["job_id"]]
        assert "url" not in recent["jobs"][0]["outputs"][0]


@pytest.mark.parametrize("era", ERAS)
async def test_an_output_reads_whole_and_scaled(
    clock: Callable[[], float], tmp_path: Path, era: Era
) -> None:
    async with rig(clock, tmp_path).client(era) as client:
        job = await image(client, width=1024, height=512)
        uri = f"darkroom://jobs/{job['job_id']}/outputs/0"
        whole, kind = await blob(client, uri)
        assert whole == file_of(job).read_bytes()
        assert kind == "image/webp"
        small, kind = await blob(client, f"{uri}?width=200")
        assert kind == "image/jpeg"
        assert Image.open(io.BytesIO(small)).size == (200, 100)


@pytest.mark.parametrize(
    ("path", "says"),
    [
        ("jobs/zsky_nobody", "[not_found]"),
        ("jobs/{id}/outputs/7", "has no output 7"),
        ("jobs/{id}/outputs/-1", "has no output"),
        ("jobs/{id}/outputs/x", "has no output x"),
        ("jobs/{id}/outputs/0?width=0", "[invalid_argument]"),
        ("jobs/{id}/outputs/0?width=99999999999999999999", "[invalid_argument]"),
        ("jobs/{id}/outputs/0?width=1e3", "[invalid_argument]"),
        ("jobs/../../etc/passwd", "there is no resource"),
        ("jobs/..%2F..%2Fetc", "[not_found]"),
        ("nothing", "there is no resource"),
    ],
)
async def test_what_is_not_there_is_said(
    clock: Callable[[], float], tmp_path: Path, path: str, says: str
) -> None:
    async with rig(clock, tmp_path).client() as client:
        job = await image(client)
        with pytest.raises(MCPError) as error:
            await client.read_resource("darkroom://" + path.replace("{id}", job["job_id"]))
        assert says in str(error.value)


async def test_only_the_file_that_was_saved_is_served(
    clock: Callable[[], float], tmp_path: Path
) -> None:
    async with rig(clock, tmp_path).client() as client:
        jobs = [await image(client, prompt) for prompt in ("a boat", "a kite", "a house")]
        changed, linked, pipe = (file_of(job) for job in jobs)
        changed.write_bytes(b"another file")
        secret = tmp_path / "secret"
        linked.rename(secret)
        linked.symlink_to(secret)
        pipe.unlink()
        pipe.mkdir()
        for job in jobs:
            uri = f"darkroom://jobs/{job['job_id']}/outputs/0"
            (whole,) = (await client.read_resource(uri)).contents
            assert isinstance(whole, BlobResourceContents)
            # It was fetched again: what stood under its name was not what had been saved.
            assert base64.b64decode(whole.blob)[:4] == b"RIFF"


async def test_a_folder_that_was_linked_elsewhere_is_not_served(
    clock: Callable[[], float], tmp_path: Path
) -> None:
    async with rig(clock, tmp_path).client() as client:
        job = await image(client)
        day = file_of(job).parent
        day.rename(tmp_path / "elsewhere")
        day.symlink_to(tmp_path / "elsewhere")
        with pytest.raises(MCPError, match="not in the results folder"):
            await client.read_resource(f"darkroom://jobs/{job['job_id']}/outputs/0")


@pytest.mark.parametrize("era", ERAS)
async def test_ids_are_completed(clock: Callable[[], float], tmp_path: Path, era: Era) -> None:
    async with rig(clock, tmp_path).client(era) as client:
        first, second = await image(client, "a boat"), await image(client, "a kite")
        ref = ResourceTemplateReference(uri="darkroom://jobs/{job_id}")
        found = await client.complete(ref, {"name": "job_id", "value": "zsky_"})
        assert set(found.completion.values) == {first["job_id"], second["job_id"]}
        typed = {"name": "job_id", "value": first["job_id"][:12]}
        found = await client.complete(ResourceTemplateReference(uri=OUTPUT), typed)
        assert found.completion.values == [first["job_id"]]
        found = await client.complete(ref, {"name": "nothing", "value": ""})
        assert found.completion.values == []


async def test_a_change_is_announced_to_who_listens(
    clock: Callable[[], float], tmp_path: Path
) -> None:
    async with rig(clock, tmp_path).client("auto") as client:
        job = await call(client, "zsky_start_image", prompt="a boat", width=256, height=256)
        uri = f"darkroom://jobs/{job['job_id']}"
        with anyio.fail_after(60):
            async with client.listen(resource_subscriptions=[uri]) as events:
                while (await read_json(client, uri))["status"] != "completed":
                    event = await anext(events)
                    assert getattr(event, "uri", None) == uri


@pytest.mark.filterwarnings("ignore:resources/.*subscribe is removed")
async def test_a_change_is_announced_to_a_session_that_subscribed(
    clock: Callable[[], float], tmp_path: Path
) -> None:
    heard: list[str] = []
    news = anyio.Event()

    async def listen(message: Any) -> None:
        found = getattr(message, "root", message)
        if isinstance(found, ResourceUpdatedNotification):
            heard.append(str(found.params.uri))
            news.set()

    server = rig(clock, tmp_path).server
    async with Client(server, mode="legacy", message_handler=listen) as client:
        capabilities = cast("Any", client.server_capabilities)
        assert capabilities.resources.subscribe
        job = await call(client, "zsky_start_image", prompt="a boat", width=256, height=256)
        other = await call(client, "zsky_start_video", prompt="a kite", length=5)
        uri = f"darkroom://jobs/{job['job_id']}"
        await client.session.subscribe_resource(uri)  # pyright: ignore[reportDeprecated] -- of 2025-11-25
        with anyio.fail_after(60):
            await news.wait()
        assert set(heard) == {uri}
        heard.clear()
        uri = f"darkroom://jobs/{other['job_id']}"
        await client.session.subscribe_resource(uri)  # pyright: ignore[reportDeprecated] -- as above
        await client.session.unsubscribe_resource(uri)  # pyright: ignore[reportDeprecated] -- as above
        await call(client, "zsky_check_job", job_id=other["job_id"], wait_seconds=40)
        await anyio.sleep(60)
        assert uri not in heard
