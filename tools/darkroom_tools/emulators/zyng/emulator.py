"""Zyng AI: register a request, hand in images one by one, poll what has come back.

Documented: two operations on one path told apart by ``task``; requests beyond the tier queue and
are never refused; the results list holds successes only, so a failed image simply never appears.
The documents show no error at all: every refusal here is invented and can be exchanged.
"""

from __future__ import annotations

import itertools
import json
import math
import re
import uuid
from collections import defaultdict, deque
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Literal, cast
from urllib.parse import quote

import anyio
from starlette.responses import JSONResponse, PlainTextResponse, Response

from darkroom_tools.emulators import pictures
from darkroom_tools.emulators.kit import (
    Clock,
    Emulator,
    Fetch,
    FetchFailedError,
    Handler,
    Offload,
    ProviderError,
    access_denied,
    never_finishes,
    read_json_object,
)
from darkroom_tools.emulators.record import Deliver, Delivery
from darkroom_tools.emulators.zyng.workflows import WORKFLOWS, workflow_of

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Mapping

    from starlette.requests import Request

TEST_KEYS: dict[str, int] = {f"zyng-sandbox-key-tier-{tier}": tier for tier in (1, 2, 3)}
"""Key -> tier. No document shows a key's form."""

TEST_KEY = "zyng-sandbox-key-tier-1"

REQUESTS_PER_MINUTE = {1: 10, 2: 100, 3: 1000}
WEBHOOK_TIERS = (2, 3)
WINDOW_SECONDS = 60.0

PROCESSING_SECONDS = 5.0  # invented: no duration is documented
SHORTEST, LONGEST = 0.5, 1.5
"""An image takes between these shares of PROCESSING_SECONDS."""

NEVER_TRIGGER = "never-completes"
"""An image whose name contains this is accepted and never comes back."""

FORMATS: dict[str, tuple[pictures.Format, str]] = {
    "jpeg": ("jpeg", "jpg"),
    "jpg": ("jpeg", "jpg"),
    "png": ("png", "png"),
    "tiff": ("tiff", "tiff"),
    "webp": ("webp", "webp"),
}
"""outputDetails.format -> what is written, and the extension."""

PICTURE_SUFFIXES = frozenset(
    ["avif", "bmp", "gif", "heic", "jpeg", "jpg", "png", "tif", "tiff", "webp"]
)

Situation = Literal[
    "unauthorized", "bad_request", "unknown_rid", "unknown_rid_polled", "mismatch", "duplicate"
]

# invented: all of them; no document shows an answer to a request that is wrong
ANSWERS: dict[Situation, tuple[int, object]] = {
    "unauthorized": (401, {"error": "Unauthorized"}),
    "bad_request": (400, {"error": "Bad request"}),
    "unknown_rid": (404, {"error": "Unknown rid"}),
    "unknown_rid_polled": (200, []),
    "mismatch": (400, {"error": "workflowDetails and outputDetails must be as registered"}),
    "duplicate": (400, {"error": "image_name is not unique within the request"}),
}


def result_name(image_name: str, extension: str) -> str:
    """Return the image's name without a picture's suffix, and the extension of the result."""
    # invented: "often derived from the image_name" is all that is said
    stem, _, suffix = image_name.rpartition(".")
    if not stem or suffix.lower() not in PICTURE_SUFFIXES:
        stem = image_name
    return f"{stem}.{extension}"


def underscored_name(image_name: str, extension: str) -> str:
    """Return the image's name with an underscore for whatever is no letter, digit, point or hyphen."""
    # invented: one way in which a name may be "derived from the image_name"
    return result_name(re.sub(r"[^\w.-]+", "_", image_name), extension)


def numbered_names() -> Callable[[str, str], str]:
    """Return what calls results by a number, in the order of the requests."""
    # invented: "often derived" leaves room for names that say nothing of the image
    serial = itertools.count(1)
    return lambda _, extension: f"result_{next(serial):05}.{extension}"


@dataclass(slots=True, kw_only=True)
class _Image:
    token: str
    name: str
    link: str
    finishes_at: float
    source: bytes = b""
    rendered: bytes | None = None


@dataclass(slots=True, kw_only=True)
class _Registration:
    rid: str
    key: str
    details: str
    workflow: str
    format: pictures.Format
    extension: str
    names: set[str] = field(default_factory=set[str])
    pending: list[_Image] = field(default_factory=list[_Image])
    listed: list[_Image] = field(default_factory=list[_Image])


class ZyngEmulator(Emulator):
    """Zyng AI.

    Beside what every emulator takes:

    keys: API key -> tier (1, 2, 3).
    answers: what is answered in a situation that no document describes, over ANSWERS.
    on_mismatch: details that differ from the registered ones are refused, or the image is
        accepted and never comes back ("never"), or processed as registered ("accept").
    on_duplicate: an image name used twice is processed (and paid) again, or refused.
    counted: which operations count against the tier's requests a minute.
    result_name: how a result is called, from the image's name and the extension; a name that is
        derived in another way is `underscored_name` or one of `numbered_names`.
    plain_confirmation: "Processing Images" as plain text instead of a JSON string.
    layers: what results say about layer information.
    result_seconds: how long a result's address is good; None: for ever.
    charge_when: an image is paid for when it is accepted, or when it has come back.
    webhooks: API key -> address (tiers 2 and 3 only); webhook_when: after each image, or when no
        image of the request is left to wait for.
    """

    name = "zyng"

    def __init__(
        self,
        *,
        clock: Clock,
        base_url: str,
        fetch: Fetch,
        seed: int = 0,
        time_scale: float = 1.0,
        offload: Offload | None = None,
        keys: Mapping[str, int] | None = None,
        answers: Mapping[Situation, tuple[int, object]] | None = None,
        on_mismatch: Literal["refuse", "never", "accept"] = "refuse",
        on_duplicate: Literal["accept", "refuse"] = "accept",
        counted: Collection[str] = ("process_image",),
        result_name: Callable[[str, str], str] = result_name,
        plain_confirmation: bool = False,
        layers: bool = False,
        result_seconds: float | None = None,
        charge_when: Literal["accepted", "completed"] = "accepted",
        deliver: Deliver | None = None,
        webhooks: Mapping[str, str] | None = None,
        webhook_when: Literal["each", "all"] = "each",
    ) -> None:
        super().__init__(
            clock=clock,
            base_url=base_url,
            fetch=fetch,
            seed=seed,
            time_scale=time_scale,
            offload=offload,
        )
        self.keys = dict(TEST_KEYS if keys is None else keys)
        self._replaced: dict[str, str] = {}
        self.deliveries: list[Delivery] = []
        self._answers = {**ANSWERS, **(answers or {})}
        self._on_mismatch = on_mismatch
        self._on_duplicate = on_duplicate
        self._counted = frozenset(counted)
        self._result_name = result_name
        self._plain_confirmation = plain_confirmation
        self._layers = layers
        self._result_seconds = result_seconds
        self._charge_when = charge_when
        self._deliver = deliver
        self._webhooks = dict(webhooks or {})
        self._webhook_when = webhook_when
        self._settling = anyio.Lock()
        self._registrations: dict[str, _Registration] = {}
        self._results: dict[str, tuple[_Registration, _Image]] = {}
        self._starts: defaultdict[str, deque[float]] = defaultdict(deque)

    def operations(self) -> list[tuple[str, str, str, Handler]]:
        """Return the two documented paths, and where results are fetched from."""
        return [
            ("POST", "/process_image", "process_image", self._process),
            ("GET", "/poll_results", "poll_results", self._poll),
            ("GET", "/processed/{token}/{name:path}", "download", self._download),
        ]

    async def operation_of(self, routed: str, request: Request) -> str:
        """Tell registering from processing: they share a path and differ in ``task``."""
        if routed != "process_image":
            return routed
        body = await read_json_object(request) or {}
        return "register_request" if body.get("task") == "register_request" else routed

    def replace_key(self, old: str, new: str) -> None:
        """Give the account of ``old`` another key, as its owner does on the provider's own page."""
        self.keys[new] = self.keys.pop(old)
        self._replaced[old] = new
        self._starts[new] = self._starts.pop(old, deque())
        for registration in self._registrations.values():
            if registration.key == old:
                registration.key = new

    async def settle(self) -> None:
        """Bring every image up to the clock: fetch what is due, list it, tell the webhook."""
        async with self._settling:
            for registration in list(self._registrations.values()):
                await self._settle(registration)

    async def _settle(self, registration: _Registration) -> None:
        due = [image for image in registration.pending if image.finishes_at <= self.clock()]
        for image in sorted(due, key=lambda image: image.finishes_at):
            try:
                image.source = await self.fetch(image.link)
                await self.offload(partial(pictures.decode, image.source))
            except FetchFailedError:
                registration.pending.remove(image)
                continue
            registration.pending.remove(image)
            registration.listed.append(image)
            self._results[image.token] = (registration, image)
            if self._charge_when == "completed":
                self.charge(registration.rid, 1, "images")
            if self._webhook_when == "each":
                await self._notify(registration)
        waiting = any(math.isfinite(image.finishes_at) for image in registration.pending)
        if due and not waiting and self._webhook_when == "all":
            await self._notify(registration)

    async def _notify(self, registration: _Registration) -> None:
        url = self._webhooks.get(registration.key)
        tier = self.keys.get(registration.key)
        if url is None or self._deliver is None or tier not in WEBHOOK_TIERS:
            return
        # "the same response format as the polling endpoint"; no signature, no retry is documented
        body = json.dumps(self._listing(registration)).encode()
        headers = {"content-type": "application/json"}
        status = await self._deliver(url, body, headers)
        self.deliveries.append(
            Delivery(at=self.clock(), url=url, body=body, headers=headers, status=status)
        )

    async def _process(self, request: Request) -> Response:
        key = self._key(request)
        await self.settle()
        if not request.headers.get("content-type", "").startswith("application/json"):
            raise self._answer("bad_request")
        body = await read_json_object(request) or {}
        key = self._replaced.get(key, key)  # while the request was being read
        details = (body.get("workflowDetails"), body.get("outputDetails"))
        if not all(isinstance(each, dict) for each in details):
            raise self._answer("bad_request")
        match body.get("task"):
            case "register_request":
                workflow, output = cast("tuple[dict[str, object], dict[str, object]]", details)
                return self._register(key, workflow, output)
            case "process_image":
                return self._accept(request, key, body, json.dumps(details))
            case _:
                raise self._answer("bad_request")

    def _register(
        self, key: str, workflow: dict[str, object], output: dict[str, object]
    ) -> Response:
        rid = str(uuid.UUID(int=self.random.getrandbits(128), version=4))
        # invented: outputDetails is opaque; ``format`` is read if it is there
        written, extension = FORMATS.get(str(output.get("format", "png")).lower(), FORMATS["png"])
        self._registrations[rid] = _Registration(
            rid=rid,
            key=key,
            details=json.dumps((workflow, output)),
            workflow=workflow_of(workflow),
            format=written,
            extension=extension,
        )
        if "register_request" in self._counted:
            self._start(key)
        return JSONResponse({"rid": rid})

    def _accept(
        self, request: Request, key: str, body: Mapping[str, object], details: str
    ) -> Response:
        rid, link, name = (body.get(each) for each in ("rid", "imglink", "image_name"))
        if not (isinstance(rid, str) and isinstance(link, str) and isinstance(name, str)):
            raise self._answer("bad_request")
        if not (rid and link and name):
            raise self._answer("bad_request")
        registration = self._registrations.get(rid)
        if registration is None or registration.key != key:
            raise self._answer("unknown_rid")
        # The strictest reading of "the exact same object": the order of keys counts too.
        same = details == registration.details
        if not same and self._on_mismatch == "refuse":
            raise self._answer("mismatch")
        if name in registration.names and self._on_duplicate == "refuse":
            raise self._answer("duplicate")
        started = self._start(key) if "process_image" in self._counted else self.clock()
        took = PROCESSING_SECONDS * self.random.uniform(SHORTEST, LONGEST) * self.time_scale
        lost = NEVER_TRIGGER in name or (not same and self._on_mismatch == "never")
        registration.names.add(name)
        registration.pending.append(
            _Image(
                token=self.hex_id(),
                name=self._result_name(name, registration.extension),
                link=link,
                finishes_at=math.inf if lost or never_finishes(request) else started + took,
            )
        )
        if self._charge_when == "accepted":  # invented: the documents do not speak of money
            self.charge(rid, 1, "images")
        if self._plain_confirmation:
            return PlainTextResponse("Processing Images")
        return JSONResponse("Processing Images")

    async def _poll(self, request: Request) -> Response:
        key = self._key(request)
        if "poll_results" in self._counted:
            self._start(key)
        rid = request.query_params.get("rid")
        if not rid:
            raise self._answer("bad_request")
        await self.settle()
        key = self._replaced.get(key, key)
        registration = self._registrations.get(rid)
        if registration is None or registration.key != key:
            raise self._answer("unknown_rid_polled")
        return JSONResponse(self._listing(registration))

    async def _download(self, request: Request) -> Response:
        registration, image = self._results.get(request.path_params["token"], (None, None))
        if registration is None or image is None or request.path_params["name"] != image.name:
            raise self.not_found()
        lifetime = self._result_seconds
        if lifetime is not None and self.clock() >= image.finishes_at + lifetime:
            return access_denied("Request has expired")
        if image.rendered is None:
            image.rendered = await self.offload(partial(_render, registration, image.source))
        return Response(image.rendered, media_type=f"image/{registration.format}")

    def _key(self, request: Request) -> str:
        scheme, _, key = request.headers.get("authorization", "").partition(" ")
        if scheme != "Bearer" or key not in self.keys:
            raise self._answer("unauthorized")
        return key

    def _answer(self, situation: Situation) -> ProviderError:
        return ProviderError(*self._answers[situation])

    def _start(self, key: str) -> float:
        """Return when the queue lets this request through: at most the tier's number in 60 s."""
        starts, most = self._starts[key], REQUESTS_PER_MINUTE[self.keys[key]]
        at = self.clock()
        if len(starts) == most:
            at = max(at, starts.popleft() + WINDOW_SECONDS)
        starts.append(at)
        return at

    def _listing(self, registration: _Registration) -> list[dict[str, object]]:
        return [
            {
                "iid": f"{self.base_url}/processed/{image.token}/{quote(image.name, safe='')}",
                "layers": self._layers,
                "name": image.name,
                "rid": registration.rid,
            }
            for image in registration.listed
        ]


def _render(registration: _Registration, source: bytes) -> bytes:
    edited = WORKFLOWS[registration.workflow](pictures.decode(source))
    return pictures.encode(pictures.stamp(edited, ZyngEmulator.name), registration.format)
