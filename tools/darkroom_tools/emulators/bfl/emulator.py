"""Black Forest Labs' API, as its pages and its OpenAPI show it.

A prompt with BLOCKED_TRIGGER is moderated, with FAIL_TRIGGER it ends with an error.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Literal, cast

from starlette.responses import JSONResponse, Response

from darkroom_tools.emulators import pictures
from darkroom_tools.emulators.kit import (
    Clock,
    Emulator,
    Fetch,
    FetchFailedError,
    Handler,
    Offload,
    ProviderError,
    never_finishes,
    read_json_object,
)

if TYPE_CHECKING:
    from starlette.requests import Request

TEST_KEY = "bfl_sandbox_not_a_real_key"

BLOCKED_TRIGGER = "blocked-output"
FAIL_TRIGGER = "fails-in-processing"

CREDITS = {
    "flux-2-pro": 3.0,
    "flux-2-max": 7.0,
    "flux-2-flex": 5.0,
    "flux-2-klein-4b": 1.4,
    "flux-2-klein-9b": 1.5,
    "flux-tools/vto-v2": 6.0,  # invented: the page has no price
}
FURTHER = {
    "flux-2-pro": 1.5,
    "flux-2-max": 3.0,
    "flux-2-flex": 5.0,
    "flux-2-klein-4b": 0.1,
    "flux-2-klein-9b": 0.2,
}
PICTURE_ARGUMENTS = ("input_image", *(f"input_image_{number}" for number in range(2, 9)))
ACTIVE_TASKS = 24
ADDRESS_SECONDS = 600
SECONDS, SHORTEST, LONGEST = 8.0, 0.7, 1.4
MEGAPIXEL = 1_048_576
STEP, LEAST_SIDE, MOST_PIXELS = 16, 64, 4_194_304


@dataclass(slots=True, kw_only=True)
class _Task:
    id: str
    model: str
    input: dict[str, object]
    cost: float
    began_at: float
    ends_at: float
    picture: bytes | None = None

    @property
    def prompt(self) -> str:
        return str(self.input["prompt"])


class BflEmulator(Emulator):
    """Black Forest Labs.

    Beside what every emulator takes:

    credits: what the organisation has.
    error_shape: errors as FastAPI's ``detail``, or as the agents' pages show them.
    error_status: HTTP status of a poll whose job ended with an error.
    running_word: what a task is called while it runs.
    active_tasks: further ones are refused with 429.
    """

    name = "bfl"

    def __init__(
        self,
        *,
        clock: Clock,
        base_url: str,
        fetch: Fetch,
        seed: int = 0,
        time_scale: float = 1.0,
        offload: Offload | None = None,
        credits: float = 1_000.0,  # noqa: A002 -- the provider's word
        error_shape: Literal["detail", "error"] = "detail",
        error_status: int = 200,
        running_word: str = "Pending",
        active_tasks: int = ACTIVE_TASKS,
    ) -> None:
        super().__init__(
            clock=clock,
            base_url=base_url,
            fetch=fetch,
            seed=seed,
            time_scale=time_scale,
            offload=offload,
        )
        self.tasks: dict[str, _Task] = {}
        self.credits = credits
        self._error_shape = error_shape
        self._error_status = error_status
        self._running_word = running_word
        self._active_tasks = active_tasks

    def operations(self) -> list[tuple[str, str, str, Handler]]:
        """Return the operations; a poll goes to another cluster than the submission."""
        return [
            ("GET", "/v1/credits", "credits", self._credits),
            ("GET", "/v1/get_result", "wrong_cluster", self._wrong_cluster),
            ("GET", "/eu2/v1/get_result", "poll", self._poll),
            ("GET", "/delivery/{id}", "download", self._download),
            ("POST", "/v1/{model:path}", "submit", self._submit),
        ]

    def not_found(self) -> ProviderError:
        """Return the answer to a path that there is not."""
        return ProviderError(404, {"detail": "Not Found"})

    async def _submit(self, request: Request) -> Response:
        self._authorise(request)
        model, body = request.path_params["model"], await read_json_object(request)
        if model not in CREDITS:
            raise self.not_found()
        if body is None:
            raise ProviderError(422, {"detail": [_entry("body", "invalid JSON", "json_invalid")]})
        if wrong := _mistakes(model, body):
            raise ProviderError(422, {"detail": wrong})
        now = self.clock()
        if sum(now < task.ends_at for task in self.tasks.values()) >= self._active_tasks:
            raise self._error(429, "rate_limit_exceeded", "Too many active tasks")
        pixels = cast("int", body.get("width", 1024)) * cast("int", body.get("height", 1024))
        given = sum(name in body for name in PICTURE_ARGUMENTS)
        beyond = max(0.0, pixels / MEGAPIXEL - 1) + given
        cost = round(CREDITS[model] + beyond * FURTHER.get(model, 0.0), 2)
        if cost > self.credits:
            raise self._error(402, "insufficient_credits", "Insufficient credits")
        took = SECONDS * self.random.uniform(SHORTEST, LONGEST) * self.time_scale
        task = _Task(
            id=self.hex_id(),
            model=model,
            input=body,
            cost=cost,
            began_at=now,
            ends_at=math.inf if never_finishes(request) else now + took,
        )
        self.tasks[task.id] = task
        if BLOCKED_TRIGGER not in task.prompt:  # "not charged"
            self.credits -= cost
            self.charge(task.id, cost, "credits")
        return JSONResponse(
            {
                "id": task.id,
                "polling_url": f"{self.base_url}/eu2/v1/get_result?id={task.id}",
                "cost": cost,
                "input_mp": float(given),
                "output_mp": round(pixels / MEGAPIXEL, 2),
            }
        )

    async def _poll(self, request: Request) -> Response:
        self._authorise(request)
        task = self.tasks.get(request.query_params.get("id", ""))
        if task is None:
            return self._missing(request)
        now = self.clock()
        shown: dict[str, object] = {
            "id": task.id,
            "status": self._running_word,
            "result": None,
            "progress": None,
            "details": None,
            "preview": None,
        }
        if now < task.ends_at:
            if math.isfinite(task.ends_at):
                span = task.ends_at - task.began_at
                shown["progress"] = round((now - task.began_at) / span, 2) if span else 0.0
            return JSONResponse(shown)
        if BLOCKED_TRIGGER in task.prompt:
            reasons = {"Moderation Reasons": ["Derivative Works Filter"]}
            return JSONResponse({**shown, "status": "Content Moderated", "details": reasons})
        if FAIL_TRIGGER in task.prompt:
            failed = {**shown, "status": "Error", "details": {"error": "Generation failed"}}
            return JSONResponse(failed, status_code=self._error_status)
        if task.picture is None:
            try:
                task.picture = await self._make(task)
            except FetchFailedError:
                failed = {**shown, "status": "Error", "details": {"error": "Image download failed"}}
                return JSONResponse(failed, status_code=self._error_status)
        sample = f"{self.base_url}/delivery/{task.id}?sig={self.hex_id(8)}"
        seed = cast("int", task.input.get("seed", 7))
        result = {"sample": sample, "prompt": task.prompt, "seed": seed, "duration": 3.1}
        return JSONResponse({**shown, "status": "Ready", "result": result})

    async def _wrong_cluster(self, request: Request) -> Response:
        self._authorise(request)
        return self._missing(request)

    @staticmethod
    def _missing(request: Request) -> Response:
        # invented: its HTTP status
        return JSONResponse(
            {"id": request.query_params.get("id", ""), "status": "Task not found", "result": None}
        )

    async def _make(self, task: _Task) -> bytes:
        fields = task.input
        names = ("person", "garment", *PICTURE_ARGUMENTS)
        sources = [await self.fetch(str(fields[name])) for name in names if name in fields]
        return await self.offload(partial(_draw, task.model, fields, sources))

    async def _credits(self, request: Request) -> Response:
        self._authorise(request)
        return JSONResponse({"credits": round(self.credits, 2)})

    async def _download(self, request: Request) -> Response:
        task = self.tasks.get(request.path_params["id"])
        if task is None or task.picture is None:
            return Response(status_code=404)
        if self.clock() > task.ends_at + ADDRESS_SECONDS:  # invented: the status
            return Response(status_code=403)
        kind = cast("str", task.input.get("output_format", "jpeg"))
        return Response(task.picture, media_type=f"image/{kind}")

    def _authorise(self, request: Request) -> None:
        if request.headers.get("x-key") != TEST_KEY:
            raise ProviderError(403, {"detail": "Not authenticated"})

    def _error(self, status: int, code: str, message: str) -> ProviderError:
        if self._error_shape == "detail":
            return ProviderError(status, {"detail": message})
        body: dict[str, object] = {"error": code, "message": message}
        return ProviderError(status, {**body, "retry_after": 5} if status == 429 else body)  # noqa: PLR2004 -- too many


def _entry(where: str, message: str, kind: str) -> dict[str, object]:
    return {"loc": ["body", where], "msg": message, "type": kind}


def _mistakes(model: str, body: dict[str, object]) -> list[dict[str, object]]:
    required = ("prompt", "person", "garment") if model.startswith("flux-tools/") else ("prompt",)
    wrong = [_entry(name, "Field required", "missing") for name in required if name not in body]
    wrong += [
        _entry(name, "Input should be a valid string", "string_type")
        for name in ("prompt", "person", "garment", *PICTURE_ARGUMENTS)
        if name in body and not isinstance(body[name], str)
    ]
    sides: list[int] = []
    for name in ("width", "height"):
        side = body.get(name, 1024)
        if not isinstance(side, int) or side % STEP or side < LEAST_SIDE:
            wrong.append(_entry(name, "Input should be a multiple of 16", "multiple_of"))
        else:
            sides.append(side)
    if math.prod(sides) > MOST_PIXELS:
        wrong.append(_entry("width", "Too many pixels", "value_error"))
    if body.get("output_format", "jpeg") not in {"jpeg", "png", "webp"}:
        wrong.append(_entry("output_format", "Input should be jpeg, png or webp", "enum"))
    if "klein" in model and any(name in body for name in PICTURE_ARGUMENTS[4:]):
        wrong.append(_entry("input_image_5", "At most 4 images", "value_error"))
    return wrong


def _draw(model: str, fields: dict[str, object], sources: list[bytes]) -> bytes:
    kind = cast("pictures.Format", fields.get("output_format", "jpeg"))
    if model.startswith("flux-tools/"):
        image = pictures.compose_tryon(sources[0], sources[1])
    elif sources:
        image = pictures.decode(sources[0]).convert("RGB")
    else:
        width, height = (cast("int", fields.get(side, 1024)) for side in ("width", "height"))
        seed = cast("int", fields.get("seed", 7))
        image = pictures.scene(str(fields["prompt"]), seed, width, height)
    return pictures.encode(pictures.stamp(image, "bfl"), kind)
