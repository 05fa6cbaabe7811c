"""Files that cannot be used, and buckets that take nothing: one clear error, and nothing is sent."""

from __future__ import annotations

import io
import os
import random
from typing import TYPE_CHECKING, Literal

import anyio
import anyio.to_thread
import pytest
from PIL import Image

from darkroom.core.errors import CallError
from darkroom.providers.params import Takes
from darkroom.results.intake import Intake
from tests.harness import call, refused, rig
from tests.inputs.support import bucket_rig, picture

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

pytestmark = pytest.mark.anyio

MODEL = "https://samples.sandbox.test/model-1.jpg"


def outside(folder: Path) -> str:
    (folder / "secret.jpg").write_bytes(picture())
    return str(folder / "secret.jpg")


def upwards(folder: Path) -> str:
    outside(folder)
    return "../secret.jpg"


def linked(folder: Path) -> str:
    outside(folder)
    (folder / "photos" / "link.jpg").symlink_to(folder / "secret.jpg")
    return "link.jpg"


def written(name: str, content: bytes) -> Callable[[Path], str]:
    def write(folder: Path) -> str:
        (folder / "photos" / name).parent.mkdir(exist_ok=True)
        (folder / "photos" / name).write_bytes(content)
        return name

    return write


def a_folder(folder: Path) -> str:
    (folder / "photos" / "shirts").mkdir()
    return "shirts"


def noise(size: tuple[int, int]) -> bytes:
    """Return a PNG that cannot be compressed."""
    pixels = random.Random(1).randbytes(size[0] * size[1] * 3)  # noqa: S311 -- no secret
    out = io.BytesIO()
    Image.frombytes("RGB", size, pixels).save(out, "PNG")
    return out.getvalue()


KEY = b"-----BEGIN OPENSSH PRIVATE KEY-----\nb3BlbnNzaC1rZXktdjEAAAAA\n"
HEIC = b"\0\0\0\x18ftypheic\0\0\0\0mif1heic" + b"\0" * 400

BAD: dict[str, tuple[Callable[[Path], str], str]] = {
    "outside": (outside, "outside the folders"),
    "outside and not there": (lambda _: "/nowhere/at/all.jpg", "outside the folders"),
    "upwards": (upwards, "outside the folders"),
    "link": (linked, "outside the folders"),
    "missing": (lambda _: "missing.jpg", "there is no such file"),
    "folder": (a_folder, "it is a folder"),
    "empty": (written("empty.jpg", b""), "it is empty"),
    "key": (written("key.jpg", KEY), "neither a picture nor a video"),
    "text": (written("notes.jpg", b"notes"), "neither a picture nor a video"),
    "truncated": (written("half.jpg", picture()[:2000]), "damaged or cut off"),
    "unreadable": (written("bad.png", picture("PNG")[:40] + b"x" * 500), "cannot be read here"),
    "hidden": (written(".hidden.jpg", picture()), "hidden"),
    "hidden folder": (written(".ssh/id.jpg", picture()), "hidden"),
    "too large": (written("large.png", noise((2000, 1700))), "too much: at most 10.0 MB"),
    "gif": (written("moving.gif", picture("GIF")), "GIF is not taken, only JPEG, PNG, WEBP"),
    "avif": (written("new.avif", picture("AVIF")), "AVIF is not taken"),
    "heic": (written("phone.heic", HEIC), "cannot be read here"),
    "data": (lambda _: "data:image/png;base64,aGVsbG8=", "pictures are not passed inside a call"),
    "another computer": (lambda _: "file://server/share/x.jpg", "of this computer"),
    "somebody's hash": (lambda _: f"input:{'a' * 64}/x.jpg", "not kept any more"),
}


@pytest.mark.parametrize("which", BAD)
async def test_a_file_that_cannot_be_used_is_refused_before_anything_is_sent(
    clock: Callable[[], float], tmp_path: Path, which: str
) -> None:
    make, said = BAD[which]
    rig = bucket_rig(clock, tmp_path)
    async with rig.client() as client:
        text = await refused(
            client,
            "zupertry_start_tryon",
            model_image_url=MODEL,
            garment_image_url=make(tmp_path),
        )
        assert said in text
        assert "secret" not in text.replace("secret.jpg", "")
        assert (await call(client, "list_jobs"))["jobs"] == []
    assert rig.sandbox.bucket.requests == []
    assert not rig.sandbox.emulators["zupertry"].requests


async def test_without_an_uploader_a_path_is_refused_with_both_ways_out(
    clock: Callable[[], float], tmp_path: Path
) -> None:
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "shirt.jpg").write_bytes(picture())
    bare = rig(
        clock,
        tmp_path,
        environment={"DARKROOM_INPUTS__ROOTS": f'["{tmp_path / "photos"}"]'},
    )
    async with bare.client() as client:
        calls: list[tuple[str, dict[str, object]]] = [
            ("zupertry_start_tryon", {"model_image_url": MODEL, "garment_image_url": "shirt.jpg"}),
            (
                "start_batch",
                {
                    "tool": "zupertry_start_tryon",
                    "arguments": {"model_image_url": MODEL},
                    "for_each": {"garment_image_url": ["*.jpg"]},
                },
            ),
        ]
        for tool, arguments in calls:
            text = await refused(client, tool, **arguments)
            assert "not_configured" in text
            assert 'upload = "s3"' in text
            assert "public https address" in text
    assert not bare.sandbox.emulators["zupertry"].requests


BUCKETS: dict[str, tuple[int | Literal["away", "lost"], str]] = {
    "403": (403, "refused the file (status 403)"),
    "full": (507, "takes nothing more"),
    "not there": (404, "is not there (status 404)"),
    "away": ("away", "did not answer"),
    "lost": ("lost", "did not answer"),
    "500": (500, "answered 500"),
}


@pytest.mark.parametrize("which", BUCKETS)
async def test_a_bucket_that_takes_nothing_ends_the_job_and_nothing_is_left_in_it(
    clock: Callable[[], float], tmp_path: Path, which: str
) -> None:
    planned, said = BUCKETS[which]

    def fault(method: str, key: str) -> int | Literal["away", "lost"] | None:
        del key
        return planned if method == "PUT" else None

    rig = bucket_rig(clock, tmp_path)
    (tmp_path / "photos" / "shirt.jpg").write_bytes(picture())
    rig.sandbox.bucket.fault = fault
    with anyio.fail_after(600):
        async with rig.client() as client:
            text = await refused(
                client,
                "zupertry_start_tryon",
                model_image_url=MODEL,
                garment_image_url="shirt.jpg",
            )
            assert "input_failed" in text
            assert said in text
            await anyio.sleep(100)
    assert rig.sandbox.bucket.objects == {}
    assert not rig.sandbox.emulators["zupertry"].requests


@pytest.mark.parametrize(
    ("values", "said"),
    [
        (["none/*.jpg"], "nothing matches"),
        (["../*.jpg"], "outside the folders"),
        (["many*/../../*.jpg"], ".. is not taken in a pattern"),
        (["**/*.jpg"], "give a pattern for each folder"),
        (["many/*.jpg"], "201 files; at most 200"),
    ],
)
async def test_a_pattern_that_cannot_be_used_is_refused(
    clock: Callable[[], float], tmp_path: Path, values: list[str], said: str
) -> None:
    rig = bucket_rig(clock, tmp_path)
    (tmp_path / "photos" / "many").mkdir()
    for n in range(201):
        (tmp_path / "photos" / "many" / f"{n}.jpg").write_bytes(b"x")
    async with rig.client() as client:
        text = await refused(
            client,
            "start_batch",
            tool="zupertry_start_tryon",
            arguments={"model_image_url": MODEL},
            for_each={"garment_image_url": values},
        )
        assert said in text
    assert rig.sandbox.bucket.requests == []


async def test_what_may_have_arrived_is_deleted_though_the_bucket_then_refused(
    clock: Callable[[], float], tmp_path: Path
) -> None:
    rig = bucket_rig(clock, tmp_path)
    (tmp_path / "photos" / "shirt.jpg").write_bytes(picture())
    answers: list[int | Literal["lost"]] = ["lost", 403]

    def fault(method: str, key: str) -> int | Literal["lost"] | None:
        del key
        return answers.pop(0) if method == "PUT" else None

    rig.sandbox.bucket.fault = fault
    with anyio.fail_after(600):
        async with rig.client() as client:
            text = await refused(
                client,
                "zupertry_start_tryon",
                model_image_url=MODEL,
                garment_image_url="shirt.jpg",
            )
            assert "refused the file (status 403)" in text
            await anyio.sleep(100)
    assert answers == []
    assert rig.sandbox.bucket.objects == {}


async def test_a_copy_that_has_changed_is_kept_anew_when_the_file_is_given_again(
    tmp_path: Path,
) -> None:
    shirt, folder = tmp_path / "shirt.jpg", tmp_path / "inputs"
    shirt.write_bytes(picture())
    intake = Intake((tmp_path,), folder, anyio.to_thread.run_sync, fit=False, keep_metadata=False)
    reference = (await intake.take({"shirt.jpg": Takes()}))["shirt.jpg"]
    (copy,) = folder.iterdir()
    copy.write_bytes(b"damaged")
    with pytest.raises(CallError) as refusal:
        await intake.file(reference)
    assert "has changed" in refusal.value.failure.message
    assert await intake.take({"shirt.jpg": Takes()}) == {"shirt.jpg": reference}
    assert (await intake.file(reference)).path == copy


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="there are no named pipes")
def test_a_pipe_in_a_folder_is_left_out_and_not_opened(tmp_path: Path) -> None:
    (tmp_path / "shirt.jpg").write_bytes(picture())
    os.mkfifo(tmp_path / "pipe.jpg")
    both_ends = os.open(tmp_path / "pipe.jpg", os.O_RDWR)  # so that opening it does not wait
    try:
        os.write(both_ends, picture())
        intake = Intake(
            (tmp_path.resolve(),),
            tmp_path / "inputs",
            anyio.to_thread.run_sync,
            fit=False,
            keep_metadata=False,
        )
        found = intake.expand(str(tmp_path))
    finally:
        os.close(both_ends)
    assert found == ([str(tmp_path / "shirt.jpg")], ["pipe.jpg"])
