"""All emulators together, in the process and on a loopback port."""

from __future__ import annotations

import io
import json
import subprocess
import sys
from typing import TYPE_CHECKING

import anyio
import httpx2
import pytest
from PIL import Image

from darkroom_tools.emulators import pictures
from darkroom_tools.emulators.kit import FetchFailedError
from darkroom_tools.emulators.sandbox import (
    LOOPBACK_NAMES,
    PROVIDERS,
    SAMPLES,
    Sandbox,
    gated,
    serve,
)
from darkroom_tools.emulators.transport import EmulatorTransport
from darkroom_tools.sandbox import REMEMBERED, open_sandbox
from tests.snapshots import EVERYTHING

if TYPE_CHECKING:
    from darkroom_tools.emulators.kit import Clock

pytestmark = pytest.mark.anyio


@pytest.fixture
async def sandbox(clock: Clock) -> Sandbox:
    return Sandbox(clock=clock)  # virtual time stands still outside of the test's event loop


def client(sandbox: Sandbox) -> httpx2.AsyncClient:
    return httpx2.AsyncClient(transport=sandbox.transport(), timeout=30)


async def test_every_provider_is_there_with_credentials_and_address(sandbox: Sandbox) -> None:
    assert set(sandbox.emulators) == {provider.name for provider in EVERYTHING.providers}
    environment = sandbox.environment()
    for name, entry in PROVIDERS.items():
        assert environment[f"{name.upper()}_BASE_URL"] == f"https://{name}.sandbox.test"
        assert all(environment[variable] for variable in entry.environment)


async def test_the_credentials_open_the_emulators(sandbox: Sandbox) -> None:
    environment = sandbox.environment()
    async with client(sandbox) as http:
        zupertry = await http.get(
            f"{environment['ZUPERTRY_BASE_URL']}/v1/account",
            headers={"authorization": f"Bearer {environment['ZUPERTRY_API_KEY']}"},
        )
        zsky = await http.get(
            f"{environment['ZSKY_BASE_URL']}/v1/usage",
            headers={"x-api-key": environment["ZSKY_API_KEY"]},
        )
        znyx = await http.get(
            f"{environment['ZNYX_BASE_URL']}/v1/billing/summary",
            headers={"authorization": f"Bearer {environment['ZNYX_ADMIN_TOKEN']}"},
        )
    assert [each.status_code for each in (zupertry, zsky, znyx)] == [200, 200, 200]


@pytest.mark.parametrize("kind", ["model", "garment", "product"])
async def test_samples_are_photographs(sandbox: Sandbox, kind: str) -> None:
    async with client(sandbox) as http:
        answer = await http.get(sandbox.sample(kind, SAMPLES))
        beyond = await http.get(f"https://samples.sandbox.test/{kind}-{SAMPLES + 1}.jpg")
    assert (answer.headers["content-type"], beyond.status_code) == ("image/jpeg", 404)
    with Image.open(io.BytesIO(answer.content)) as image:
        assert image.format == "JPEG"


@pytest.mark.parametrize(("kind", "number"), [("model", 0), ("model", 99), ("cat", 1)])
async def test_a_sample_that_is_not_there_has_no_address(
    sandbox: Sandbox, kind: str, number: int
) -> None:
    with pytest.raises(ValueError, match="no such sample"):
        sandbox.sample(kind, number)


async def test_a_tryon_of_samples_can_be_fetched_by_another_provider(sandbox: Sandbox) -> None:
    base, key = (sandbox.environment()[f"ZUPERTRY_{name}"] for name in ("BASE_URL", "API_KEY"))
    headers = {"authorization": f"Bearer {key}"}
    body = {
        "model_image_url": sandbox.sample("model", 1),
        "garment_image_url": sandbox.sample("garment", 1),
    }
    async with client(sandbox) as http:
        job = (await http.post(f"{base}/v1/tryon", json=body, headers=headers)).json()
        await anyio.sleep(11)
        done = (await http.get(f"{base}/v1/jobs/{job['job_id']}", headers=headers)).json()
    assert pictures.decode(await sandbox.fetch(done["output_url"])).size == (768, 1024)
    with pytest.raises(FetchFailedError):
        await sandbox.fetch(done["output_url"].split("?")[0])


async def test_a_public_address_gets_a_stand_in_that_is_always_the_same(sandbox: Sandbox) -> None:
    first = await sandbox.fetch("https://shop.example/red-dress.jpg")
    assert first == await sandbox.fetch("https://shop.example/red-dress.jpg")
    assert first != await sandbox.fetch("https://shop.example/blue-dress.jpg")


@pytest.mark.parametrize(
    "address",
    [
        "https://shop.example/missing.jpg",
        "https://shop.invalid/dress.jpg",
        "https://samples.sandbox.test/nothing.jpg",
        "https://elsewhere.sandbox.test/dress.jpg",
        "http://127.0.0.1/dress.jpg",
        "http://10.0.0.1/dress.jpg",
        "http://[::1]/dress.jpg",
        "http://[broken/dress.jpg",
        "http://localhost/dress.jpg",
        "file:///etc/passwd",
    ],
)
async def test_what_no_provider_could_fetch_fails(sandbox: Sandbox, address: str) -> None:
    with pytest.raises(FetchFailedError):
        await sandbox.fetch(address)


async def test_strict_inputs_leave_only_what_is_in_the_sandbox(clock: Clock) -> None:
    sandbox = Sandbox(clock=clock, strict_inputs=True)
    assert await sandbox.fetch(sandbox.sample("garment", 1))
    with pytest.raises(FetchFailedError):
        await sandbox.fetch("https://shop.example/red-dress.jpg")


async def test_switches_reach_their_emulator(clock: Clock) -> None:
    sandbox = Sandbox(clock=clock, switches={"zsky": {"retry_after": True}})
    base, key = (sandbox.environment()[f"ZSKY_{name}"] for name in ("BASE_URL", "API_KEY"))
    async with client(sandbox) as http:
        for _ in range(20):
            await http.get(f"{base}/v1/usage", headers={"x-api-key": key})
        refused = await http.get(f"{base}/v1/usage", headers={"x-api-key": key})
    assert refused.headers["retry-after"] == "60"


async def test_the_app_mounts_each_emulator_and_lists_what_is_served(clock: Clock) -> None:
    sandbox = Sandbox(clock=clock, base="http://127.0.0.1:8000/{name}")
    transport = EmulatorTransport({"127.0.0.1": sandbox.app})
    async with httpx2.AsyncClient(transport=transport, base_url="http://127.0.0.1:8000") as http:
        index = (await http.get("/")).text
        sample = await http.get(sandbox.sample("model", 1))
        usage = await http.get("/zsky/v1/usage")
        control = await http.get("/_control/charges")
    assert all(f"http://127.0.0.1:8000/{name}" in index for name in PROVIDERS)
    assert sandbox.sample("garment", 3) in index
    assert (sample.status_code, usage.status_code, control.status_code) == (200, 401, 404)
    assert await sandbox.fetch(sandbox.sample("model", 1)) == sample.content


async def test_faults_can_be_planned_and_the_record_read_from_outside(clock: Clock) -> None:
    sandbox = Sandbox(clock=clock, control=True)
    transport = EmulatorTransport({"127.0.0.1": sandbox.app})
    headers = {"x-api-key": sandbox.environment()["ZSKY_API_KEY"]}
    async with httpx2.AsyncClient(transport=transport, base_url="http://127.0.0.1") as http:
        fault = {"kind": "status", "status": 503, "body": "busy"}
        plan = {"emulator": "zsky", "operation": "generate_image", "times": 2, **fault}
        assert (await http.post("/_control/faults", json=plan)).status_code == 204
        answers = [
            await http.post("/zsky/v1/images/generate", json={"prompt": "a lake"}, headers=headers)
            for _ in range(3)
        ]
        requests = (await http.get("/_control/requests")).json()["zsky"]
        charges = (await http.get("/_control/charges")).json()["zsky"]
    assert [each.status_code for each in answers] == [503, 503, 200]
    assert answers[0].text == "busy"
    assert [(each["operation"], each["fault"], each["acted"]) for each in requests] == [
        ("generate_image", "status", False),
        ("generate_image", "status", False),
        ("generate_image", None, True),
    ]
    assert json.loads(requests[2]["body"]) == {"prompt": "a lake"}
    assert [(each["amount"], each["unit"]) for each in charges] == [(1, "images")]


async def test_a_sandbox_that_nobody_reads_remembers_the_newest_requests_only() -> None:
    sandbox = open_sandbox(time_scale=1.0)
    zsky = sandbox.emulators["zsky"]
    async with client(sandbox) as http:
        for number in range(REMEMBERED + 5):
            await http.get(f"{zsky.base_url}/v1/jobs/{number}")
    assert [each.path for each in zsky.requests] == [
        f"/v1/jobs/{number}" for number in range(5, REMEMBERED + 5)
    ]
    for number in range(REMEMBERED + 5):
        zsky.charge(str(number), 1, "images")
    assert (len(zsky.charges), zsky.charges[0].job_id) == (REMEMBERED, "5")


async def test_a_sandbox_that_is_read_remembers_all() -> None:
    sandbox = open_sandbox(time_scale=1.0, control=True)
    assert all(each.remembered is None for each in sandbox.emulators.values())


@pytest.mark.parametrize(
    "plan",
    [
        {},
        {"emulator": "nobody", "operation": "*", "kind": "empty"},
        {"emulator": "zsky", "kind": "empty"},
        {"emulator": "zsky", "operation": "*", "kind": "unheard-of"},
        {"emulator": "zsky", "operation": "*", "kind": "empty", "colour": "red"},
    ],
)
async def test_a_plan_that_makes_no_sense_is_refused(clock: Clock, plan: dict[str, object]) -> None:
    sandbox = Sandbox(clock=clock, control=True)
    transport = EmulatorTransport({"127.0.0.1": sandbox.app})
    async with httpx2.AsyncClient(transport=transport, base_url="http://127.0.0.1") as http:
        assert (await http.post("/_control/faults", json=plan)).status_code == 400


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({}, 204),
        ({"host": "localhost:8080"}, 204),
        ({"host": "[::1]:8080"}, 204),
        ({"origin": "http://localhost:6274"}, 204),
        ({"host": "rebound.evil.test"}, 421),
        ({"host": "127.0.0.1.evil.test"}, 421),
        ({"host": "[::"}, 421),
        ({"host": ""}, 421),
        ({"origin": "https://evil.test"}, 403),
        ({"origin": "null"}, 403),
        ({"origin": "localhost"}, 403),
    ],
)
async def test_no_foreign_page_plans_faults_in_a_served_sandbox(
    clock: Clock, headers: dict[str, str], status: int
) -> None:
    sandbox = Sandbox(clock=clock, control=True)
    plan = {"emulator": "zsky", "operation": "*", "kind": "empty"}
    transport = httpx2.ASGITransport(gated(sandbox.app, LOOPBACK_NAMES))
    async with httpx2.AsyncClient(transport=transport, base_url="http://127.0.0.1") as http:
        planned = await http.post("/_control/faults", json=plan, headers=headers)
        assert planned.status_code == status


def test_an_emulator_is_imported_only_when_a_sandbox_is_built() -> None:
    program = (
        "import sys; import darkroom_tools.emulators.kit, darkroom_tools.emulators.transport;"
        "sys.exit(any(name in sys.modules for name in ('PIL', 'uvicorn')))"
    )
    done = subprocess.run([sys.executable, "-c", program], check=False, timeout=60)
    assert done.returncode == 0


@pytest.mark.slow
@pytest.mark.parametrize("anyio_backend", ["asyncio"])
async def test_a_served_sandbox_gives_out_addresses_with_its_port(anyio_backend: str) -> None:
    del anyio_backend
    sandbox = Sandbox(time_scale=0.0)
    port = 0
    started = anyio.Event()

    def ready(bound: int) -> None:
        nonlocal port
        port = bound
        started.set()

    with anyio.fail_after(30):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(lambda: serve(sandbox, ready=ready))
            await started.wait()
            key = sandbox.environment()["ZSKY_API_KEY"]
            base = f"http://127.0.0.1:{port}/zsky"
            assert sandbox.environment()["ZSKY_BASE_URL"] == base
            async with httpx2.AsyncClient(headers={"x-api-key": key}) as http:
                foreign = await http.get(base, headers={"origin": "https://evil.test"})
                assert foreign.status_code == 403
                size = {"width": 256, "height": 256}
                made = await http.post(f"{base}/v1/images/generate", json={"prompt": "sea", **size})
                done = (await http.get(base + made.json()["poll_url"])).json()
                assert done["result_url"].startswith(f"{base}/assets/")
                picture = await http.get(done["result_url"])
            assert picture.headers["content-type"] == "image/webp"
            tasks.cancel_scope.cancel()
        with pytest.raises(OSError, match="connection attempts failed"):
            await anyio.connect_tcp("127.0.0.1", port)
