"""What a completed job leaves on disk, and what a check says of it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

import anyio
import pytest
from mcp_types import CallToolResult

from darkroom.cli import token_count as tokens
from darkroom_tools.emulators.kit import Fault
from tests.engine.support import HOUR, IMAGE, TRYON, VIDEO, Paid, asked, ended
from tests.harness import ERAS, Era, call, inline, rig, text_of

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.harness import Rig

pytestmark = pytest.mark.anyio

PAID = pytest.mark.parametrize("paid", [IMAGE, VIDEO, TRYON], ids=str)
MAGIC = {"webp": b"RIFF", "webm": b"\x1aE\xdf\xa3", "jpg": b"\xff\xd8\xff"}
SUFFIXES = tuple(f".{extension}" for extension in MAGIC)
LONG_PROMPT = (
    "A lighthouse at dusk above a rough sea, oil on canvas, wide brush strokes, warm light in "
    "the windows of the keeper's house and gulls over the cliffs"
)


async def files(dependencies: Rig) -> list[Path]:
    """Return the results, without what stands beside them to say where they come from."""
    return await inline(
        lambda: sorted(
            p
            for p in dependencies.results.rglob("*")
            if p.is_file() and p.suffix in {".part", *SUFFIXES}
        )
    )


@PAID
@pytest.mark.parametrize("era", ERAS)
async def test_a_completed_job_has_a_whole_file_and_no_address(
    clock: Callable[[], float], tmp_path: Path, paid: Paid, era: Era
) -> None:
    dependencies = rig(clock, tmp_path)
    async with dependencies.client(era) as client:
        with anyio.fail_after(HOUR):
            job = await call(client, paid.start, **paid.arguments)
            done = await ended(client, paid.check, job["job_id"])
    (output,) = done["outputs"]
    path = Path(output["file"])
    data = await inline(path.read_bytes)
    assert data.startswith(MAGIC[path.suffix[1:]])
    assert len(data) == output["bytes"]
    assert path.parent == dependencies.results / "2026-11-22"
    assert "url" not in output
    assert "expires_at" not in output
    assert await files(dependencies) == [path]


@PAID
async def test_an_address_comes_back_when_it_is_asked_for(
    clock: Callable[[], float], tmp_path: Path, paid: Paid
) -> None:
    dependencies = rig(clock, tmp_path)
    async with dependencies.client() as client:
        with anyio.fail_after(HOUR):
            job = await call(client, paid.start, **paid.arguments)
            await ended(client, paid.check, job["job_id"])
            shown = await call(client, paid.check, job_id=job["job_id"], include_url=True)
    (output,) = shown["outputs"]
    assert output["url"].startswith("https://")
    assert output["expires_at"] > "2026-11-22"
    assert output["file"]


@PAID
async def test_without_downloads_a_result_is_its_address(
    clock: Callable[[], float], tmp_path: Path, paid: Paid
) -> None:
    dependencies = rig(clock, tmp_path, environment={"DARKROOM_RESULTS__DOWNLOAD": "never"})
    async with dependencies.client() as client:
        with anyio.fail_after(HOUR):
            job = await call(client, paid.start, **paid.arguments)
            done = await ended(client, paid.check, job["job_id"])
    (output,) = done["outputs"]
    assert output["url"].startswith("https://")
    assert "file" not in output
    assert asked(dependencies, paid.emulator, "download") == []
    assert await files(dependencies) == []


async def test_results_of_one_name_are_numbered_and_none_is_overwritten(
    clock: Callable[[], float], tmp_path: Path
) -> None:
    dependencies = rig(
        clock, tmp_path, environment={"DARKROOM_JOBS__IDENTICAL_WINDOW_SECONDS": "0"}
    )
    names: list[str] = []
    async with dependencies.client() as client:
        with anyio.fail_after(HOUR):
            for _ in range(3):
                job = await call(client, IMAGE.start, **IMAGE.arguments)
                done = await ended(client, IMAGE.check, job["job_id"])
                names.append(Path(done["outputs"][0]["file"]).name)
    assert len(set(names)) == 3
    assert all("lighthouse-at-dusk" in name for name in names)
    assert len(await files(dependencies)) == 3


@pytest.mark.parametrize(
    "prompt",
    [
        "../../etc/passwd",
        "/absolute/path",
        "C:\\windows\\system32",
        "nul",
        "....",
        "-rf",
        "\u202egnp.exe",
        "灯台と海 at dusk",
        "x" * 2000,
        "🌊🌊🌊",
        "line\nbreak\ttab\u0000",
    ],
)
async def test_no_prompt_leads_out_of_the_folder(
    clock: Callable[[], float], tmp_path: Path, prompt: str
) -> None:
    dependencies = rig(clock, tmp_path)
    async with dependencies.client() as client:
        with anyio.fail_after(HOUR):
            job = await call(client, IMAGE.start, prompt=prompt)
            done = await ended(client, IMAGE.check, job["job_id"])
    path = Path(done["outputs"][0]["file"])
    assert path.parent == dependencies.results / "2026-11-22"
    assert path.name.startswith("zsky-")
    assert len(path.name) < 100
    assert path.name.isprintable()


@PAID
async def test_a_file_appears_whole_or_not_at_all(
    clock: Callable[[], float], tmp_path: Path, paid: Paid
) -> None:
    dependencies = rig(clock, tmp_path)
    dependencies.sandbox.emulators[paid.emulator].faults.add("download", Fault(kind="drop_during"))
    async with dependencies.client() as client:
        with anyio.fail_after(HOUR):
            job = await call(client, paid.start, **paid.arguments)
            done = await ended(client, paid.check, job["job_id"])
    assert done["status"] == "completed"
    for path in await files(dependencies):
        assert not path.name.startswith(".")
        assert path == Path(done["outputs"][0]["file"])


@PAID
@pytest.mark.parametrize(
    "fault",
    [
        Fault(kind="refuse"),
        Fault(kind="drop_before"),
        Fault(kind="hang_before"),
        Fault(kind="status", status=403),
        Fault(kind="status", status=500),
        Fault(kind="malformed"),
        Fault(kind="empty"),
        Fault(kind="huge", size=80 << 20),
        Fault(kind="redirect", location="http://169.254.169.254/latest/meta-data"),
        Fault(kind="redirect", location="file:///etc/passwd"),
    ],
    ids=lambda fault: f"{fault.kind}-{fault.status}-{fault.location[:8]}",
)
async def test_a_download_that_fails_is_a_warning_and_the_job_stays_completed(
    clock: Callable[[], float], tmp_path: Path, paid: Paid, fault: Fault
) -> None:
    dependencies = rig(clock, tmp_path)
    dependencies.sandbox.emulators[paid.emulator].faults.add("download", fault, times=None)
    async with dependencies.client() as client:
        with anyio.fail_after(HOUR):
            job = await call(client, paid.start, **paid.arguments)
            done = await ended(client, paid.check, job["job_id"])
            assert done["status"] == "completed"
            assert "error" not in done
            (output,) = done["outputs"]
            assert "file" not in output
            assert output["url"].startswith("https://")
            while "still being downloaded" in done.get("warnings", [""])[0]:
                done = await call(client, paid.check, job_id=job["job_id"], wait_seconds=40)
            (warning,) = done["warnings"]
            assert warning.startswith("output 0 was not downloaded: ")
            assert "https://" not in warning
    assert await files(dependencies) == []


@PAID
async def test_a_results_folder_that_cannot_be_written_is_a_warning(
    clock: Callable[[], float], tmp_path: Path, paid: Paid
) -> None:
    (tmp_path / "file").write_text("in the way")
    dependencies = rig(
        clock, tmp_path, environment={"DARKROOM_RESULTS__FOLDER": str(tmp_path / "file" / "x")}
    )
    async with dependencies.client() as client:
        with anyio.fail_after(HOUR):
            job = await call(client, paid.start, **paid.arguments)
            done = await ended(client, paid.check, job["job_id"])
    assert done["status"] == "completed"
    assert "was not downloaded" in done["warnings"][0]


@PAID
async def test_a_check_costs_at_most_250_tokens(
    clock: Callable[[], float], tmp_path: Path, paid: Paid
) -> None:
    folder = tmp_path / "Users" / "marie-christine.example" / "Pictures" / "Darkroom"
    dependencies = rig(clock, tmp_path, environment={"DARKROOM_RESULTS__FOLDER": str(folder)})
    arguments = dict(paid.arguments)
    if paid is not TRYON:
        arguments["prompt"] = LONG_PROMPT
    async with dependencies.client() as client:
        with anyio.fail_after(HOUR):
            job = await call(client, paid.start, **arguments)
            for wait in (0, 40, 40, 40):
                result = await client.call_tool(
                    paid.check, {"job_id": job["job_id"], "wait_seconds": wait}
                )
                assert isinstance(result, CallToolResult)
                structure = json.dumps(result.structured_content, separators=(",", ":"))
                for form in (structure, text_of(result)):
                    # The folder counts as the person has it, not under the one of this test.
                    number, exact = tokens.count(form.replace(str(tmp_path), ""))
                    assert exact
                    assert number <= 250
