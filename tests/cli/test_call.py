"""`darkroom call`: the text and the status of a chat, on a shell."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from darkroom.cli.call import TerminalPerson, call, find, read_arguments
from darkroom.cli.command_line import main, parse
from darkroom.core.errors import CallError, ConfigurationError
from darkroom_tools.emulators.kit import Fault
from tests.cli.support import setting_of
from tests.harness import rig
from tests.inputs.support import picture

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.harness import Fields, Rig

pytestmark = pytest.mark.anyio

NOBODY = TerminalPerson(yes=False, can_ask=False)


async def run(
    over: Rig,
    tool: str,
    *,
    wait: bool = False,
    person: TerminalPerson = NOBODY,
    **arguments: object,
) -> int:
    setting = setting_of(over)
    return await call(setting, find(setting, tool), arguments, person, wait)


async def test_a_result_is_json_on_stdout(
    clock: Callable[[], float], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert await run(rig(clock, tmp_path), "zsky_get_usage") == 0
    said = capsys.readouterr()
    assert json.loads(said.out)["images_left"] == 1000
    assert said.err == ""


async def test_waiting_goes_on_until_the_job_has_ended(
    clock: Callable[[], float], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    over = rig(clock, tmp_path)
    assert await run(over, "zsky_start_video", wait=True, prompt="A long walk home") == 0
    job = json.loads(capsys.readouterr().out)
    assert job["status"] == "completed"
    assert Path(job["outputs"][0]["file"]).suffix == ".webm"


async def test_without_waiting_the_running_job_is_the_result(
    clock: Callable[[], float], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert await run(rig(clock, tmp_path), "zsky_start_image", prompt="A red boat") == 0
    assert json.loads(capsys.readouterr().out)["status"] == "running"


async def test_a_check_can_wait_too(
    clock: Callable[[], float], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    over = rig(clock, tmp_path, store="sqlite")
    await run(over, "zsky_start_image", prompt="A red boat")
    job_id = json.loads(capsys.readouterr().out)["job_id"]
    assert await run(over, "zsky_check_job", wait=True, job_id=job_id) == 0
    assert json.loads(capsys.readouterr().out)["status"] == "completed"


def drawings(*prompts: str) -> list[Fields]:
    return [{"tool": "zsky_start_image", "arguments": {"prompt": prompt}} for prompt in prompts]


async def test_waiting_for_a_batch_goes_on_until_all_its_jobs_have_ended(
    clock: Callable[[], float], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    items = drawings("A boat", "A tree", "A house", "A bird", "A hill")
    over = rig(clock, tmp_path, store="sqlite")
    assert await run(over, "start_batch", wait=True, items=items) == 0
    done = json.loads(capsys.readouterr().out)
    assert (done["status"], done["counts"]) == ("completed", {"completed": 5})
    assert await run(over, "check_batch", wait=True, batch_id=done["batch_id"]) == 0
    capsys.readouterr()
    assert await run(over, "start_batch", wait=True, items=items, dry_run=True) == 0
    assert json.loads(capsys.readouterr().out)["dry_run"]


async def test_a_batch_with_a_failure_is_status_1_when_it_was_waited_for(
    clock: Callable[[], float], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    over = rig(clock, tmp_path)
    over.sandbox.emulators["zsky"].faults.add("generate_image", Fault(kind="status", status=400))
    assert await run(over, "start_batch", wait=True, items=drawings("A boat", "A tree")) == 1
    assert json.loads(capsys.readouterr().out)["failures"]


async def test_a_tools_error_is_the_chats_text_on_stderr_and_status_1(
    clock: Callable[[], float], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert await run(rig(clock, tmp_path), "zsky_start_image", promt="A red boat") == 1
    said = capsys.readouterr()
    assert said.out == ""
    assert said.err.startswith("[invalid_argument]")
    assert "did you mean 'prompt'?" in said.err


async def test_an_error_in_the_middle_of_a_wait_is_reported_like_any_other(
    clock: Callable[[], float], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    over = rig(clock, tmp_path)
    assert await run(over, "zsky_check_job", wait=True, job_id="zsky_gone") == 1
    assert capsys.readouterr().err.startswith("[not_found]")


async def test_a_job_that_did_not_complete_is_status_1_when_it_was_waited_for(
    clock: Callable[[], float], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    over = rig(clock, tmp_path)
    over.sandbox.emulators["zsky"].faults.add("generate_image", Fault(kind="drop_after"))
    over.sandbox.emulators["zsky"].faults.add("*", Fault(kind="drop_after"))
    assert await run(over, "zsky_start_image", wait=True, prompt="A red boat") == 1
    said = capsys.readouterr()
    assert json.loads(said.out)["status"] == "unknown"
    assert "[outcome_unknown]" in said.err


async def test_a_missing_credential_is_the_tools_error_not_a_missing_tool(
    clock: Callable[[], float], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    over = rig(clock, tmp_path, without=("ZSKY_API_KEY",))
    assert await run(over, "zsky_get_usage") == 1
    assert "ZSKY_API_KEY is not set" in capsys.readouterr().err


async def test_a_shell_that_cannot_ask_refuses_and_says_how_to_approve(
    clock: Callable[[], float], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    over = rig(clock, tmp_path)
    assert await run(over, "zsky_delete_result", job_id="abc") == 1
    said = capsys.readouterr().err
    assert "[not_configured]" in said
    assert "--yes" in said
    assert not over.sandbox.emulators["zsky"].requests


async def test_yes_is_an_approval(
    clock: Callable[[], float], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    over = rig(clock, tmp_path)
    person = TerminalPerson(yes=True, can_ask=False)
    assert await run(over, "zsky_delete_result", person=person, job_id="abc") == 1
    assert "[not_found]" in capsys.readouterr().err  # it was asked: no such job there
    assert over.sandbox.emulators["zsky"].requests


@pytest.mark.parametrize(
    ("answer", "approved"),
    [("y\n", True), ("Yes\n", True), ("\n", False), ("n\n", False), ("", False)],
)
async def test_at_a_terminal_only_yes_is_yes(
    answer: str,
    approved: bool,  # noqa: FBT001 -- a parameter of the test
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr("sys.stdin.readline", lambda: answer, raising=False)
    person = TerminalPerson(yes=False, can_ask=True)
    if approved:
        await person.approve("zsky_delete_result", "Delete it?", "")
    else:
        with pytest.raises(CallError) as no:
            await person.approve("zsky_delete_result", "Delete it?", "")
        assert no.value.failure.code == "declined"
    assert capsys.readouterr().err == "Delete it? [y/N] "


async def test_an_unknown_tool_names_the_nearest(
    clock: Callable[[], float], tmp_path: Path
) -> None:
    with pytest.raises(ConfigurationError, match="did you mean zsky_start_image"):
        find(setting_of(rig(clock, tmp_path)), "zsky_start_imag")


async def test_a_tool_that_the_filters_leave_out_is_said_to_be(
    clock: Callable[[], float], tmp_path: Path
) -> None:
    over = rig(clock, tmp_path, environment={"DARKROOM_SERVE__READ_ONLY": "true"})
    with pytest.raises(ConfigurationError, match="the filters"):
        find(setting_of(over), "zsky_start_image")


@pytest.mark.parametrize("text", ["", "{", "[1]", "null", '"a"', "[" * 100_000])
def test_arguments_that_are_no_json_object_are_a_usage_error(text: str) -> None:
    with pytest.raises(ConfigurationError, match="arguments"):
        read_arguments(text)


@pytest.mark.parametrize(
    "sign", ["\x9b31m", "\x9d0;title\x9c", "\x1b[2J"], ids=["csi", "osc", "esc"]
)
async def test_a_terminal_obeys_neither_the_provider_nor_the_caller(
    clock: Callable[[], float], tmp_path: Path, capsys: pytest.CaptureFixture[str], sign: str
) -> None:
    over = rig(clock, tmp_path)
    body = json.dumps({"plan": f"pro{sign}", "error": f"no{sign}"}, ensure_ascii=False).encode()
    account = over.sandbox.emulators["zupertry"].faults
    account.add("account", Fault(kind="status", status=200, body=body))
    assert await run(over, "zupertry_get_account") == 0
    account.add("account", Fault(kind="status", status=403, body=body))
    assert await run(over, "zupertry_get_account") == 1
    assert await run(over, "zsky_check_job", job_id=f"job{sign}") == 1
    said = capsys.readouterr()
    assert not {"\x9b", "\x9d", "\x9c", "\x1b"} & set(said.out + said.err)


@pytest.mark.parametrize(
    "line",
    [
        ["zsky_start_image", "--sandbox", '{"prompt": "x"}', "--wait"],
        ["--sandbox", "zsky_start_image", "--wait", '{"prompt": "x"}'],
        ["zsky_start_image", '{"prompt": "x"}', "--sandbox", "--wait"],
    ],
)
def test_options_stand_before_the_arguments_or_after_them(line: list[str]) -> None:
    options = parse(["call", *line])
    assert options.arguments == '{"prompt": "x"}'
    assert (options.tool, options.sandbox, options.wait) == ("zsky_start_image", True, True)


@pytest.mark.parametrize(
    "line",
    [["zsky_get_usage", "{}", "{}"], ["zsky_get_usage", "--sandbx"], ["a", "--wait", "{}", "b"]],
)
def test_what_is_too_much_is_refused(line: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        parse(["call", *line])
    assert ended.value.code == 2
    assert "unrecognized arguments" in capsys.readouterr().err


def test_the_sandbox_takes_a_picture_of_ones_own(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "shirt.jpg").write_bytes(picture())
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("DARKROOM_RESULTS__FOLDER", str(tmp_path / "results"))
    monkeypatch.setenv("DARKROOM_JOBS__STATE_DIR", str(tmp_path / "state"))
    model = "https://samples.sandbox.test/model-1.jpg"
    given = json.dumps({"model_image_url": model, "garment_image_url": "shirt.jpg"})
    assert main(["call", "zupertry_start_tryon", given, "--sandbox", "--wait"]) == 0
    assert json.loads(capsys.readouterr().out)["status"] == "completed"
