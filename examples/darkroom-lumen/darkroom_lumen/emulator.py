"""Lumen as an application of our own, so that tests need neither its servers nor a key."""

from __future__ import annotations

import io
from dataclasses import dataclass
from typing import TYPE_CHECKING

from PIL import Image, ImageOps
from starlette.responses import JSONResponse, Response

from darkroom_tools.emulators.kit import (
    Emulator,
    FetchFailedError,
    Handler,
    ProviderError,
    iso,
    never_finishes,
    read_json_object,
)

if TYPE_CHECKING:
    from starlette.requests import Request

KEY = "lumen-test-key"
CREDITS = {2: 1, 4: 3}
WORKING_SECONDS = 10.0
ADDRESS_SECONDS = 3600.0


def error(status: int, code: str, message: str) -> ProviderError:
    """Make an error as Lumen's page shows it."""
    return ProviderError(status, {"error": {"code": code, "message": message}})


@dataclass(frozen=True)
class Upscale:
    """One job. What state it is in follows from the time."""

    id: str
    picture: bytes
    credits: int
    ready_at: float


class LumenEmulator(Emulator):
    """Enlarges pictures for real."""

    name = "lumen"
    balance = 100

    def operations(self) -> list[tuple[str, str, str, Handler]]:
        """Return Lumen's operations, and where its results are downloaded."""
        self._jobs: dict[str, Upscale] = {}
        return [
            ("POST", "/v1/upscales", "submit", self._submit),
            ("GET", "/v1/upscales/{id}", "check", self._check),
            ("GET", "/v1/balance", "balance", self._balance),
            ("GET", "/files/{id}.png", "download", self._download),
        ]

    def _authorise(self, request: Request) -> None:
        if request.headers.get("authorization") != f"Bearer {KEY}":
            raise error(401, "bad_key", "This key does not exist.")

    async def _submit(self, request: Request) -> Response:
        self._authorise(request)
        body = await read_json_object(request) or {}
        factor, address = body.get("factor", 2), body.get("image_url")
        if not isinstance(factor, int) or factor not in CREDITS or not isinstance(address, str):
            raise error(400, "bad_request", "image_url and factor (2 or 4) are needed.")
        if CREDITS[factor] > self.balance:
            raise error(402, "no_credits", "Please top up.")
        try:
            picture = enlarged(await self.fetch(address), factor)
        except (FetchFailedError, OSError):
            raise error(400, "bad_image", "There is no picture at image_url.") from None
        self.balance -= CREDITS[factor]
        seconds = float("inf") if never_finishes(request) else WORKING_SECONDS * self.time_scale
        job = Upscale(f"up_{self.hex_id(12)}", picture, CREDITS[factor], self.clock() + seconds)
        self._jobs[job.id] = job
        self.charge(job.id, job.credits, "credits")
        return JSONResponse({"id": job.id, "state": "waiting"}, status_code=202)

    async def _check(self, request: Request) -> Response:
        self._authorise(request)
        job = self._find(request)
        if self.clock() < job.ready_at:
            return JSONResponse({"id": job.id, "state": "working"})
        return JSONResponse(
            {
                "id": job.id,
                "state": "done",
                "url": f"{self.base_url}/files/{job.id}.png",
                "expires_at": iso(self.clock() + ADDRESS_SECONDS),
                "credits": job.credits,
            }
        )

    async def _balance(self, request: Request) -> Response:
        self._authorise(request)
        return JSONResponse({"credits": self.balance})

    async def _download(self, request: Request) -> Response:
        return Response(self._find(request).picture, media_type="image/png")

    def _find(self, request: Request) -> Upscale:
        try:
            return self._jobs[request.path_params["id"]]
        except KeyError:
            raise error(404, "not_found", "There is no such upscale.") from None


def enlarged(picture: bytes, factor: int) -> bytes:
    """Return the picture, ``factor`` times as wide and high, as PNG."""
    with Image.open(io.BytesIO(picture)) as image:
        larger = ImageOps.scale(image, factor)
    written = io.BytesIO()
    larger.save(written, "PNG")
    return written.getvalue()
