"""All emulators together, with sample photographs: in the process, or on a loopback port."""

from __future__ import annotations

import html
import importlib
import ipaddress
import re
import socket
import time
from contextlib import suppress
from dataclasses import asdict
from functools import lru_cache, partial
from typing import TYPE_CHECKING, Any, NamedTuple, cast, get_args
from urllib.parse import urlsplit

import anyio
import httpx2
from starlette.applications import Starlette
from starlette.responses import HTMLResponse, JSONResponse, PlainTextResponse, Response
from starlette.routing import Mount, Route

from darkroom_tools.emulators import bucket, pictures
from darkroom_tools.emulators.kit import (
    Clock,
    Emulator,
    Fault,
    FaultKind,
    FetchFailedError,
    Offload,
    read_json_object,
)
from darkroom_tools.emulators.transport import EmulatorTransport

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable, Collection, Mapping

    from starlette.requests import Request
    from starlette.types import ASGIApp, Receive, Scope, Send
    from uvicorn.server import ServerState

SAMPLES = 12
"""How many samples there are of each kind."""

SAMPLE_NAME = re.compile(r"(model|garment|product)-([1-9][0-9]?)\.jpg")
GARMENT_KINDS: tuple[pictures.GarmentKind, ...] = ("tee", "hoodie", "dress")
STAND_INS_KEPT = 64
SHUTDOWN_SECONDS = 1
"""How long open connections have; a planned hang would hold the sandbox for ever."""


class _Entry(NamedTuple):
    """Which class of the module ``<name>`` is built, and which of its constants open it."""

    emulator: str
    environment: dict[str, str]


PROVIDERS = {
    "zyng": _Entry("ZyngEmulator", {"ZYNG_API_KEY": "TEST_KEY"}),
    "zupertry": _Entry("ZupertryEmulator", {"ZUPERTRY_API_KEY": "LIVE_KEY"}),
    "zsky": _Entry("ZskyEmulator", {"ZSKY_API_KEY": "TEST_KEY"}),
    "claid": _Entry("ClaidEmulator", {"CLAID_API_KEY": "TEST_KEY"}),
    "fal": _Entry("FalEmulator", {"FAL_KEY": "TEST_KEY"}),
    "bfl": _Entry("BflEmulator", {"BFL_API_KEY": "TEST_KEY"}),
    "replicate": _Entry("ReplicateEmulator", {"REPLICATE_API_TOKEN": "TEST_KEY"}),
    "znyx": _Entry("ZnyxEmulator", {"ZNYX_RUNTIME_TOKEN": "TEST_RUNTIME_TOKEN", "ZNYX_CI_TOKEN": "TEST_CI_TOKEN", "ZNYX_ADMIN_TOKEN": "TEST_ADMIN_TOKEN", "ZNYX_ORG_ID": "ORG_ID", "ZNYX_PROJECT_ID": "PROJECT_ID"}),
}  # fmt: skip


class Sandbox:
    """The emulators and the samples.

    Parameters
    ----------
    clock, seed, time_scale, offload: as every emulator takes them.
    base: where each is reached; ``{name}`` stands for its name.
    strict_inputs: a provider cannot fetch a public address that is not in the sandbox; otherwise
        it gets a stand-in for what may be there.
    control: let faults be planned, and the record be read, under ``/_control``.
    remembered: how many requests and charges each emulator remembers, the newest; None: all.
    uploads: a server that is pointed here takes local files, through the sandbox's own bucket.
    switches: emulator -> its own keyword arguments.
    """

    def __init__(
        self,
        *,
        clock: Clock = time.time,
        seed: int = 0,
        time_scale: float = 1.0,
        base: str = "https://{name}.sandbox.test",
        offload: Offload | None = None,
        strict_inputs: bool = False,
        control: bool = False,
        remembered: int | None = None,
        uploads: bool = False,
        switches: Mapping[str, Mapping[str, object]] | None = None,
    ) -> None:
        self._base = base
        self._offload = offload or Offload()
        self._strict_inputs = strict_inputs
        self._stand_in = lru_cache(STAND_INS_KEPT)(pictures.stand_in)
        self._rendered: dict[str, bytes] = {}
        self._environment: dict[str, str] = dict(bucket.ENVIRONMENT) if uploads else {}
        self.emulators: dict[str, Emulator] = {}
        for name, entry in PROVIDERS.items():
            module = importlib.import_module(f".{name}.emulator", __package__)
            build = cast("Callable[..., Emulator]", getattr(module, entry.emulator))
            self.emulators[name] = build(
                clock=clock,
                base_url=base.format(name=name),
                fetch=self.fetch,
                seed=seed,
                time_scale=time_scale,
                offload=self._offload,
                **(switches or {}).get(name, {}),
            )
            self.emulators[name].remembered = remembered
            for variable, constant in entry.environment.items():
                self._environment[variable] = getattr(module, constant)
        samples = Starlette(routes=[Route("/{name}", self._sample)])
        self._apps = {name: each.app for name, each in self.emulators.items()}
        self._apps["samples"] = samples
        self.bucket = bucket.Bucket()
        self._apps["bucket"] = self.bucket.app
        routes: list[Route | Mount] = [Route("/", self._index)]
        routes += [Mount(f"/{name}", app) for name, app in self._apps.items()]
        if control:
            routes.append(Mount("/_control", routes=_control(self.emulators)))
        self.app = Starlette(routes=routes)

    def transport(self) -> httpx2.AsyncBaseTransport:
        """Return a transport that reaches everything as ``<name>.sandbox.test``."""
        return EmulatorTransport({f"{name}.sandbox.test": app for name, app in self._apps.items()})

    def environment(self) -> dict[str, str]:
        """Return the environment variables that point a server to this sandbox."""
        addresses = {
            f"{name.upper()}_BASE_URL": each.base_url for name, each in self.emulators.items()
        }
        return {**self._environment, **addresses}

    def move(self, base: str) -> None:
        """Say where the sandbox is reached once that is known; addresses given out start so."""
        self._base = base
        for name, emulator in self.emulators.items():
            emulator.base_url = base.format(name=name)

    def sample(self, kind: str, number: int) -> str:
        """Return the address of a "model", "garment" or "product" photograph (1 to SAMPLES)."""
        name = f"{kind}-{number}.jpg"
        if SAMPLE_NAME.fullmatch(name) is None or number > SAMPLES:
            raise ValueError(f"no such sample: {name}")
        return f"{self._base.format(name='samples')}/{name}"

    async def fetch(self, address: str) -> bytes:
        """Return what a provider finds at an address; FetchFailedError when it finds nothing."""
        for name, app in self._apps.items():
            base = self._base.format(name=name)
            if address.startswith(f"{base}/"):
                inside = f"https://{name}.sandbox.test{address.removeprefix(base)}"
                transport = EmulatorTransport({f"{name}.sandbox.test": app})
                async with httpx2.AsyncClient(transport=transport) as client:
                    try:
                        answer = await client.get(inside)
                    except httpx2.TransportError as error:
                        raise FetchFailedError("the address did not answer") from error
                if not answer.is_success:
                    raise FetchFailedError(f"the address answered {answer.status_code}")
                return answer.content
        if self._strict_inputs or "missing" in address or not _is_public(address):
            raise FetchFailedError("nothing is there")
        # invented: the sandbox has no network, so it draws what the address says
        return await self._offload(partial(self._stand_in, address))

    async def _sample(self, request: Request) -> Response:
        name = request.path_params["name"]
        match = SAMPLE_NAME.fullmatch(name)
        if match is None or int(match[2]) > SAMPLES:
            return Response("no such sample", status_code=404)
        if name not in self._rendered:
            self._rendered[name] = await self._offload(partial(_draw, match[1], int(match[2])))
        return Response(self._rendered[name], media_type="image/jpeg")

    async def _index(self, request: Request) -> Response:
        del request
        rows = "".join(
            f"<tr><td>{name}<td><code>{html.escape(each.base_url)}</code>"
            for name, each in self.emulators.items()
        )
        shown = "".join(
            f'<a href="{self.sample(kind, n)}"><img loading="lazy" src="{self.sample(kind, n)}" '
            f'alt="{kind} {n}"></a>'
            for kind in ("model", "garment", "product")
            for n in range(1, SAMPLES + 1)
        )
        return HTMLResponse(INDEX.format(rows=rows, shown=shown))


INDEX = """<!doctype html><meta charset="utf-8"><title>Darkroom sandbox</title>
<style>body{{font:16px/1.5 system-ui,sans-serif;max-width:60rem;margin:2rem auto;padding:0 1rem}}
td{{padding-right:2rem}}img{{height:11rem;margin:.2rem;border-radius:.4rem}}</style>
<h1>Darkroom sandbox</h1>
<p>Stand-ins for the providers. Nothing here leaves this machine, and nothing costs anything.</p>
<table>{rows}</table><h2>Sample photographs</h2>{shown}
"""


def _draw(kind: str, number: int) -> bytes:
    if kind == "model":
        image = pictures.person(number)
    elif kind == "garment":
        image = pictures.garment(number, GARMENT_KINDS[number % len(GARMENT_KINDS)])
    else:
        image = pictures.product(number)
    return pictures.encode(image, "jpeg")


def _is_public(address: str) -> bool:
    try:
        parts = urlsplit(address)
        host = parts.hostname or ""
        if parts.scheme not in ("http", "https"):
            return False
        try:
            return ipaddress.ip_address(host).is_global
        except ValueError:
            reserved = (".invalid", ".test", ".localhost", ".local", ".internal")
            return "." in host and not host.endswith(reserved)
    except ValueError:
        return False


def _control(emulators: Mapping[str, Emulator]) -> list[Route]:
    """Return the routes by which a test in another process plans faults and reads the record."""

    async def faults(request: Request) -> Response:
        asked = await read_json_object(request) or {}
        try:
            emulator = emulators[cast("str", asked.pop("emulator"))]
            operation, times = cast("str", asked.pop("operation")), asked.pop("times", 1)
            if isinstance(asked.get("body"), str):
                asked["body"] = cast("str", asked["body"]).encode()
            emulator.faults.add(operation, _fault(asked), times=cast("int | None", times))
        except (KeyError, TypeError, ValueError) as error:
            return JSONResponse({"error": repr(error)}, status_code=400)
        return Response(status_code=204)

    async def requests(request: Request) -> Response:
        del request
        return JSONResponse(
            {
                name: [
                    {**asdict(each), "body": each.body.decode(errors="replace")}
                    for each in emulator.requests
                ]
                for name, emulator in emulators.items()
            }
        )

    async def charges(request: Request) -> Response:
        del request
        return JSONResponse(
            {
                name: [asdict(each) for each in emulator.charges]
                for name, emulator in emulators.items()
            }
        )

    return [
        Route("/faults", faults, methods=["POST"]),
        Route("/requests", requests),
        Route("/charges", charges),
    ]


def _fault(asked: Mapping[str, object]) -> Fault:
    kinds = get_args(FaultKind)
    if asked.get("kind") not in kinds:
        raise ValueError(f"kind is none of {', '.join(kinds)}")
    build = cast("Callable[..., Fault]", Fault)
    return build(**asked)


LOOPBACK_NAMES = frozenset({"localhost", "127.0.0.1", "::1"})


def _ours(scope: Scope, names: Collection[str]) -> Response | None:
    """Refuse a request that calls us by a foreign name, or comes from a foreign page.

    A page that points its own name at this machine would plan faults here otherwise.
    """
    hosts = [value for name, value in scope["headers"] if name == b"host"]
    if len(hosts) != 1 or _name(f"//{hosts[0].decode('latin-1')}") not in names:
        return PlainTextResponse("no sandbox of that name is here\n", 421)
    for name, value in scope["headers"]:
        origin = value.decode("latin-1") if name == b"origin" else None
        if origin is not None and not (
            origin.startswith(("http://", "https://")) and _name(origin) in names
        ):
            return PlainTextResponse("pages from there may not speak to this sandbox\n", 403)
    return None


def _name(address: str) -> str:
    with suppress(ValueError):
        return urlsplit(address).hostname or ""
    return ""


def gated(app: ASGIApp, names: Collection[str]) -> ASGIApp:
    """Return an application that is served only to those who know its name."""

    async def gate(scope: Scope, receive: Receive, send: Send) -> None:
        refusal = _ours(scope, names) if scope["type"] == "http" else None
        await (app if refusal is None else refusal)(scope, receive, send)

    return gate


async def serve(
    sandbox: Sandbox,
    host: str = "127.0.0.1",
    port: int = 0,
    *,
    ready: Callable[[int], None],
    listener: socket.socket | None = None,
) -> None:
    """Serve the sandbox on a loopback port until cancelled or told to end by a signal.

    ``port`` 0 takes a free one; ``listener`` is a socket that is bound already. ``ready`` is called
    with the port once requests are answered; addresses that the sandbox gives out carry it.
    asyncio only, as uvicorn is.
    """
    import uvicorn  # noqa: PLC0415 -- only who serves needs it
    from uvicorn.protocols.http.h11_impl import H11Protocol  # noqa: PLC0415

    class Protocol(H11Protocol):
        """Lets an emulator close the connection (`scope["state"]["abort"]`)."""

        def __init__(
            self,
            config: uvicorn.Config,
            server_state: ServerState,
            app_state: dict[str, object],
            _loop: asyncio.AbstractEventLoop | None = None,
        ) -> None:
            super().__init__(config, server_state, {**app_state, "abort": self.abort}, _loop)

        def abort(self, refused: bool) -> None:  # noqa: FBT001 -- the shape that emulators call
            self.cycle.disconnected = True  # nothing is sent after this
            if refused:
                self.transport.abort()
            else:
                self.transport.close()

    class Server(uvicorn.Server):
        async def startup(self, sockets: list[socket.socket] | None = None) -> None:
            await super().startup(sockets)
            ready(bound)

    with listener or socket.create_server((host, port)) as accepting:
        bound = cast("int", accepting.getsockname()[1])
        sandbox.move(f"http://{host}:{bound}/{{name}}")
        config = uvicorn.Config(
            cast("Any", gated(sandbox.app, LOOPBACK_NAMES | {host})),
            http=Protocol,
            ws="none",
            lifespan="off",
            log_config=None,
            access_log=False,
            timeout_graceful_shutdown=SHUTDOWN_SECONDS,
        )
        server = Server(config)
        try:
            await server.serve(sockets=[accepting])
        finally:
            if server.started and not server.should_exit:  # cancelled from outside
                with anyio.CancelScope(shield=True):
                    await server.shutdown(sockets=[accepting])
