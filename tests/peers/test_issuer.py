"""A team's whole way in: a real issuer, the SDK's client, and the shipped server as a process."""

from __future__ import annotations

import re
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import anyio
import httpx2
import pytest
from mcp.client.streamable_http import streamable_http_client

from mcp import Client
from tests.harness import ERAS, Era, call
from tests.peers.issuer import Browser, Issuer, issuer
from tests.peers.shipped import Shipped, serving

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Generator
    from pathlib import Path

pytestmark = [pytest.mark.anyio, pytest.mark.slow]

SECONDS = 60.0


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture(scope="module")
def at() -> Generator[Issuer]:
    with issuer() as found:
        yield found


@pytest.fixture
def team(at: Issuer, tmp_path: Path) -> Generator[Shipped]:
    settings = {
        "DARKROOM_TEAM__ISSUER": at.address,
        "DARKROOM_TEAM__SCOPES": '["pictures"]',
        "DARKROOM_TEAM__ADMIN_CLAIM": "roles",
        "DARKROOM_TEAM__ADMIN_VALUES": '["admins"]',
    }
    with serving(tmp_path, "--sandbox", environment=settings) as server:
        yield server


@asynccontextmanager
async def signed_in(server: Shipped, person: Browser, era: Era) -> AsyncGenerator[Client]:
    auth: Any = person.auth(server.url)
    async with httpx2.AsyncClient(auth=auth, timeout=httpx2.Timeout(SECONDS)) as web:
        transport: Any = streamable_http_client(server.url, http_client=web)
        async with Client(transport, mode=era) as client:
            yield client


@pytest.mark.parametrize("era", ERAS)
async def test_a_client_registers_signs_in_and_works(team: Shipped, era: Era) -> None:
    anna = Browser("anna")
    with anyio.fail_after(SECONDS):
        async with signed_in(team, anna, era) as client:
            job = await call(client, "zsky_start_image", prompt="A boat")
            ended = await call(client, "zsky_check_job", job_id=job["job_id"])
        assert ended["status"] == "completed"
    assert anna.client is not None
    assert anna.tokens is not None


@pytest.mark.parametrize("era", ERAS)
async def test_two_people_see_nothing_of_each_other(team: Shipped, era: Era) -> None:
    with anyio.fail_after(SECONDS):
        async with (
            signed_in(team, Browser("anna"), era) as anna,
            signed_in(team, Browser("bert"), era) as bert,
        ):
            job = await call(anna, "zsky_start_image", prompt="A boat")
            assert (await call(bert, "list_jobs"))["jobs"] == []
            assert [each["job_id"] for each in (await call(anna, "list_jobs"))["jobs"]] == [
                job["job_id"]
            ]
            again = await call(bert, "zsky_start_image", prompt="A boat")
            assert again["job_id"] != job["job_id"]


async def test_a_person_stays_signed_in_when_the_issuer_changes_its_key(
    at: Issuer, team: Shipped
) -> None:
    with anyio.fail_after(SECONDS):
        async with signed_in(team, Browser("anna"), ERAS[-1]) as client:
            at.rotate()
            assert (await call(client, "list_jobs"))["jobs"] == []


async def test_a_stranger_is_told_where_to_sign_in(at: Issuer, team: Shipped) -> None:
    async with httpx2.AsyncClient(timeout=httpx2.Timeout(SECONDS)) as web:
        refused = await web.post(team.url, json={})
        assert refused.status_code == 401
        found = re.search(r'resource_metadata="([^"]+)"', refused.headers["www-authenticate"])
        assert found is not None
        about = (await web.get(found[1])).json()
        assert about["authorization_servers"] == [at.address]
        assert about["resource"] == team.url


async def test_a_result_is_a_link_that_needs_no_login_and_cannot_be_changed(team: Shipped) -> None:
    with anyio.fail_after(SECONDS):
        async with signed_in(team, Browser("anna"), ERAS[-1]) as client:
            job = await call(client, "zsky_start_image", prompt="A boat")
            ended = await client.call_tool("zsky_check_job", {"job_id": job["job_id"]})
        fields: Any = ended.structured_content
        shown = fields["outputs"][0]
        links = [each for each in ended.content if each.type == "resource_link"]
        assert [each.uri for each in links] == [shown["url"]]
        assert "file" not in shown
        async with httpx2.AsyncClient(timeout=httpx2.Timeout(SECONDS)) as web:
            whole = await web.get(shown["url"])
            part = await web.get(shown["url"], headers={"range": "bytes=0-9"})
            changed = await web.get(shown["url"].replace("/0?", "/1?"))
        assert whole.status_code == 200
        assert whole.headers["content-type"] == shown["media_type"]
        assert whole.headers["x-content-type-options"] == "nosniff"
        assert (part.status_code, part.content) == (206, whole.content[:10])
        assert changed.status_code == 404
