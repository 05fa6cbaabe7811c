"""Claid.ai: asynchronous image edits, under ``/v1-beta1`` (the document) and ``/v1`` (today's).

What is accepted stands in ``claid_contract``, what it does to a picture in ``claid_operations``.
"""

from __future__ import annotations

import json
import math
import uuid
from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Literal, cast
from urllib.parse import quote

import anyio
from starlette.responses import JSONResponse, Response

from darkroom_tools.emulators import pictures
from darkroom_tools.emulators.claid.contract import problems
from darkroom_tools.emulators.claid.operations import (
    edit,
    measure,
    output_format,
    output_size,
    style_reference,
    write,
)
from darkroom_tools.emulators.claid.responses import (
    RATE_LIMITS,
    Encoding,
    RateLimits,
    invalid,
    rate_limited,
    refusal,
    webhook_headers,
)
from darkroom_tools.emulators.kit import (
    Clock,
    Emulator,
    Fetch,
    FetchFailedError,
    Handler,
    Offload,
    ProviderError,
    access_denied,
    error_response,
    iso,
    never_finishes,
    read_json_object,
)
from darkroom_tools.emulators.record import Deliver, Delivery

if TYPE_CHECKING:
    from starlette.requests import Request

TEST_KEY = "claid-sandbox-key"
"""No document shows a key's form."""

UNSCOPED_KEY = "claid-sandbox-key-without-image-editing"
"""A key for the other products: 403."""

PREFIXES = ("/v1-beta1", "/v1")

TMP_URL_SECONDS = 24 * 60 * 60.0

PROCESSING_SECONDS = 4.0  # invented: no duration is documented
SHORTEST, LONGEST = 0.6, 1.5
"""An edit takes between these shares of PROCESSING_SECONDS."""

ACCEPTED_SHARE = 0.2
"""The share of its time that a task is ACCEPTED; then it is PROCESSING."""

PIXEL_LIMIT = 60_000_000  # invented: a result with more pixels is an error
FAIL_TRIGGER = "fails-in-processing"
"""An input address that contains this is retrieved, and its processing ends with ERROR."""

Forced = Literal["WAITING", "PAUSED", "CANCELLED"]
KeyedHandler = Callable[["Request", str], Awaitable[Response]]


class _EditFailedError(Exception):
    """The task ends with ERROR."""


@dataclass(slots=True, kw_only=True)
class _Task:
    id: int
    key: str
    request: dict[str, object]
    created_at: float
    starts_at: float
    finishes_at: float
    token: str
    filename: str
    status: Literal["ACCEPTED", "ERROR", "DONE"] = "ACCEPTED"
    forced: Forced | None = None
    input_object: dict[str, object] | None = None
    output_object: dict[str, object] | None = None
    errors: list[dict[str, object]] = field(default_factory=list[dict[str, object]])
    source: bytes = b""
    style: bytes | None = None
    rendered: bytes | None = None


class ClaidEmulator(Emulator):
    """Claid.

    Beside what every emulator takes:

    keys: API key -> its scopes ("image_editing" is the one that counts here).
    calls: API calls left to the account; None: any number.
    limits: (requests, seconds) pairs; some pages say 30 a minute and 1 a second.
    quirks: answers as in the document's examples and tables where those look like slips: "pnj",
        ``errors[].created_at`` as integer, lower-case ``format``, "av1".
    charge_errors: a task that ends with ERROR is paid for all the same.
    storages: names of connected storages; ``stored`` holds what was written to them.
    webhook_url: the account's webhook, webhook_events which tasks it hears of, webhook_secret what
        it is signed with, signature_encoding how the signature is written (no document says).
    """

    name = "claid"

    def __init__(
        self,
        *,
        clock: Clock,
        base_url: str,
        fetch: Fetch,
        seed: int = 0,
        time_scale: float = 1.0,
        offload: Offload | None = None,
        keys: Mapping[str, Collection[str]] | None = None,
        calls: int | None = None,
        limits: Sequence[tuple[int, float]] = RATE_LIMITS,
        quirks: bool = False,
        charge_errors: bool = True,
        storages: Collection[str] = (),
        deliver: Deliver | None = None,
        webhook_url: str | None = None,
        webhook_events: Collection[Literal["DONE", "ERROR"]] = ("DONE", "ERROR"),
        webhook_secret: str | None = None,
        signature_encoding: Encoding = "hex",
    ) -> None:
        super().__init__(
            clock=clock,
            base_url=base_url,
            fetch=fetch,
            seed=seed,
            time_scale=time_scale,
            offload=offload,
        )
        scopes: dict[str, Collection[str]] = {
            TEST_KEY: ("image_editing",),
            UNSCOPED_KEY: ("storage",),
        }
        self.keys = dict(scopes if keys is None else keys)
        self.calls = calls
        self.stored: dict[str, bytes] = {}
        self.deliveries: list[Delivery] = []
        self._limits = RateLimits(limits)
        self._quirks = quirks
        self._charge_errors = charge_errors
        self._storages = frozenset(storages)
        self._deliver = deliver
        self._webhook_url = webhook_url
        self._webhook_events = frozenset(webhook_events)
        self._webhook_secret = webhook_secret
        self._signature_encoding: Encoding = signature_encoding
        self._settling = anyio.Lock()
        self._tasks: dict[int, _Task] = {}
        self._unsettled: list[_Task] = []
        self._by_token: dict[str, _Task] = {}

    def operations(self) -> list[tuple[str, str, str, Handler]]:
        """Return submit and result under both prefixes, and where results are fetched from."""
        table: list[tuple[str, str, str, Handler]] = [
            ("GET", "/temporary/{token}/{filename}", "download", self._download),
        ]
        for prefix in PREFIXES:
            path = f"{prefix}/image/edit/async"
            table += [
                ("POST", path, "submit", self._guarded(partial(self._submit, path))),
                ("GET", path + "/{task_id}", "result", self._guarded(self._result)),
            ]
        return table

    def not_found(self) -> ProviderError:
        """Return the answer to a path that Claid does not have."""
        error = refusal(404, "0", "web", "Not Found")  # invented: the code
        error.headers["x-request-id"] = self._request_id()
        return error

    def force_status(self, task_id: int, status: Forced | None) -> None:
        """Hold a task in WAITING or PAUSED, or cancel it; None lets it go on by the clock."""
        self._tasks[task_id].forced = status

    async def settle(self) -> None:
        """Bring every task up to the clock: retrieve, measure, tell the webhook."""
        async with self._settling:
            due = [
                task
                for task in self._unsettled
                if task.forced is None and task.finishes_at <= self.clock()
            ]
            for task in sorted(due, key=lambda task: task.finishes_at):
                try:
                    await self._process(task)
                except (FetchFailedError, _EditFailedError) as error:
                    self._fail(task, str(error))
                else:
                    task.status = "DONE"
                self._unsettled.remove(task)
                await self._notify(task)

    async def _process(self, task: _Task) -> None:
        address = cast("str", task.request["input"])
        task.source = await self._retrieve(address)
        shown, size = await self.offload(partial(measure, task.source))
        task.input_object = self._object(shown, size, "pnj" if shown == "JPEG" else None)
        if FAIL_TRIGGER in address:
            raise _EditFailedError("Image processing failed.")  # invented: the wording
        operations = cast("dict[str, object]", task.request["operations"])
        reference = style_reference(operations)
        if reference is not None:
            task.style = await self._retrieve(reference)
            await self.offload(partial(pictures.decode, task.style))
        size = output_size(size, operations)
        if size[0] * size[1] > PIXEL_LIMIT:
            raise _EditFailedError("The resulting image is too large.")  # invented: the wording
        written = output_format(task.request.get("output"))
        slip = "av1" if written == "avif" else None
        described = self._object(written.upper(), size, slip)
        task.output_object = described | await self._placed(task)

    async def _retrieve(self, address: str) -> bytes:
        stored = self.stored.get(address)
        return stored if stored is not None else await self.fetch(address)

    async def _placed(self, task: _Task) -> dict[str, object]:
        """Return where the result is: at a temporary address, or in a connected storage."""
        output = task.request.get("output")
        destination = (
            cast("dict[str, object]", output).get("destination")
            if isinstance(output, dict)
            else output
        )
        if destination is None:
            name = quote(task.filename, safe="")
            return {"tmp_url": f"{self.base_url}/temporary/{task.token}/{name}"}
        storage, _, folder = cast("str", destination).removeprefix("storage://").partition("/")
        if storage not in self._storages:
            raise _EditFailedError("Storage not found.")  # invented: the wording
        key = f"{folder.rstrip('/')}/{task.filename}".lstrip("/")
        address = f"storage://{storage}/{key}"
        self.stored[address] = await self._rendered(task)
        return {"object_key": key, "object_bucket": storage, "claid_storage_uri": address}

    def _fail(self, task: _Task, message: str) -> None:
        task.status = "ERROR"
        at = task.finishes_at
        created: object = int(at) if self._quirks else iso(at, digits=6, zulu=False)
        task.errors = [{"error": message, "created_at": created, "input_object": task.input_object}]
        if not self._charge_errors:
            self.charge(str(task.id), -1, "calls")
            self.calls = None if self.calls is None else self.calls + 1

    def _object(self, shown: str, size: tuple[int, int], slip: str | None) -> dict[str, object]:
        """Describe a picture; ``slip`` is the extension that the document has for it."""
        low = shown.lower()
        return {
            "ext": slip if self._quirks and slip is not None else low,
            "mps": size[0] * size[1] / 1_000_000,
            "mime": f"image/{low}",
            "format": low if self._quirks else shown,
            "width": size[0],
            "height": size[1],
        }

    async def _notify(self, task: _Task) -> None:
        if self._deliver is None or self._webhook_url is None:
            return
        if task.status not in self._webhook_events:
            return
        body = json.dumps({"data": self._data(task)}).encode()
        headers = webhook_headers(body, self._webhook_secret, self._signature_encoding)
        status = await self._deliver(self._webhook_url, body, headers)
        self.deliveries.append(
            Delivery(
                at=self.clock(), url=self._webhook_url, body=body, headers=headers, status=status
            )
        )

    def _guarded(self, handler: KeyedHandler) -> Handler:
        """Authenticate and pace a request; give every answer its id and what is left."""

        async def answer(request: Request) -> Response:
            left = self._limits.untouched()
            try:
                key = self._key(request)
                left = self._limits.take(key, self.clock())
                if left.refused:
                    raise rate_limited()
                if "image_editing" not in self.keys[key]:
                    # invented: the code and the wording
                    raise refusal(403, "112", "auth", "Not enough permissions.")
                await self.settle()
                response = await handler(request, key)
            except ProviderError as error:
                response = error_response(error)
            response.headers.update({"x-request-id": self._request_id(), **left.headers})
            return response

        return answer

    def _request_id(self) -> str:
        return str(uuid.UUID(int=self.random.getrandbits(128), version=4))

    def _key(self, request: Request) -> str:
        scheme, _, key = request.headers.get("authorization", "").partition(" ")
        if scheme != "Bearer" or key not in self.keys:
            raise refusal(401, "111", "auth", "Authorization is required.")
        return key

    async def _submit(self, path: str, request: Request, key: str) -> Response:
        try:
            json.loads(await request.body())
        except (ValueError, RecursionError):
            # invented: the code
            raise refusal(400, "1000", "general", "The body is not valid JSON.") from None
        is_json = request.headers.get("content-type", "").startswith("application/json")
        body = await read_json_object(request) if is_json else None
        wrong = problems(body)
        if wrong or body is None:
            raise invalid(wrong)
        if self.calls is not None:
            if self.calls < 1:
                # invented: the code and the wording
                raise refusal(402, "1100", "billing", "No API calls left.")
            self.calls -= 1
        task = self._accept(body, key, endless=never_finishes(request))
        self.charge(str(task.id), 1, "calls")  # invented: one call for any edit
        return JSONResponse(
            {
                "data": {
                    "id": task.id,
                    "status": "ACCEPTED",
                    "result_url": f"{self.base_url}{path}/{task.id}",
                    "created_at": iso(task.created_at, digits=6, zulu=False),
                    "request": body,
                }
            }
        )

    def _accept(self, body: dict[str, object], key: str, *, endless: bool) -> _Task:
        now = self.clock()
        took = PROCESSING_SECONDS * self.random.uniform(SHORTEST, LONGEST) * self.time_scale
        last = cast("str", body["input"]).split("?")[0].split("#")[0].rpartition("/")[2]
        stem = last.rpartition(".")[0] or last or "image"
        task = _Task(
            id=len(self._tasks) + 1,
            key=key,
            request=body,
            created_at=now,
            starts_at=now + took * ACCEPTED_SHARE,
            finishes_at=math.inf if endless else now + took,
            token=self.hex_id(),
            filename=f"{stem}.{output_format(body.get('output'))}",
        )
        self._tasks[task.id] = self._by_token[task.token] = task
        self._unsettled.append(task)
        return task

    async def _result(self, request: Request, key: str) -> Response:
        written = cast("str", request.path_params["task_id"])
        if not (written.isascii() and written.isdigit()):
            raise invalid({"task_id": ["value is not a valid integer"]})
        task = self._tasks.get(int(written)) if len(written) < len(str(2**63)) else None
        if task is None or task.key != key:
            # invented: the code; the wording is that of the documented batch edit
            raise refusal(404, "3000", "image", "Async image edit pipeline not found.")
        return JSONResponse({"data": self._data(task)})

    def _data(self, task: _Task) -> dict[str, object]:
        status: str = task.status
        if status == "ACCEPTED" and self.clock() >= task.starts_at:
            status = "PROCESSING"
        result = {"input_object": task.input_object, "output_object": task.output_object}
        return {
            "id": task.id,
            "status": task.forced or status,
            "created_at": iso(task.created_at, digits=6, zulu=False),
            "request": task.request,
            "errors": task.errors,
            "result": result if task.output_object is not None else {},
        }

    async def _download(self, request: Request) -> Response:
        task = self._by_token.get(request.path_params["token"])
        if task is None or "tmp_url" not in (task.output_object or {}):
            raise self.not_found()
        if request.path_params["filename"] != task.filename:
            raise self.not_found()
        if self.clock() >= task.finishes_at + TMP_URL_SECONDS:
            return access_denied("Request has expired")
        media_type = f"image/{output_format(task.request.get('output'))}"
        return Response(await self._rendered(task), media_type=media_type)

    async def _rendered(self, task: _Task) -> bytes:
        if task.rendered is None:
            task.rendered = await self.offload(partial(_render, task))
        return task.rendered


def _render(task: _Task) -> bytes:
    operations = cast("dict[str, object]", task.request["operations"])
    edited = edit(task.source, operations, task.style)
    return write(pictures.stamp(edited, ClaidEmulator.name), task.request.get("output"))
