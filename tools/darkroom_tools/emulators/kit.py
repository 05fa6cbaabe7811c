"""What every emulator is built from: a clock, seeded chance, planned faults, a record of requests.

An emulator has no background task. What a job looks like is computed from the time it was
submitted and the time now, so a driven clock (``clock=``) moves everything.
"""

from __future__ import annotations

import json
import random
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Literal, TypeVar, cast

import anyio
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from darkroom_tools.emulators.record import Asked, Charge, remember

if TYPE_CHECKING:
    from starlette.types import Message, Receive, Scope, Send

T = TypeVar("T")

Clock = Callable[[], float]
"""Seconds since the epoch, UTC."""

Handler = Callable[[Request], Awaitable[Response]]

FaultKind = Literal[
    "refuse",
    "drop_before",
    "drop_after",
    "drop_during",
    "hang_before",
    "hang_after",
    "delay",
    "status",
    "status_after",
    "malformed",
    "truncated",
    "wrong_types",
    "empty",
    "huge",
    "redirect",
    "never_finish",
]

DEFAULT_HUGE_BYTES = 64 * 1024 * 1024
HUGE_CHUNK_BYTES = 64 * 1024


class Offload:
    """Run a blocking function away from the event loop; the default runs it in place."""

    async def __call__(self, function: Callable[[], T]) -> T:
        """Return what ``function`` returns."""
        return function()


class ThreadOffload(Offload):
    """Run a blocking function in a worker thread."""

    async def __call__(self, function: Callable[[], T]) -> T:
        """Return what ``function`` returns."""
        return await anyio.to_thread.run_sync(function)


class FetchFailedError(Exception):
    """An address handed to a provider could not be fetched: nothing is there, or it is no picture."""


Fetch = Callable[[str], Awaitable[bytes]]
"""How an emulator gets the bytes behind an address that it was given; raises FetchFailedError."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    """One thing that goes wrong with one request.

    ``refuse``        the connection is refused: nothing arrives
    ``drop_before``   the request arrives, the connection closes before the provider acts
    ``drop_after``    the provider acts, then closes the connection without an answer
    ``drop_during``   the provider acts, then closes the connection in the middle of its answer
    ``hang_before``   the request arrives, the provider neither acts nor answers
    ``hang_after``    the provider acts and never answers
    ``delay``         the provider acts and answers ``seconds`` later
    ``status``        the provider answers ``status`` (``retry_after``, ``body``) without acting
    ``status_after``  the provider acts and answers ``status`` all the same
    ``malformed``     the provider acts, the body is not JSON
    ``truncated``     the provider acts, the JSON ends in the middle
    ``wrong_types``   the provider acts, every value of its JSON has another type
    ``empty``         the provider acts, the body is empty
    ``huge``          the provider acts, the body is ``size`` bytes long
    ``redirect``      the provider answers 302 to ``location`` without acting
    ``never_finish``  the provider acts, and the job that it made never ends
    """

    kind: FaultKind
    seconds: float = 0.0
    status: int = 500
    retry_after: str | None = None
    headers: Mapping[str, str] = field(default_factory=dict[str, str])
    body: bytes | None = None
    size: int = DEFAULT_HUGE_BYTES
    location: str = "https://elsewhere.example/"


class FaultPlan:
    """Which faults the next requests meet, by operation name; ``"*"`` stands for every operation."""

    def __init__(self) -> None:
        self._planned: list[tuple[str, Fault, int | None]] = []

    def add(self, operation: str, fault: Fault, *, times: int | None = 1) -> None:
        """Let the next ``times`` requests of ``operation`` meet ``fault``; ``None``: all of them."""
        self._planned.append((operation, fault, times))

    def clear(self) -> None:
        """Forget all that was planned."""
        self._planned.clear()

    def take(self, operation: str) -> Fault | None:
        """Return the fault that this request meets, and count it as met."""
        for index, (name, fault, times) in enumerate(self._planned):
            if name not in (operation, "*"):
                continue
            if times is not None:
                if times <= 1:
                    del self._planned[index]
                else:
                    self._planned[index] = (name, fault, times - 1)
            return fault
        return None


class ProviderError(Exception):
    """Answer the request with this status, body and headers."""

    def __init__(self, status: int, body: object, headers: Mapping[str, str] | None = None) -> None:
        super().__init__(status)
        self.status = status
        self.body = body
        self.headers = dict(headers or {})


class Emulator:
    """Base of the emulators: routing with faults, a record of requests and charges.

    Parameters
    ----------
    clock: seconds since the epoch; everything that takes time is computed from it.
    base_url: where this emulator is reached, without a trailing slash; asset addresses start so.
    fetch: how the provider gets the bytes behind an address that it was given.
    seed: all chance (ids, durations) comes from it.
    time_scale: factor on all processing durations (never on limits or expiry); 1 is as documented.
    offload: where pictures are made.
    """

    name: str

    def __init__(
        self,
        *,
        clock: Clock,
        base_url: str,
        fetch: Fetch,
        seed: int = 0,
        time_scale: float = 1.0,
        offload: Offload | None = None,
    ) -> None:
        self.clock = clock
        self.base_url = base_url.rstrip("/")
        self.fetch = fetch
        self.random = random.Random(f"{type(self).__name__}:{seed}")  # noqa: S311 -- repeatable, not secret
        self.time_scale = time_scale
        self.offload = offload or Offload()
        self.faults = FaultPlan()
        self.requests: list[Asked] = []
        self.charges: list[Charge] = []
        self.remembered: int | None = None
        """How many requests and charges stay in the record, the newest; None: all."""
        self.app = Starlette(
            routes=[
                Route(path, _Operation(self, operation, handler), methods=[method], name=operation)
                for method, path, operation, handler in self.operations()
            ],
            exception_handlers={404: self._no_such_path, 405: self._no_such_path},
        )

    def operations(self) -> list[tuple[str, str, str, Handler]]:
        """Return ``(method, path, operation name, handler)`` for every operation of the provider."""
        raise NotImplementedError

    async def operation_of(self, routed: str, request: Request) -> str:
        """Return the operation's name, where the path does not tell it (``routed``: what it tells).

        Faults are planned by this name.
        """
        del request
        return routed

    def not_found(self) -> ProviderError:
        """Return the answer to a path that the provider does not have."""
        return ProviderError(404, {"error": "Not found"})  # invented: no document shows it

    async def _no_such_path(self, request: Request, exc: Exception) -> Response:
        del request, exc
        return error_response(self.not_found())

    def charge(self, job_id: str, amount: float, unit: str) -> None:
        """Record that the customer pays for something (or is refunded, when negative)."""
        charge = Charge(at=self.clock(), job_id=job_id, amount=amount, unit=unit)
        remember(self.charges, charge, self.remembered)

    def hex_id(self, digits: int = 32) -> str:
        """Return a seeded random identifier of lower-case hex digits."""
        return f"{self.random.getrandbits(digits * 4):0{digits}x}"


def never_finishes(request: Request) -> bool:
    """Tell whether the job that this request makes was planned to never end."""
    return bool(request.scope.get("darkroom.never_finish", False))


def iso(at: float, *, digits: Literal[3, 6] = 3, zulu: bool = True) -> str:
    """Write a time as ISO 8601 in UTC with milli- or microseconds."""
    text = datetime.fromtimestamp(at, UTC).isoformat(
        timespec="milliseconds" if digits == 3 else "microseconds"  # noqa: PLR2004
    )
    return text.replace("+00:00", "Z") if zulu else text


def error_response(error: ProviderError) -> Response:
    """Turn a ProviderError into the answer that it describes."""
    return JSONResponse(error.body, status_code=error.status, headers=error.headers)


def access_denied(message: str) -> Response:
    """Return the 403 of an object store whose address is expired or not signed by it."""
    body = (
        '<?xml version="1.0" encoding="UTF-8"?>'
        f"<Error><Code>AccessDenied</Code><Message>{message}</Message></Error>"
    )
    return Response(body, status_code=403, media_type="application/xml")


async def read_json_object(request: Request) -> dict[str, object] | None:
    """Return the body as a JSON object; None when it is anything else."""
    try:
        body: object = json.loads(await request.body())
        json.dumps(body, ensure_ascii=False).encode()  # a lone surrogate could not be sent back
    except (ValueError, RecursionError):
        return None
    return cast("dict[str, object]", body) if isinstance(body, dict) else None


class _DropError(Exception):
    """The connection is closed here."""


class _Operation:
    """One operation as an ASGI application: meets its planned fault, runs its handler."""

    def __init__(self, emulator: Emulator, operation: str, handler: Handler) -> None:
        self._emulator = emulator
        self._operation = operation
        self._handler = handler

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        request = Request(scope, receive)
        emulator = self._emulator
        operation = await emulator.operation_of(self._operation, request)
        fault = emulator.faults.take(operation)
        asked = Asked(
            at=emulator.clock(),
            operation=operation,
            method=request.method,
            path=request.url.path + (f"?{request.url.query}" if request.url.query else ""),
            body=b"" if fault is not None and fault.kind == "refuse" else await request.body(),
            fault=fault.kind if fault is not None else None,
        )
        remember(emulator.requests, asked, emulator.remembered)

        async def recorded(message: Message) -> None:
            if message["type"] == "http.response.start":
                asked.status = cast("int", message["status"])
            await send(message)

        try:
            response = await self._answer(request, asked, fault)
            if fault is not None and fault.kind == "drop_during":
                await self._send_half(response, scope, receive, recorded)
                raise _DropError  # noqa: TRY301 -- one place closes the connection
            await response(scope, receive, recorded)
        except _DropError:
            asked.status = None
            refused = fault is not None and fault.kind == "refuse"
            abort = cast("Callable[[bool], None]", scope.get("state", {})["abort"])
            abort(refused)

    async def _answer(self, request: Request, asked: Asked, fault: Fault | None) -> Response:
        if fault is None:
            asked.acted = True
            return await self._handle(request)
        match fault.kind:
            case "refuse" | "drop_before":
                raise _DropError
            case "hang_before":
                await anyio.sleep_forever()
            case "status":
                return _planned_status(fault)
            case "redirect":
                return Response(status_code=302, headers={"location": fault.location})
            case "never_finish":
                request.scope["darkroom.never_finish"] = True
            case _:
                pass
        asked.acted = True
        response = await self._handle(request)
        match fault.kind:
            case "drop_after":
                raise _DropError
            case "hang_after":
                await anyio.sleep_forever()
            case "delay":
                await anyio.sleep(fault.seconds)
            case "status_after":
                return _planned_status(fault)
            case "malformed":
                return _same_status(response, b"<html>It works!")
            case "truncated":
                whole = bytes(response.body)
                return _same_status(response, whole[: max(1, len(whole) // 2)])
            case "wrong_types":
                return _same_status(response, _with_wrong_types(bytes(response.body)))
            case "empty":
                return _same_status(response, b"")
            case "huge":
                return _Huge(fault.size, response.status_code)
            case _:
                pass
        return response

    async def _handle(self, request: Request) -> Response:
        try:
            return await self._handler(request)
        except ProviderError as error:
            return error_response(error)

    @staticmethod
    async def _send_half(response: Response, scope: Scope, receive: Receive, send: Send) -> None:
        async def half(message: Message) -> None:
            if message["type"] == "http.response.body":
                body = cast("bytes", message.get("body", b""))
                message = {**message, "body": body[: len(body) // 2], "more_body": True}
            await send(message)

        await response(scope, receive, half)


class _Huge(Response):
    """A body of a given size that is made while it is sent."""

    def __init__(self, size: int, status: int) -> None:
        super().__init__(status_code=status, headers={"content-type": "application/json"})
        self._size = size

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        del scope, receive
        headers = [(b"content-type", b"application/json")]
        await send({"type": "http.response.start", "status": self.status_code, "headers": headers})
        left = self._size
        while left > 0:
            chunk = b"[" * min(left, HUGE_CHUNK_BYTES)
            left -= len(chunk)
            await send({"type": "http.response.body", "body": chunk, "more_body": True})
        await send({"type": "http.response.body", "body": b"", "more_body": False})


def _planned_status(fault: Fault) -> Response:
    headers = dict(fault.headers)
    if fault.retry_after is not None:
        headers["retry-after"] = fault.retry_after
    body = fault.body if fault.body is not None else b'{"error":"planned"}'
    return Response(body, status_code=fault.status, headers=headers, media_type="application/json")


def _same_status(response: Response, body: bytes) -> Response:
    return Response(body, status_code=response.status_code, media_type="application/json")


def _with_wrong_types(body: bytes) -> bytes:
    def other(value: object) -> object:
        if isinstance(value, dict):
            return {key: other(inner) for key, inner in cast("dict[str, object]", value).items()}
        if isinstance(value, list):
            return {"0": cast("list[object]", value)}
        if isinstance(value, str):
            return [len(value)]
        return "wrong"

    try:
        parsed: object = json.loads(body)
    except ValueError:
        return b"[[1]]"
    if not isinstance(parsed, dict):
        return b"[[1]]"
    return json.dumps(other(cast("object", parsed))).encode()
