"""Copies go where they are wanted, under the allowed folders and nowhere else."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import TYPE_CHECKING

import anyio
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from darkroom.core.errors import CallError
from darkroom.results.export import opened, target
from darkroom_tools.emulators.kit import Fault
from tests.engine.money import DAY, Asked
from tests.harness import ERAS, Era, Rig, call, refused, rig
from tests.results.support import file_of, files_in, image, later, video

if TYPE_CHECKING:
    from collections.abc import Callable

pytestmark = pytest.mark.anyio


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """Return the folder of a project, which is the only allowed one."""
    folder = tmp_path / "project"
    folder.mkdir()
    return folder


@pytest.fixture
async def server(clock: Callable[[], float], tmp_path: Path, project: Path) -> Rig:
    return rig(clock, tmp_path, environment={"DARKROOM_FILES__ROOTS": json.dumps([str(project)])})


@pytest.mark.parametrize("era", ERAS)
async def test_an_output_becomes_the_file_that_was_asked_for(
    server: Rig, project: Path, era: Era
) -> None:
    async with server.client(era) as client:
        job = await image(client)
        result = await call(client, "save_results", job_ids=[job["job_id"]], to="assets/hero.webp")
    path = project / "assets" / "hero.webp"
    assert result == {
        "saved": [
            {
                "job_id": job["job_id"],
                "index": 0,
                "file": str(path),
                "bytes": path.stat().st_size,
            }
        ]
    }
    assert path.read_bytes() == file_of(job).read_bytes()
    assert path.stat().st_mode & 0o777 == 0o666 & ~_umask()


def _umask() -> int:
    mask = os.umask(0o022)
    os.umask(mask)
    return mask


@pytest.mark.parametrize(
    ("name", "kind"),
    [("a.jpg", "JPEG"), ("a.jpeg", "JPEG"), ("a.PNG", "PNG"), ("a.webp", "WEBP")],
)
async def test_the_extension_converts_the_format(
    server: Rig, project: Path, name: str, kind: str
) -> None:
    async with server.client() as client:
        job = await image(client)
        await call(client, "save_results", job_ids=[job["job_id"]], to=name)
    with Image.open(project / name) as picture:
        assert picture.format == kind
        assert picture.size == (256, 256)


async def test_many_outputs_go_into_a_folder_under_their_own_names(
    server: Rig, project: Path
) -> None:
    async with server.client() as client:
        ids = [(await image(client, seed=seed))["job_id"] for seed in range(3)]
        await call(client, "save_results", job_ids=ids, to="out/pictures/")
    assert files_in(project) == [
        "zsky-lighthouse-at-dusk-1-2.webp",
        "zsky-lighthouse-at-dusk-1-3.webp",
        "zsky-lighthouse-at-dusk-1.webp",
    ]


async def test_nothing_is_overwritten_unless_it_is_asked_for(server: Rig, project: Path) -> None:
    (project / "hero.webp").write_bytes(b"mine")
    async with server.client(elicitation=Asked()) as client:
        job = await image(client)
        error = await refused(client, "save_results", job_ids=[job["job_id"]], to="hero.webp")
        assert error.startswith("[conflict]")
        assert (project / "hero.webp").read_bytes() == b"mine"
        ids = [job["job_id"]]
        await call(client, "save_results", job_ids=ids, to="hero.webp", overwrite=True)
        assert (project / "hero.webp").read_bytes() != b"mine"


async def test_of_several_nothing_is_written_when_one_name_is_taken(
    server: Rig, project: Path
) -> None:
    (project / "zsky-kite-1.webp").write_bytes(b"mine")
    async with server.client() as client:
        ids = [(await image(client, prompt))["job_id"] for prompt in ("a boat", "a kite")]
        await refused(client, "save_results", job_ids=ids, to="./")
    assert files_in(project) == ["zsky-kite-1.webp"]


@pytest.mark.parametrize(
    "to",
    [
        "../hero.webp",
        "assets/../../hero.webp",
        "/etc/hero.webp",
        "~/hero.webp",
        "a\0b.webp",
        "hero",
        "hero.sh",
        ".bashrc",
        ".",
        "..",
        "/",
    ],
)
async def test_a_place_that_is_not_allowed_is_refused(server: Rig, project: Path, to: str) -> None:
    async with server.client() as client:
        job = await image(client)
        error = await refused(client, "save_results", job_ids=[job["job_id"]], to=to)
        assert error.startswith("[invalid_argument]")
    assert files_in(project) == []


async def test_no_link_leads_out(server: Rig, project: Path, tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (project / "link").symlink_to(outside)
    (project / "hero.webp").symlink_to(outside / "hero.webp")
    async with server.client() as client:
        ids = [(await image(client))["job_id"]]
        for to in ("link/hero.webp", "link/below/", "link/"):
            error = await refused(client, "save_results", job_ids=ids, to=to, overwrite=True)
            assert error.startswith("[invalid_argument]")
        error = await refused(client, "save_results", job_ids=ids, to="hero.webp")
        assert error.startswith("[conflict]")
        error = await refused(client, "save_results", job_ids=ids, to="hero.webp", overwrite=True)
        assert error.startswith("[conflict]")
    assert files_in(outside) == []


def test_a_folder_that_becomes_a_link_after_the_check_is_not_followed(
    project: Path, tmp_path: Path
) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    where = target("sub/hero.webp", (project,))
    with opened(where) as folder:
        (project / "sub").rmdir()
        (project / "sub").symlink_to(outside)
        with (tmp_path / "source").open("w+b") as source, pytest.raises(FileNotFoundError):
            folder.write("hero.webp", source, overwrite=False)
    assert files_in(outside) == []


async def test_one_file_cannot_hold_two_outputs(server: Rig) -> None:
    async with server.client() as client:
        ids = [(await image(client, prompt))["job_id"] for prompt in ("a boat", "a kite")]
        error = await refused(client, "save_results", job_ids=ids, to="hero.webp")
        assert "name a folder" in error


async def test_a_film_keeps_its_kind(server: Rig, project: Path) -> None:
    async with server.client() as client:
        ids = [(await video(client))["job_id"]]
        error = await refused(client, "save_results", job_ids=ids, to="film.mp4")
        assert "cannot be converted" in error
        await call(client, "save_results", job_ids=ids, to="film.webm")
    assert files_in(project) == ["film.webm"]


async def test_a_file_that_was_changed_is_not_copied_once_its_address_is_dead(
    server: Rig, project: Path
) -> None:
    async with server.client() as client:
        job = await image(client)
        await anyio.sleep(9 * DAY)
        file_of(job).write_bytes(b"something else")
        error = await refused(client, "save_results", job_ids=[job["job_id"]], to="a.webp")
        assert "was changed after it was saved" in error
    assert files_in(project) == []


async def test_a_damaged_picture_is_copied_as_it_is_and_not_converted(
    server: Rig, project: Path
) -> None:
    broken = Fault(kind="status", status=200, body=b"\x89PNG\r\n\x1a\n" + b"\0\0\0\0IEND\xaeB`\x82")
    server.sandbox.emulators["zsky"].faults.add("download", broken)
    async with server.client() as client:
        ids = [(await image(client))["job_id"]]
        error = await refused(client, "save_results", job_ids=ids, to="a.jpg")
        assert error.startswith("[invalid_argument]")
        await call(client, "save_results", job_ids=ids, to="a.png")
    assert files_in(project) == ["a.png"]


async def test_a_job_that_has_not_ended_has_nothing_to_save(server: Rig) -> None:
    async with server.client() as client:
        job = await call(client, "zsky_start_video", prompt="a boat")
        error = await refused(client, "save_results", job_ids=[job["job_id"]], to="a/")
        assert error.startswith("[conflict]")


async def test_jobs_are_named_one_way_and_must_be_known(server: Rig) -> None:
    async with server.client() as client:
        for arguments in ({}, {"job_ids": ["zsky_x"], "batch_id": "b"}):
            error = await refused(client, "save_results", to="a/", **arguments)
            assert error.startswith("[invalid_argument]")
        for arguments in ({"job_ids": ["zsky_x"]}, {"batch_id": "b"}):
            error = await refused(client, "save_results", to="a/", **arguments)
            assert error.startswith("[not_found]")


PARTS = st.sampled_from(["..", ".", "", "a", "b", "~", "~root", "/", "\\", "C:", "\0", " ", "é"])


@given(parts=st.lists(PARTS, max_size=8), slash=st.booleans(), absolute=st.booleans())
def test_no_target_is_ever_outside(parts: list[str], slash: bool, absolute: bool) -> None:  # noqa: FBT001 -- hypothesis passes by name
    root = Path("/projects/one")
    to = ("/" if absolute else "") + "/".join(parts) + ("/" if slash else "")
    try:
        where = target(to, (root,))
    except CallError as error:
        assert error.failure.code == "invalid_argument"  # noqa: PT017 -- both outcomes are right
        return
    path = where.path(where.name or "x")
    assert Path(os.path.normpath(path)).is_relative_to(root)
    assert ".." not in path.parts


async def test_without_roots_the_results_folder_is_allowed_and_a_home_folder_is_not(
    clock: Callable[[], float], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = rig(clock, tmp_path).settings
    project = tmp_path / "code"
    project.mkdir()
    monkeypatch.chdir(project)
    assert settings.file_roots == (project, tmp_path / "results")
    for wide in (Path("/"), tmp_path):
        monkeypatch.setenv("HOME", str(tmp_path))
        monkeypatch.chdir(wide)
        assert settings.file_roots == (tmp_path / "results",)


async def test_a_file_of_the_persons_is_replaced_only_after_a_yes(
    server: Rig, project: Path
) -> None:
    (project / "hero.webp").write_bytes(b"mine")
    yes, no = Asked(), Asked("decline")
    for person, code in ((None, "[not_configured]"), (no, "[declined]")):
        async with server.client(elicitation=person) as client:
            job = await image(client)
            ids = [job["job_id"]]
            error = await refused(
                client, "save_results", job_ids=ids, to="hero.webp", overwrite=True
            )
            assert error.startswith(code)
            assert (project / "hero.webp").read_bytes() == b"mine"
    async with server.client(elicitation=yes) as client:
        ids = [(await image(client))["job_id"]]
        await call(client, "save_results", job_ids=ids, to="free.webp", overwrite=True)
        assert not yes.questions
        await call(client, "save_results", job_ids=ids, to="hero.webp", overwrite=True)
    assert f'"{project / "hero.webp"}"' in yes.questions[0]
    assert (project / "hero.webp").read_bytes() == (project / "free.webp").read_bytes()


async def test_a_kept_file_of_another_job_is_never_replaced(
    clock: Callable[[], float], tmp_path: Path
) -> None:
    allowed = {
        "DARKROOM_FILES__ROOTS": json.dumps([str(tmp_path)]),
        "DARKROOM_APPROVAL__NEVER_ASK": '["save_results"]',
    }
    server = rig(clock, tmp_path, environment=allowed)
    async with server.client() as client:
        one, other = await image(client, "a boat"), await image(client, "a kite")
        kept = file_of(other)
        before = kept.read_bytes()
        error = await refused(
            client, "save_results", job_ids=[one["job_id"]], to=str(kept), overwrite=True
        )
        assert error.startswith("[conflict]")
        (tmp_path / "mine.webp").write_bytes(b"mine")
        await call(client, "save_results", job_ids=[one["job_id"]], to="mine.webp", overwrite=True)
    assert kept.read_bytes() == before
    assert (tmp_path / "mine.webp").read_bytes() == file_of(one).read_bytes()


async def test_a_kept_file_that_was_changed_is_fetched_again_where_its_address_lives(
    server: Rig, project: Path
) -> None:
    async with server.client() as client:
        job = await image(client)
        file_of(job).write_bytes(b"changed")
        await call(client, "save_results", job_ids=[job["job_id"]], to="hero.webp")
    with Image.open(project / "hero.webp") as picture:
        assert picture.size == (256, 256)
    assert file_of(job).read_bytes() == b"changed"


@pytest.mark.skipif(os.sep != "/", reason="there '\\' stands between folders")
@pytest.mark.parametrize(
    ("to", "says"),
    [
        ("assets\\win.png", "no drive letter"),
        ("C:\\pictures\\a.png", "no drive letter"),
        ("C:/pictures/a.png", "no drive letter"),
        ("file:///tmp/a.png", "not a file: address"),
        ("$HOME/a.png", "variables are not resolved"),
        ("${HOME}/a.png", "variables are not resolved"),
        ("%USERPROFILE%/a.png", "variables are not resolved"),
        ("a" * 300 + ".png", "a name is too long"),
        ("ä" * 130 + "/a.png", "a name is too long"),
    ],
)
async def test_a_path_of_another_system_is_refused_with_the_way_out(
    server: Rig, project: Path, to: str, says: str
) -> None:
    async with server.client() as client:
        job = await image(client)
        said = await refused(client, "save_results", job_ids=[job["job_id"]], to=to)
    assert says in said
    assert str(project) in said
    assert files_in(project) == []


# --- what could not be downloaded ---


def on_demand(clock: Callable[[], float], folder: Path, project: Path, download: str) -> Rig:
    roots = {"DARKROOM_FILES__ROOTS": json.dumps([str(project)])}
    return rig(clock, folder, environment={**roots, "DARKROOM_RESULTS__DOWNLOAD": download})


@pytest.mark.parametrize(
    ("fault", "code", "reason"),
    [
        (Fault(kind="status", status=500), "provider_error", "status 500"),
        (Fault(kind="status", status=429), "rate_limited", "429"),
        (Fault(kind="hang_before"), "timeout", ""),
        (Fault(kind="drop_during"), "provider_error", "broke off"),
        (Fault(kind="refuse"), "provider_unavailable", "no secure connection"),
    ],
    ids=lambda value: f"{value.kind}{value.status}" if isinstance(value, Fault) else "",
)
async def test_a_download_that_failed_is_told_as_it_is_and_tried_again_by_the_next_call(
    clock: Callable[[], float],
    tmp_path: Path,
    project: Path,
    fault: Fault,
    code: str,
    reason: str,
) -> None:
    server = on_demand(clock, tmp_path, project, "on_demand")
    async with server.client() as client:
        job = await image(client)
        server.sandbox.emulators["zsky"].faults.add("download", fault)
        error = await refused(client, "save_results", job_ids=[job["job_id"]], to="a.webp")
        assert error.startswith(f"[{code}]")
        assert reason in error
        assert "trying again may help" in error
        assert "call save_results again" in error
        assert "start the job again" not in error
        await anyio.sleep(30)  # a call that answers before a slow host does
        await call(client, "save_results", job_ids=[job["job_id"]], to="a.webp")
    assert files_in(project) == ["a.webp"]


async def test_a_file_that_is_too_large_is_told_and_its_address_is_the_way_out(
    clock: Callable[[], float], tmp_path: Path, project: Path
) -> None:
    server = on_demand(clock, tmp_path, project, "on_demand")
    async with server.client() as client:
        job = await image(client)
        length = {"content-length": str(10**12)}
        huge = Fault(kind="status", status=200, body=b"RIFF", headers=length)
        server.sandbox.emulators["zsky"].faults.add("download", huge)
        error = await refused(client, "save_results", job_ids=[job["job_id"]], to="a.webp")
    assert error.startswith("[bad_response]")
    assert "more than" in error
    assert "include_url" in error
    assert "trying again does not help" in error


async def test_without_downloads_the_setting_is_named(
    clock: Callable[[], float], tmp_path: Path, project: Path
) -> None:
    server = on_demand(clock, tmp_path, project, "never")
    async with server.client() as client:
        job = await image(client)
        error = await refused(client, "save_results", job_ids=[job["job_id"]], to="a.webp")
    assert error.startswith("[not_configured]")
    assert "[results] download" in error
    assert "include_url" in error


async def test_of_several_what_is_there_is_saved_and_the_rest_is_named(
    clock: Callable[[], float], tmp_path: Path, project: Path
) -> None:
    server = on_demand(clock, tmp_path, project, "on_demand")
    async with server.client() as client:
        jobs = [await image(client, prompt=f"kite {n}") for n in range(3)]
        gone = Fault(kind="status", status=500)
        server.sandbox.emulators["zsky"].faults.add("download", gone)
        ids = [job["job_id"] for job in jobs]
        result = await call(client, "save_results", job_ids=ids, to="all/")
        assert len(result["saved"]) == 2
        (warning,) = result["warnings"]
        assert warning.startswith("[provider_error]")
        (missing,) = set(ids) - {each["job_id"] for each in result["saved"]}
        assert missing in warning
        again = await call(client, "save_results", job_ids=[missing], to="all/")
        assert "warnings" not in again


async def test_an_address_that_a_wrong_clock_calls_dead_is_tried(
    clock: Callable[[], float], tmp_path: Path, project: Path
) -> None:
    server = on_demand(clock, tmp_path, project, "on_demand")
    ahead = rig(
        later(clock, 30 * DAY),
        tmp_path,
        environment=dict(server.environment),
        store="sqlite",
        sandbox=server.sandbox,
    )
    async with ahead.client() as client:
        job = await image(client)
        await anyio.sleep(600)
        server.sandbox.emulators["zsky"].faults.add(
            "get_job", Fault(kind="status", status=404), times=None
        )
        async with rig(
            later(clock, 60 * DAY),
            tmp_path,
            environment=dict(server.environment),
            store="sqlite",
            sandbox=server.sandbox,
        ).client() as another:
            await call(another, "save_results", job_ids=[job["job_id"]], to="a.webp")
    assert files_in(project) == ["a.webp"]
