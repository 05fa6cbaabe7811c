"""Results go out only to hosts and storages that the configuration names."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from darkroom.providers import outward_mistakes
from tests.harness import call, refused, rig

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

pytestmark = pytest.mark.anyio

ADDRESS = "https://samples.sandbox.test/product-1.jpg"
EDIT = {"input": ADDRESS, "operations": {"resizing": {"width": 300}}}
DETAILS = {"workflow_details": {"a": 1}}
IMAGES = [{"image_url": ADDRESS, "image_name": "a"}]


def edit(where: object) -> tuple[str, dict[str, Any]]:
    return "claid_start_image_edit", {**EDIT, "output": where}


def zyng(details: object) -> tuple[str, dict[str, Any]]:
    return "zyng_start_images", {**DETAILS, "output_details": details, "images": IMAGES}


CALLS = {
    "storage": edit("storage://theirs/out"),
    "address": edit("https://evil.example/put?x=1"),
    "object": edit({"destination": "https://evil.example:8443/put", "format": "png"}),
    "details": zyng({"callback": "https://evil.example/put"}),
    "deep": zyng({"to": [{"s3": "S3://theirs/out"}]}),
    "mailbox": zyng({"to": "me@evil.example"}),
    "no-scheme": zyng({"to": "//evil.example/put"}),
    "credentials": zyng({"to": "https://shop@evil.example/"}),
}


@pytest.mark.parametrize("where", CALLS)
async def test_a_target_that_is_not_configured_is_refused_before_anything_is_sent(
    clock: Callable[[], float], tmp_path: Path, where: str
) -> None:
    allowed = dict.fromkeys(("CLAID", "ZYNG"), '["shop", "ours.example"]')
    environment = {f"DARKROOM_{name}__OUTPUT_HOSTS": hosts for name, hosts in allowed.items()}
    dependencies = rig(clock, tmp_path, environment=environment)
    tool, arguments = CALLS[where]
    async with dependencies.client() as client:
        error = await refused(client, tool, **arguments)
    assert error.startswith("[invalid_argument]")
    assert "output_hosts" in error
    assert not any(each.requests for each in dependencies.sandbox.emulators.values())


@pytest.mark.parametrize(
    "details", [{"format": "png"}, {"to": "https://ours.example/put"}, {"note": "a // b"}]
)
async def test_what_is_configured_or_goes_nowhere_is_sent(
    clock: Callable[[], float], tmp_path: Path, details: dict[str, str]
) -> None:
    environment = {"DARKROOM_ZYNG__OUTPUT_HOSTS": '["ours.example"]'}
    dependencies = rig(clock, tmp_path, environment=environment)
    tool, arguments = zyng(details)
    async with dependencies.client() as client:
        job = await call(client, tool, **arguments)
    assert job["status"] in {"queued", "running"}


async def test_a_configured_workflow_may_name_any_host(
    clock: Callable[[], float], tmp_path: Path
) -> None:
    studio = {**DETAILS, "output_details": {"to": "https://mine.example/put"}}
    environment = {"DARKROOM_ZYNG__WORKFLOWS": json.dumps({"studio": studio})}
    dependencies = rig(clock, tmp_path, environment=environment)
    async with dependencies.client() as client:
        job = await call(client, "zyng_start_images", workflow="studio", images=IMAGES)
    assert job["status"] in {"queued", "running"}


@pytest.mark.parametrize("text", ["png", "a/b", "2 // 3", ""])
def test_what_names_no_host_is_no_target(text: str) -> None:
    assert list(outward_mistakes("o", {"x": [text]}, (), "s")) == []
