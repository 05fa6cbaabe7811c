"""Two people of a team on one server: neither learns anything of the other's jobs."""

from __future__ import annotations

import json
import re
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import anyio
import httpx2
import pytest
from mcp.shared.exceptions import MCPError

from darkroom.mcp.http import server as web
from darkroom.mcp.http.links import SECONDS, Links
from darkroom.mcp.http.sign_in import IssuerKeys
from darkroom.mcp.http.team_access import TeamAccess
from darkroom_tools.emulators.kit import Fault
from mcp import Client
from tests.harness import rig
from tests.mcp.http.test_sign_in import AUDIENCE, ISSUER, Issuer, signed

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable
    from pathlib import Path

    from tests.harness import Rig

pytestmark = pytest.mark.anyio

HOST = "pictures.example.com"
META: dict[str, Any] = {
    "io.modelcontextprotocol/protocolVersion": "2026-07-28",
    "io.modelcontextprotocol/clientCapabilities": {},
}
ID_ARGUMENTS = ("job_id", "job_ids", "batch_id")
TEAM = {
    "DARKROOM_TEAM__ISSUER": ISSUER,
    "DARKROOM_TEAM__ADMIN_CLAIM": "roles",
    "DARKROOM_TEAM__ADMIN_VALUES": '["admins"]',
}


class Member:
    """A person of the team with a host of 2026-07-28."""

    def __init__(self, app: Any, subject: str, **claims: Any) -> None:
        self.client = httpx2.AsyncClient(
            transport=httpx2.ASGITransport(app), base_url=f"https://{HOST}"
        )
        self._token = signed(sub=subject, **claims)

    async def ask(self, method: str, named: str = "", **params: Any) -> dict[str, Any]:
        headers = {
            "authorization": f"Bearer {self._token}",
            "accept": "application/json, text/event-stream",
            "mcp-protocol-version": "2026-07-28",
            "mcp-method": method,
            **({"mcp-name": named} if named else {}),
        }
        body = {"jsonrpc": "2.0", "id": 1, "method": method, "params": {"_meta": META, **params}}
        answer = await self.client.post("/mcp", headers=headers, json=body)
        if answer.headers["content-type"].startswith("text/event-stream"):
            events = [line[5:] for line in answer.text.splitlines() if line.startswith("data:")]
            return json.loads(events[-1])
        return answer.json()

    async def call(self, tool: str, /, **arguments: Any) -> dict[str, Any]:
        said = await self.ask("tools/call", tool, name=tool, arguments=arguments)
        return said["result"]

    async def fields(self, tool: str, /, **arguments: Any) -> dict[str, Any]:
        said = await self.call(tool, **arguments)
        assert not said.get("isError"), said["content"][0]["text"]
        return said["structuredContent"]


class Team:
    def __init__(self, app: Any) -> None:
        self.anna = Member(app, "anna")
        self.bert = Member(app, "bert")
        self.boss = Member(app, "boss", roles=["admins"])


@asynccontextmanager
async def served(
    clock: Callable[[], float], tmp_path: Path, **environment: str
) -> AsyncGenerator[tuple[Team, Rig]]:
    issuer = Issuer()
    over = rig(clock, tmp_path, environment={**TEAM, **environment})
    settings = over.settings.team
    links = Links(f"https://{HOST}", b"s" * 32, clock)
    access = TeamAccess(settings, AUDIENCE, links, IssuerKeys(ISSUER, issuer.get))
    server: Any = over.server
    app: Any = web.web_app(server, access, names=[HOST])
    async with server.session_manager.run():
        yield Team(app), over


@pytest.fixture
async def team(clock: Callable[[], float], tmp_path: Path) -> Any:
    async with served(clock, tmp_path) as (team, _):
        yield team


async def read(person: Member, address: str) -> dict[str, Any]:
    return await person.ask("resources/read", address, uri=address)


async def finished(person: Member) -> dict[str, Any]:
    job = await person.fields("zsky_start_image", prompt="A boat on a lake")
    ended = await person.fields("zsky_check_job", job_id=job["job_id"], wait_seconds=40)
    assert ended["status"] == "completed"
    return ended


def told(result: dict[str, Any], *names: str) -> str:
    """Return a result as text in which the id that was asked for is not seen."""
    text = json.dumps(result, sort_keys=True)
    for name in names:
        text = text.replace(name, "ID")
    return re.sub(r"20\d\d-[\d:.TZ-]+", "TIME", text)


async def test_the_same_start_of_two_people_is_two_jobs(team: Team) -> None:
    mine, theirs = await finished(team.anna), await finished(team.bert)
    assert mine["job_id"] != theirs["job_id"]
    for person, own in ((team.anna, mine), (team.bert, theirs)):
        listed = await person.fields("list_jobs")
        assert [job["job_id"] for job in listed["jobs"]] == [own["job_id"]]
        spent = (await person.fields("get_spending"))["providers"]
        assert [each["spent"] for each in spent if each["provider"] == "zsky"][:1] == [1]


async def test_every_tool_answers_a_foreign_id_as_an_unknown_one(team: Team) -> None:
    job = await finished(team.anna)
    batch = await team.anna.fields(
        "start_batch", tool="zsky_start_image", arguments={"prompt": "A kite"}, copies=2
    )
    listed = (await team.bert.ask("tools/list"))["result"]["tools"]
    tried: list[str] = []
    for tool in listed:
        properties = tool["inputSchema"]["properties"]
        for argument in set(properties) & set(ID_ARGUMENTS):
            foreign = [job["job_id"], job["provider_job_id"], batch["batch_id"]]
            for known in foreign:
                unknown = known[:-4] + ("zzzz" if not known.endswith("zzzz") else "yyyy")
                given = {
                    name: {"outcome": "not_submitted", "to": "copies/"}.get(name, "x")
                    for name in tool["inputSchema"].get("required", [])
                }
                answers = [
                    told(
                        await team.bert.call(
                            tool["name"],
                            **{**given, argument: [which] if argument == "job_ids" else which},
                        ),
                        which,
                    )
                    for which in (known, unknown)
                ]
                assert answers[0] == answers[1], (tool["name"], argument, known)
                nothing = '"isError": true' in answers[0] or '{"jobs": []}' in answers[0]
                assert nothing, (tool["name"], argument, answers[0])
                tried.append(tool["name"])
    assert len(set(tried)) >= 10


async def test_every_resource_answers_a_foreign_id_as_an_unknown_one(team: Team) -> None:
    job = await finished(team.anna)
    for shape in ("darkroom://jobs/{}", "darkroom://jobs/{}/outputs/0"):
        answers = [
            told(await read(team.bert, shape.format(which)), which)
            for which in (job["job_id"], job["job_id"][:-4] + "zzzz")
        ]
        assert answers[0] == answers[1]
        assert "error" in answers[0]
        own = await read(team.anna, shape.format(job["job_id"]))
        assert own["result"]["contents"]


async def test_a_reference_to_a_foreign_job_is_one_to_nothing(team: Team) -> None:
    job = await finished(team.anna)
    answers = [
        told(
            await team.bert.call(
                "zupertry_start_tryon",
                model_image_url=f"job:{which}",
                garment_image_url="https://samples.sandbox.test/garment-1.jpg",
            ),
            which,
        )
        for which in (job["job_id"], job["job_id"][:-4] + "zzzz")
    ]
    assert answers[0] == answers[1]
    assert "there is no job behind job:ID" in answers[0]


@pytest.mark.parametrize(
    "path", ["/etc/hostname", "shirts/*.jpg", "file:///etc/hostname", "~/x.png"]
)
async def test_no_file_of_the_server_is_sent_for_a_person_who_is_elsewhere(
    team: Team, path: str
) -> None:
    garment = "https://samples.sandbox.test/garment-1.jpg"
    said = await team.boss.call(
        "zupertry_start_tryon", model_image_url=path, garment_image_url=garment
    )
    assert said["isError"]
    assert "forbidden" in said["content"][0]["text"]


async def test_nobody_is_served_who_has_not_signed_in(
    clock: Callable[[], float], tmp_path: Path
) -> None:
    """The gate lets nobody through; behind it a request without a person reaches no jobs either."""
    server: Any = rig(clock, tmp_path, environment=TEAM).server
    server.links = Links(f"https://{HOST}", b"s" * 32, clock)
    async with Client(server) as client:
        with pytest.raises(MCPError, match="signed in"):
            await client.read_resource("darkroom://jobs")


async def test_completions_name_only_own_jobs(team: Team) -> None:
    job = await finished(team.anna)
    reference = {"type": "ref/resource", "uri": "darkroom://jobs/{job_id}"}
    asked: dict[str, Any] = {"ref": reference, "argument": {"name": "job_id", "value": ""}}
    own = await team.anna.ask("completion/complete", **asked)
    assert job["job_id"] in own["result"]["completion"]["values"]
    assert (await team.bert.ask("completion/complete", **asked))["result"]["completion"][
        "values"
    ] == []


@pytest.mark.parametrize(
    "tool", ["zsky_get_usage", "zsky_rotate_key", "zupertry_list_tryons", "zupertry_get_account"]
)
async def test_what_the_account_shows_or_changes_is_for_administrators(
    team: Team, tool: str
) -> None:
    refused = await team.bert.call(tool)
    assert refused["isError"]
    assert "forbidden" in refused["content"][0]["text"]
    if tool != "zsky_rotate_key":  # which asks first
        assert not (await team.boss.call(tool)).get("isError")


@pytest.mark.parametrize("subject", ["bert", "boss"])
async def test_what_was_looked_up_in_the_account_is_for_administrators(
    clock: Callable[[], float], tmp_path: Path, subject: str
) -> None:
    """It names jobs at the provider that may be another person's, and counts those of all."""
    async with served(clock, tmp_path) as (team, over):
        over.sandbox.emulators["zsky"].faults.add("generate_image", Fault(kind="drop_after"))
        person: Member = getattr(team, subject)
        lost = await person.fields("zsky_start_image", prompt="A boat on a lake")
        assert lost["status"] == "unknown"
        await anyio.sleep(5)
        found = await person.fields("zsky_check_job", job_id=lost["job_id"], wait_seconds=0)
        read_there = await read(person, f"darkroom://jobs/{lost['job_id']}")
    assert ("evidence" in found) is (subject == "boss")
    assert ("usage_now" in json.dumps([found, read_there])) is (subject == "boss")


async def test_a_refusal_does_not_say_what_the_others_have_spent(
    clock: Callable[[], float], tmp_path: Path
) -> None:
    caps = {
        "DARKROOM_SPENDING__ZSKY_IMAGES_PER_DAY": "2",
        "DARKROOM_SPENDING__PERSON__ZSKY_IMAGES_PER_DAY": "1",
    }
    async with served(clock, tmp_path, **caps) as (team, _):
        await finished(team.anna)
        own = await team.anna.call("zsky_start_image", prompt="A kite")
        await finished(team.boss)
        shared = await team.bert.call("zsky_start_image", prompt="A kite")
    assert "1 used, this call needs 1 more" in own["content"][0]["text"]
    said = shared["content"][0]["text"]
    assert "spend_cap_reached" in said
    assert "too little is left for the 1 of this call" in said
    assert " used" not in said


async def test_a_team_is_not_told_of_files_on_its_machines(team: Team) -> None:
    said = (await team.anna.ask("server/discover"))["result"]["instructions"]
    assert "links" in said
    assert "local path" not in said
    assert "saved as files" not in said


async def test_tools_for_paths_of_the_server_are_not_listed(team: Team) -> None:
    listed = {tool["name"] for tool in (await team.anna.ask("tools/list"))["result"]["tools"]}
    assert "save_results" not in listed
    assert "show_results" in listed


async def test_a_link_shows_its_file_to_whoever_has_it_and_ends(
    team: Team, clock: Callable[[], float]
) -> None:
    job = await finished(team.anna)
    (output,) = job["outputs"]
    assert "file" not in output
    link = output["url"]
    got = await team.anna.client.get(link)
    assert got.status_code == 200
    assert got.headers["content-type"] == output["media_type"]
    assert got.headers["x-content-type-options"] == "nosniff"
    assert "sandbox" in got.headers["content-security-policy"]
    until = clock() + SECONDS + 1
    while clock() < until:
        await team.anna.fields("zsky_check_job", job_id=job["job_id"])
        await anyio.sleep(60)
    assert (await team.anna.client.get(link)).status_code == 410


@pytest.mark.parametrize(
    "change",
    [
        (r"/0\?", "/1?"),
        (r"of=\w+", "of=local"),
        (r"until=\d", "until=9"),
        (r"sig=[^&]+", "sig="),
        (r"&sig=[^&]+", ""),
        ("$", "&until=99999999999"),
        (r"\?.*", ""),
        (r"/files/\w+/", "/files/../../etc/"),
    ],
)
async def test_a_link_opens_nothing_else(team: Team, change: tuple[str, str]) -> None:
    job = await finished(team.anna)
    changed = re.sub(*change, job["outputs"][0]["url"])
    assert (await team.anna.client.get(changed)).status_code == 404
