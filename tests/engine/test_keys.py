"""Keys that are replaced or created: into their file, and nowhere else."""

from __future__ import annotations

import json
import os
import stat
from contextlib import suppress
from typing import TYPE_CHECKING, cast

import anyio
import pytest

from darkroom.core.errors import CallError
from darkroom.providers import secret_files as deposit
from darkroom.providers.credentials import left_behind
from darkroom_tools import CATALOGUE
from darkroom_tools.emulators.kit import Fault
from darkroom_tools.emulators.sandbox import Sandbox
from darkroom_tools.emulators.zsky.emulator import TEST_KEY
from tests.engine.money import arrived, ended, server, zsky
from tests.harness import inline

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from darkroom.jobs.storage.sqlite import SqliteStore
    from tests.faults.process import Process

pytestmark = pytest.mark.anyio

ROTATE = "zsky_rotate_key"
IMAGE = "zsky_start_image"
CREATE = "znyx_create_token"
NO_FOLDER = {"DARKROOM_CREDENTIALS__DIR": ""}


def key_in_a_file(folder: Path, name: str = "zsky.key") -> Path:
    folder.mkdir(exist_ok=True)
    path = folder / name
    path.write_text(TEST_KEY + "\n")
    return path


def keyed(path: Path) -> dict[str, str]:
    """Return the variables of a process whose key is in a file."""
    return {"ZSKY_API_KEY": "", "ZSKY_API_KEY_FILE": str(path)}


async def refusal(one: Process, tool: str, **arguments: object) -> CallError:
    with pytest.raises(CallError) as refused:
        await one.call(tool, **arguments)
    return refused.value


async def journal_of(one: Process) -> str:
    """Return every byte of the journal and the files beside it."""

    def read() -> str:
        folder = one.settings.state_dir
        return "".join(
            path.read_bytes().decode("latin-1") for path in folder.rglob("*") if path.is_file()
        )

    return await inline(read)


async def test_a_rotated_key_goes_into_its_file_and_is_used_at_once(
    clock: Callable[[], float], tmp_path: Path
) -> None:
    path = key_in_a_file(tmp_path / "keys")
    async with server(clock, tmp_path, None, keyed(path)) as (one, sandbox):
        result = await one.call(ROTATE)
        new = path.read_text()
        assert new != TEST_KEY
        assert new in zsky(sandbox).keys
        assert TEST_KEY not in zsky(sandbox).keys
        assert result == {"rotated": True, "file": str(path)}
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        assert (await one.call(IMAGE, prompt="with the new key"))["status"] == "running"
        assert new not in await journal_of(one)
        assert [each.name for each in path.parent.iterdir()] == [path.name]


async def test_a_key_from_a_plain_variable_is_refused_before_anything_is_sent(
    clock: Callable[[], float], tmp_path: Path
) -> None:
    async with server(clock, tmp_path) as (one, sandbox):
        error = await refusal(one, ROTATE)
        assert error.failure.code == "not_configured"
        assert "the next start would find the dead one" in error.failure.message
        assert "ZSKY_API_KEY_FILE" in error.failure.next_step
        assert sandbox.emulators["zsky"].requests == []


@pytest.mark.parametrize("what", ["file", "folder"])
async def test_a_file_that_cannot_be_written_is_refused_before_anything_is_sent(
    clock: Callable[[], float], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, what: str
) -> None:
    path = key_in_a_file(tmp_path / "keys")
    if what == "file":

        def not_writable(*_: object) -> bool:
            return False

        monkeypatch.setattr(deposit.os, "access", not_writable)
    else:

        def read_only(*_: object) -> int:
            raise PermissionError(30, "Read-only file system")

        monkeypatch.setattr(deposit.os, "open", read_only)
    async with server(clock, tmp_path, None, keyed(path)) as (one, sandbox):
        error = await refusal(one, ROTATE)
        assert error.failure.code == "not_configured"
        assert "nothing was sent" in error.failure.message
        assert sandbox.emulators["zsky"].requests == []
    assert path.read_text().strip() == TEST_KEY


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may write all")
async def test_a_folder_without_leave_to_write_is_refused_before_anything_is_sent(
    clock: Callable[[], float], tmp_path: Path
) -> None:
    path = key_in_a_file(tmp_path / "keys")
    path.parent.chmod(0o500)
    async with server(clock, tmp_path, None, keyed(path)) as (one, sandbox):
        assert (await refusal(one, ROTATE)).failure.code == "not_configured"
        assert sandbox.emulators["zsky"].requests == []


async def test_a_link_stays_a_link_and_the_file_behind_it_is_replaced(
    clock: Callable[[], float], tmp_path: Path
) -> None:
    real = key_in_a_file(tmp_path / "real")
    link = tmp_path / "link.key"
    link.symlink_to(real)
    async with server(clock, tmp_path, None, keyed(link)) as (one, sandbox):
        await one.call(ROTATE)
        assert link.is_symlink()
        assert real.read_text() in zsky(sandbox).keys
        assert (await one.call(IMAGE, prompt="with the new key"))["status"] == "running"


@pytest.mark.parametrize("kind", ["drop_after", "hang_after", "drop_during"])
async def test_a_lost_answer_is_told_for_what_it_is(
    clock: Callable[[], float], tmp_path: Path, kind: str
) -> None:
    path = key_in_a_file(tmp_path / "keys")
    async with server(clock, tmp_path, None, keyed(path)) as (one, sandbox):
        zsky(sandbox).faults.add("rotate_key", Fault(kind=cast("object", kind)))  # pyright: ignore[reportArgumentType] -- one of FaultKind
        error = await refusal(one, ROTATE)
        assert error.failure.code == "outcome_unknown"
        assert "the old key may be dead" in error.failure.next_step
        assert arrived(sandbox, "zsky", "rotate_key") == 1
        states = await attempt_states(one, ROTATE)
        assert states == ["unknown"]
    assert path.read_text().strip() == TEST_KEY


NEW = "zsky_live_" + "n" * 24


@pytest.mark.parametrize(
    "body",
    [
        {"data": {"plaintext": NEW}},
        {"plaintext": NEW},
        {"data": [{"keys": [{"id": "key_1", "value": NEW}]}], "message": f"Your key is {NEW}"},
        {"old_key": TEST_KEY, "old_key_prefix": TEST_KEY[:14], "new": {"key": NEW}},
        {"key": {"key_prefix": NEW[:14], "masked": "zsky_live_mm***", "plaintext": NEW}},
    ],
)
async def test_a_rotated_key_is_found_by_its_prefix_at_whatever_depth(
    clock: Callable[[], float], tmp_path: Path, body: dict[str, object]
) -> None:
    path = key_in_a_file(tmp_path / "keys")
    async with server(clock, tmp_path, None, keyed(path)) as (one, sandbox):
        fault = Fault(kind="status_after", status=200, body=json.dumps(body).encode())
        zsky(sandbox).faults.add("rotate_key", fault)
        result = await one.call(ROTATE)
        assert result == {"rotated": True, "file": str(path)}
        assert NEW not in await journal_of(one)
    assert path.read_text() == NEW
    assert list(path.parent.iterdir()) == [path]


async def test_of_two_keys_that_may_be_new_none_is_taken_and_the_answer_is_kept(
    clock: Callable[[], float], tmp_path: Path
) -> None:
    path = key_in_a_file(tmp_path / "keys")
    body = {"a": NEW, "b": {"c": "zsky_live_" + "m" * 30}}
    async with server(clock, tmp_path, None, keyed(path)) as (one, sandbox):
        fault = Fault(kind="status_after", status=200, body=json.dumps(body).encode())
        zsky(sandbox).faults.add("rotate_key", fault)
        error = await refusal(one, ROTATE)
        assert error.failure.code == "bad_response"
        assert "zsky_live_" not in error.text
    (kept,) = [each for each in path.parent.iterdir() if each != path]
    assert json.loads(kept.read_text()) == body
    assert path.read_text().strip() == TEST_KEY


async def attempt_states(one: Process, operation: str) -> list[str]:
    """Return the states of the attempts of an operation that has no job."""
    store = cast("SqliteStore", await one.store())
    rows = store._database.execute(  # noqa: SLF001  # pyright: ignore[reportPrivateUsage] -- nothing lists attempts without a job
        "SELECT state FROM attempts WHERE json_extract(row, '$.operation') = ?", (operation,)
    )
    return [state for (state,) in rows]


@pytest.mark.parametrize("body", [b'{"message":"done","secret":"abc"}', b"rotated: abc", b"[]"])
async def test_an_answer_that_is_not_understood_is_kept_whole_beside_the_file(
    clock: Callable[[], float], tmp_path: Path, body: bytes
) -> None:
    path = key_in_a_file(tmp_path / "keys")
    async with server(clock, tmp_path, None, keyed(path)) as (one, sandbox):
        fault = Fault(kind="status_after", status=200, body=body)
        zsky(sandbox).faults.add("rotate_key", fault)
        error = await refusal(one, ROTATE)
        assert error.failure.code == "bad_response"
        (kept,) = [each for each in path.parent.iterdir() if each != path]
        assert str(kept) in error.failure.message
        assert "abc" not in error.text
        assert stat.S_IMODE(kept.stat().st_mode) == 0o600
        with suppress(ValueError):
            assert json.loads(kept.read_text()) == json.loads(body)
        assert b"abc" not in body or "abc" in kept.read_text()
        assert "abc" not in await journal_of(one)
        assert await attempt_states(one, ROTATE) == ["accepted"]
    assert path.read_text().strip() == TEST_KEY


async def test_a_file_that_cannot_be_written_after_all_keeps_the_answer_with_the_journal(
    clock: Callable[[], float], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = key_in_a_file(tmp_path / "keys")
    save = deposit.save

    def full(target: Path, text: str) -> Path:
        if target.parent == path.parent:
            raise OSError(28, "No space left on device")
        return save(target, text)

    monkeypatch.setattr(deposit, "save", full)
    async with server(clock, tmp_path, None, keyed(path)) as (one, sandbox):
        error = await refusal(one, ROTATE)
        assert error.failure.code == "bad_response"
        (kept,) = one.settings.state_dir.glob("zsky.key.answer-*")
        assert str(kept) in error.failure.message
        assert json.loads(kept.read_text())["api_key"] in zsky(sandbox).keys
        assert await attempt_states(one, ROTATE) == ["accepted"]


async def test_a_kill_between_answer_and_file_leaves_an_unknown_attempt(
    clock: Callable[[], float], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = key_in_a_file(tmp_path / "keys")
    sandbox = Sandbox(clock=clock)
    async with (
        anyio.create_task_group() as tasks,
        server(clock, tmp_path, sandbox, keyed(path)) as (one, _),
    ):

        def never(target: Path, text: str) -> Path:
            del target, text
            one.dead = True
            raise OSError(5, "the process is gone")

        with monkeypatch.context() as patched:
            patched.setattr(deposit, "save", never)
            tasks.start_soon(one.said, ROTATE)
            await anyio.sleep(5)
            await one.kill()
            tasks.cancel_scope.cancel()
        async with server(clock, tmp_path, sandbox, keyed(path)) as (two, _):
            assert await attempt_states(two, ROTATE) == ["unknown"]
            error = await refusal(two, IMAGE, prompt="with the dead key")
            assert error.failure.code == "auth_failed"
    assert arrived(sandbox, "zsky", "rotate_key") == 1


async def test_another_process_uses_the_new_key_at_once_for_polls_and_starts(
    clock: Callable[[], float], tmp_path: Path
) -> None:
    path = key_in_a_file(tmp_path / "keys")
    sandbox = Sandbox(clock=clock)
    async with (
        server(clock, tmp_path, sandbox, keyed(path)) as (one, _),
        server(clock, tmp_path, sandbox, keyed(path)) as (two, _),
    ):
        job = await two.call("zsky_start_video", prompt="runs while the key is replaced")
        await one.call(ROTATE)
        started = await two.call(IMAGE, prompt="after it")
        assert (await ended(two, "zsky_check_job", started["job_id"]))["status"] == "completed"
        assert (await ended(two, "zsky_check_job", job["job_id"]))["status"] == "completed"
        assert all(request.status != 401 for request in zsky(sandbox).requests)


@pytest.mark.parametrize("tool", [IMAGE, "zsky_get_usage", "zsky_delete_result"])
async def test_a_401_because_the_key_was_replaced_under_way_is_asked_again_once(
    clock: Callable[[], float], tmp_path: Path, tool: str
) -> None:
    """Another process replaces the key between reading its file and the provider's look at it."""
    path = key_in_a_file(tmp_path / "keys")
    async with server(clock, tmp_path, None, keyed(path)) as (one, sandbox):
        job = await one.call(IMAGE, prompt="there already")
        await ended(one, "zsky_check_job", job["job_id"])
        arguments = {IMAGE: {"prompt": "p"}, "zsky_delete_result": {"job_id": job["job_id"]}}
        way = one.way.handle_async_request

        async def replaced(request: object) -> object:
            one.way.handle_async_request = way
            account = zsky(sandbox).keys.pop(TEST_KEY)
            zsky(sandbox).keys["zsky_live_sandbox_replaced"] = account
            path.write_text("zsky_live_sandbox_replaced")
            return await way(request)  # pyright: ignore[reportArgumentType] -- passed on as it came

        one.way.handle_async_request = replaced  # pyright: ignore[reportAttributeAccessIssue] -- a fault in the way
        await one.call(tool, **arguments.get(tool, {}))
        assert [r.status for r in zsky(sandbox).requests].count(401) == 1


async def test_a_poll_whose_key_was_replaced_under_way_is_made_again_soon(
    clock: Callable[[], float], tmp_path: Path
) -> None:
    path = key_in_a_file(tmp_path / "keys")
    async with server(clock, tmp_path, None, keyed(path)) as (one, sandbox):
        job = await one.call(IMAGE, prompt="p")
        way = one.way.handle_async_request

        async def replaced(request: object) -> object:
            one.way.handle_async_request = way
            account = zsky(sandbox).keys.pop(TEST_KEY)
            zsky(sandbox).keys["zsky_live_sandbox_replaced"] = account
            path.write_text("zsky_live_sandbox_replaced")
            return await way(request)  # pyright: ignore[reportArgumentType] -- passed on as it came

        one.way.handle_async_request = replaced  # pyright: ignore[reportAttributeAccessIssue] -- a fault in the way
        began = clock()
        assert (await ended(one, "zsky_check_job", job["job_id"]))["status"] == "completed"
        assert clock() - began < 30


async def test_a_key_that_is_wrong_is_not_tried_again(
    clock: Callable[[], float], tmp_path: Path
) -> None:
    path = key_in_a_file(tmp_path / "keys")
    path.write_text("zsky_live_revoked")
    async with server(clock, tmp_path, None, keyed(path)) as (one, sandbox):
        assert (await one.said(IMAGE, prompt="p"))[1] == "auth_failed"
        assert (await one.said("zsky_get_usage"))[1] == "auth_failed"
        assert len(zsky(sandbox).requests) == 3, "the month's counters, the start, and the call"


# --- tokens of ZNYX ---


@pytest.mark.parametrize("kind", ["ci", "admin"])
async def test_a_new_token_goes_into_a_new_file_and_works(
    clock: Callable[[], float], tmp_path: Path, kind: str
) -> None:
    async with server(clock, tmp_path) as (one, _):
        result = await one.call(CREATE, token_type=kind)
        (path,) = (tmp_path / "keys").iterdir()
        assert result["file"] == str(path)
        assert result["key_type"] == kind
        assert "raw_key" not in result
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        assert path.read_text() not in json.dumps(result)
        assert path.read_text() not in await journal_of(one)
        listed = await one.call("znyx_list_tokens", key_type=kind)
        assert result["id"] in [token["id"] for token in listed["tokens"]]


async def test_a_token_that_exists_already_is_a_conflict_and_leaves_no_file(
    clock: Callable[[], float], tmp_path: Path
) -> None:
    async with server(clock, tmp_path) as (one, _):
        await one.call(CREATE, token_type="runtime")
        assert (await one.said(CREATE, token_type="runtime"))[1] == "conflict"
        assert len(list((tmp_path / "keys").iterdir())) == 1


async def test_a_rotated_token_goes_into_a_new_file(
    clock: Callable[[], float], tmp_path: Path
) -> None:
    async with server(clock, tmp_path) as (one, _):
        made = await one.call(CREATE, token_type="ci")
        first = set((tmp_path / "keys").iterdir())
        result = await one.call("znyx_rotate_token", key_id=made["id"])
        (path,) = set((tmp_path / "keys").iterdir()) - first
        assert result["file"] == str(path)
        assert path.read_text() not in json.dumps(result)


@pytest.mark.parametrize("tool", [CREATE, "znyx_rotate_token"])
@pytest.mark.parametrize(
    "body",
    [
        {"data": {"id": 7, "key_prefix": "gr_abc", "raw_key": "gr_abcdefgh"}},
        {"token": {"id": 7, "plaintext": "gr_abcdefgh", "key_prefix": "gr_abc"}},
        {"data": [{"id": 7, "raw_key": "a-key-without-prefix"}], "gr": "gr_other"},
    ],
)
async def test_a_token_is_found_in_a_nested_answer_and_is_not_shown(
    clock: Callable[[], float], tmp_path: Path, tool: str, body: dict[str, object]
) -> None:
    arguments = {"token_type": "ci"} if tool == CREATE else {"key_id": 1}
    endpoint = "tokens.createCi" if tool == CREATE else "tokens.rotate"
    async with server(clock, tmp_path) as (one, sandbox):
        fault = Fault(kind="status_after", status=200, body=json.dumps(body).encode())
        sandbox.emulators["znyx"].faults.add(endpoint, fault)
        result = await one.call(tool, **arguments)
        (path,) = (tmp_path / "keys").iterdir()
        assert path.read_text() in {"gr_abcdefgh", "a-key-without-prefix"}
        assert path.read_text() not in json.dumps(result)
        assert result["file"] == str(path)


async def test_a_revoked_token_is_dead_and_needs_no_folder(
    clock: Callable[[], float], tmp_path: Path
) -> None:
    async with server(clock, tmp_path, None, NO_FOLDER) as (one, _):
        tokens = (await one.call("znyx_list_tokens", key_type="ci"))["tokens"]
        result = await one.call("znyx_revoke_token", key_id=tokens[0]["id"])
        assert result == {"key_id": tokens[0]["id"], "revoked": True}
        assert (await one.said("znyx_list_bundles", env="dev"))[1] == "auth_failed"


@pytest.mark.parametrize(
    ("tool", "arguments"), [(CREATE, {"token_type": "ci"}), ("znyx_rotate_token", {"key_id": 1})]
)
async def test_without_a_folder_for_keys_nothing_is_sent(
    clock: Callable[[], float], tmp_path: Path, tool: str, arguments: dict[str, object]
) -> None:
    async with server(clock, tmp_path, None, NO_FOLDER) as (one, sandbox):
        error = await refusal(one, tool, **arguments)
        assert error.failure.code == "not_configured"
        assert "[credentials] dir" in error.failure.next_step
        assert sandbox.emulators["znyx"].requests == []


async def test_an_admin_token_has_no_environment(
    clock: Callable[[], float], tmp_path: Path
) -> None:
    async with server(clock, tmp_path) as (one, sandbox):
        error = await refusal(one, CREATE, token_type="admin", environment_id="e")
        assert error.failure.code == "invalid_argument"
        assert sandbox.emulators["znyx"].requests == []


# --- a rotation that was not finished ---


def killed_before_the_rename(path: Path) -> str:
    """Leave the disk as a kill between the provider's answer and the rename does; return the key."""
    new = path.with_name(path.name + ".new")
    path.rename(new)
    path.write_text(TEST_KEY)
    os.utime(path, (0, 0))
    return new.read_text()


async def test_a_key_that_was_not_put_in_its_place_is_found_when_the_old_one_is_refused(
    clock: Callable[[], float], tmp_path: Path
) -> None:
    path = key_in_a_file(tmp_path / "keys")
    async with server(clock, tmp_path, None, keyed(path)) as (one, _):
        await one.call(ROTATE)
        new = killed_before_the_rename(path)
        (said,) = left_behind(keyed(path), CATALOGUE.providers)
        assert "zsky.key.new" in said
        assert new not in said
        job = await one.call(IMAGE, prompt="with the key that lay beside the file")
        assert (await ended(one, "zsky_check_job", job["job_id"]))["status"] == "completed"
        assert path.read_text() == new
        assert [each.name for each in path.parent.iterdir()] == [path.name]
        assert left_behind(keyed(path), CATALOGUE.providers) == []


@pytest.mark.parametrize("what", ["older", "a link", "empty"])
async def test_what_lies_beside_a_key_is_not_taken_unless_it_is_newer_and_a_key(
    clock: Callable[[], float], tmp_path: Path, what: str
) -> None:
    path = key_in_a_file(tmp_path / "keys")
    async with server(clock, tmp_path, None, keyed(path)) as (one, sandbox):
        zsky(sandbox).keys.clear()
        beside = path.with_name(path.name + ".new")
        if what == "a link":
            (tmp_path / "elsewhere").write_text("zsky_live_elsewhere")
            beside.symlink_to(tmp_path / "elsewhere")
        else:
            beside.write_text("" if what == "empty" else "zsky_live_old")
        if what == "older":
            os.utime(beside, (0, 0))
        error = await refusal(one, "zsky_get_usage")
        assert error.failure.code == "auth_failed"
        assert str(beside) in error.failure.next_step
    assert path.read_text().strip() == TEST_KEY


async def test_a_second_rotation_overwrites_nothing_that_an_unfinished_one_left(
    clock: Callable[[], float], tmp_path: Path
) -> None:
    path = key_in_a_file(tmp_path / "keys")
    beside = path.with_name(path.name + ".new")
    beside.write_text("zsky_live_of_an_unfinished_one")
    os.utime(beside, (0, 0))
    async with server(clock, tmp_path, None, keyed(path)) as (one, sandbox):
        await one.call(ROTATE)
        assert path.read_text() in zsky(sandbox).keys
    texts = {each.read_text() for each in path.parent.iterdir() if each != path}
    assert texts == {"zsky_live_of_an_unfinished_one"}


async def test_a_rotation_of_unknown_fate_is_told_at_the_start_and_by_the_error_that_follows(
    clock: Callable[[], float], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = key_in_a_file(tmp_path / "keys")
    async with server(clock, tmp_path, None, keyed(path)) as (one, sandbox):
        zsky(sandbox).faults.add("rotate_key", Fault(kind="drop_after"))
        await refusal(one, ROTATE)
        error = await refusal(one, "zsky_get_usage")
        assert error.failure.code == "auth_failed"
        assert "of unknown fate" in error.failure.next_step
    caplog.clear()
    async with server(clock, tmp_path, sandbox, keyed(path)) as (two, _):
        error = await refusal(two, "zsky_get_usage")
        assert f"{ROTATE} of" in caplog.text
        assert "of unknown fate" in error.failure.next_step
