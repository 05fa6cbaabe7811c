"""fal's queue, as its pages and its own clients show it.

A prompt with BLOCKED_TRIGGER ends with a content refusal, with FAIL_TRIGGER with an error of the
model, with BLACK_TRIGGER with a black picture that is flagged.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Literal, cast

from PIL import Image
from starlette.responses import JSONResponse, Response

from darkroom_tools.emulators import pictures
from darkroom_tools.emulators.fal.models import MODELS, mistakes
from darkroom_tools.emulators.kit import (
    Clock,
    Emulator,
    Fetch,
    FetchFailedError,
    Handler,
    Offload,
    ProviderError,
    iso,
    never_finishes,
    read_json_object,
)

if TYPE_CHECKING:
    from starlette.requests import Request

TEST_KEY = "sandbox-key-id:not-a-real-secret"

BLOCKED_TRIGGER = "blocked-output"
FAIL_TRIGGER = "fails-in-processing"
BLACK_TRIGGER = "black-picture"

CONCURRENT_JOBS = 2
"""Of a new account; further jobs wait in the queue."""

FILE_SECONDS = 7 * 86_400
SHORTEST, LONGEST = 0.8, 1.25
OK, ACCEPTED = 200, 202
SECONDS_OF_FRAME = 24


@dataclass(slots=True, kw_only=True)
class _Job:
    id: str
    model: str
    input: dict[str, object]
    starts_at: float
    ends_at: float
    cancelled_at: float | None = None
    files: list[bytes] | None = None

    @property
    def app(self) -> str:
        inside = "/".join(self.model.split("/")[:1]) if self.namespaced else ""
        parts = (
            self.model.removeprefix(f"{inside}/").split("/") if inside else self.model.split("/")
        )
        return "/".join([inside, *parts[:2]] if inside else parts[:2])

    @property
    def namespaced(self) -> bool:
        return self.model.startswith(("workflows/", "comfy/"))

    @property
    def prompt(self) -> str:
        return str(self.input.get("prompt", ""))


class FalEmulator(Emulator):
    """fal.

    Beside what every emulator takes:

    concurrent_jobs: how many jobs run at once; the others are IN_QUEUE.
    failure: where a model's failure shows: in the "status" (``error``), or only in the "result".
    wraps_result: the result is wrapped as one old page shows it.
    running_status: HTTP status of a state before the end: 200 or 202.
    foreign_addresses: the addresses of a submission name another host (to see them refused).
    locked: the account has no credit.
    """

    name = "fal"

    def __init__(
        self,
        *,
        clock: Clock,
        base_url: str,
        fetch: Fetch,
        seed: int = 0,
        time_scale: float = 1.0,
        offload: Offload | None = None,
        concurrent_jobs: int = CONCURRENT_JOBS,
        failure: Literal["status", "result"] = "result",
        wraps_result: bool = False,
        running_status: int = ACCEPTED,
        foreign_addresses: str | None = None,
        locked: bool = False,
    ) -> None:
        super().__init__(
            clock=clock,
            base_url=base_url,
            fetch=fetch,
            seed=seed,
            time_scale=time_scale,
            offload=offload,
        )
        self.jobs: dict[str, _Job] = {}
        self.locked = locked
        self._concurrent_jobs = concurrent_jobs
        self._failure = failure
        self._wraps_result = wraps_result
        self._running_status = running_status
        self._foreign = foreign_addresses

    def operations(self) -> list[tuple[str, str, str, Handler]]:
        """Return the queue's operations, and where results are downloaded."""
        return [
            ("GET", "/files/{id}/{index:int}.{extension}", "download", self._download),
            ("GET", "/{app:path}/requests/{id}/status", "status", self._status),
            ("PUT", "/{app:path}/requests/{id}/cancel", "cancel", self._cancel),
            ("GET", "/{app:path}/requests/{id}", "result", self._result),
            ("POST", "/{model:path}", "submit", self._submit),
        ]

    def not_found(self) -> ProviderError:
        """Return the answer to a path that fal does not have."""
        return ProviderError(404, {"detail": "Not Found"})

    # --- the queue ---

    async def _submit(self, request: Request) -> Response:
        self._authorise(request)
        model = request.path_params["model"]
        body = await read_json_object(request)
        if body is None:
            raise self._invalid([{"loc": ["body"], "msg": "invalid JSON", "type": "json_invalid"}])
        if len(model.split("/")) < 2 or model.startswith("no-such"):  # noqa: PLR2004 -- owner and app
            raise ProviderError(404, {"detail": f"Application {model!r} not found"})
        if wrong := mistakes(model, body):
            raise self._invalid(wrong)
        job = self._queued(request, model, body)
        self.jobs[job.id] = job
        # invented: it is charged when it is accepted; a page says only that a 5xx is not
        self.charge(job.id, MODELS[model].price if model in MODELS else 0.10, "usd")
        return JSONResponse({**self._named(job), **self._place(job), "status": "IN_QUEUE"})

    def _queued(self, request: Request, model: str, body: dict[str, object]) -> _Job:
        """Return a job with its times: at most so many run at once, the others wait in order."""
        now = self.clock()
        ends = sorted(job.ends_at for job in self.jobs.values() if self._is_open(job, now))
        free_at = now if len(ends) < self._concurrent_jobs else ends[-self._concurrent_jobs]
        seconds = MODELS[model].seconds if model in MODELS else 10.0
        took = seconds * self.random.uniform(SHORTEST, LONGEST) * self.time_scale
        return _Job(
            id=f"{self.hex_id(8)}-{self.hex_id(4)}-4{self.hex_id(3)}-a{self.hex_id(3)}-{self.hex_id(12)}",
            model=model,
            input=body,
            starts_at=free_at,
            ends_at=math.inf if never_finishes(request) else free_at + took,
        )

    @staticmethod
    def _is_open(job: _Job, now: float) -> bool:
        return job.cancelled_at is None and now < job.ends_at

    def _named(self, job: _Job) -> dict[str, object]:
        base = f"{self._foreign or self.base_url}/{job.app}/requests/{job.id}"
        return {
            "request_id": job.id,
            "gateway_request_id": job.id,
            "response_url": base,
            "status_url": f"{base}/status",
            "cancel_url": f"{base}/cancel",
        }

    def _place(self, job: _Job) -> dict[str, object]:
        before = [
            other
            for other in self.jobs.values()
            if self.clock() < other.starts_at < job.starts_at and other.cancelled_at is None
        ]
        return {"queue_position": len(before)}

    async def _status(self, request: Request) -> Response:
        job, now = self._find(request), self.clock()
        named = self._named(job)
        if job.cancelled_at is not None:
            # invented: how a job looks after it was cancelled
            return JSONResponse({**named, "status": "COMPLETED", "logs": None})
        if now < job.starts_at:
            answer = {**named, **self._place(job), "status": "IN_QUEUE"}
            return JSONResponse(answer, status_code=self._running_status)
        if now < job.ends_at:
            logs: list[dict[str, object]] | None = None
            if request.query_params.get("logs") == "1":
                entry = {"message": "50%|#####     |", "level": "STDERR", "source": "run"}
                logs = [{**entry, "timestamp": iso(now), "labels": {}}]
            answer = {**named, "status": "IN_PROGRESS", "logs": logs}
            return JSONResponse(answer, status_code=self._running_status)
        metrics = {"inference_time": round(job.ends_at - job.starts_at, 2)}
        answer = {**named, "status": "COMPLETED", "logs": None, "metrics": metrics}
        error = self._error_of(job)
        if error is not None and self._failure == "status":
            answer |= {"error": error[1]["msg"], "error_type": error[1]["type"]}
        return JSONResponse(answer)

    async def _result(self, request: Request) -> Response:
        job, now = self._find(request), self.clock()
        if job.cancelled_at is not None:  # invented: as above
            raise ProviderError(400, {"detail": "Request was cancelled", "error_type": "cancelled"})
        if now < job.ends_at:  # invented: the wording
            raise ProviderError(400, {"detail": "Request is still in progress"})
        if (error := self._error_of(job)) is not None:
            status, entry = error
            retryable = "true" if status >= 500 else "false"  # noqa: PLR2004 -- of the server
            raise ProviderError(status, {"detail": [entry]}, {"x-fal-retryable": retryable})
        if job.files is None:
            job.files = await self._make(job)
        output = self._output(job, job.files)
        if self._wraps_result:
            output = {"status": "COMPLETED", "logs": None, "response": output}
        return JSONResponse(output, headers={"x-fal-request-id": job.id})

    async def _cancel(self, request: Request) -> Response:
        job, now = self._find(request), self.clock()
        if not self._is_open(job, now):
            raise ProviderError(400, {"status": "ALREADY_COMPLETED"})
        if now < job.starts_at:  # invented: one that runs goes on to its end
            job.cancelled_at = now
            self.charge(job.id, -self.charges_of(job.id), "usd")
        return JSONResponse({"status": "CANCELLATION_REQUESTED"}, status_code=ACCEPTED)

    def charges_of(self, job_id: str) -> float:
        """Return what a job has cost so far."""
        return sum(charge.amount for charge in self.charges if charge.job_id == job_id)

    # --- results ---

    def _error_of(self, job: _Job) -> tuple[int, dict[str, object]] | None:
        entry: dict[str, object] = {"loc": ["body", "prompt"], "url": "https://docs.fal.ai/errors"}
        if BLOCKED_TRIGGER in job.prompt:
            what = "The content could not be processed because it was flagged."
            return 422, {**entry, "msg": what, "type": "content_policy_violation"}
        if FAIL_TRIGGER in job.prompt:
            return 500, {**entry, "msg": "Internal error", "type": "internal_server_error"}
        return None

    async def _make(self, job: _Job) -> list[bytes]:
        model = MODELS.get(job.model)
        fields = job.input
        try:
            sources = [await self.fetch(address) for address in self._addresses(job)]
            return await self.offload(
                partial(_draw, model.kind if model else "image", fields, sources)
            )
        except FetchFailedError:
            what = "Failed to download the file"
            entry: dict[str, object] = {"loc": ["body"], "msg": what, "type": "file_download_error"}
            raise self._invalid([entry]) from None

    @staticmethod
    def _addresses(job: _Job) -> list[str]:
        names = ("model_image", "garment_image", "image_url")
        found = [job.input.get(name) for name in names]
        listed = job.input.get("image_urls")
        found.extend(cast("list[object]", listed) if isinstance(listed, list) else [])
        return [address for address in found if isinstance(address, str)]

    def _output(self, job: _Job, files: list[bytes]) -> dict[str, object]:
        video = job.model in MODELS and MODELS[job.model].kind == "video"
        extension, kind = ("webm", "video/webm") if video else ("png", "image/png")
        listed = [
            {
                "url": f"{self.base_url}/files/{job.id}/{index}.{extension}",
                "content_type": kind,
                "file_name": f"{index}.{extension}",
                "file_size": len(file),
            }
            for index, file in enumerate(files)
        ]
        seed = cast("int", job.input.get("seed", 7))
        if video:
            return {"video": listed[0], "seed": seed}
        flags = [BLACK_TRIGGER in job.prompt] * len(listed)
        return {"images": listed, "seed": seed, "has_nsfw_concepts": flags, "prompt": job.prompt}

    async def _download(self, request: Request) -> Response:
        job = self.jobs.get(request.path_params["id"])
        index = request.path_params["index"]
        if job is None or job.files is None or index >= len(job.files):
            return Response(status_code=404)
        if self.clock() > job.ends_at + FILE_SECONDS:  # invented: the account's setting decides
            return Response(status_code=404)
        kind = "video/webm" if request.path_params["extension"] == "webm" else "image/png"
        return Response(job.files[index], media_type=kind)

    # --- refusals ---

    def _authorise(self, request: Request) -> None:
        if request.headers.get("authorization") != f"Key {TEST_KEY}":
            raise ProviderError(401, {"detail": "No user found for Key ID and Secret"})
        if self.locked:
            what = "User is locked. Reason: Exhausted balance. Top up your balance at fal.ai"
            raise ProviderError(403, {"detail": what})

    def _find(self, request: Request) -> _Job:
        if request.headers.get("authorization") != f"Key {TEST_KEY}":
            raise ProviderError(401, {"detail": "No user found for Key ID and Secret"})
        job = self.jobs.get(request.path_params["id"])
        if job is None or job.app != request.path_params["app"]:
            raise ProviderError(404, {"detail": "Request not found"})
        return job

    @staticmethod
    def _invalid(entries: list[dict[str, object]]) -> ProviderError:
        return ProviderError(422, {"detail": entries}, {"x-fal-retryable": "false"})


def _draw(kind: str, fields: dict[str, object], sources: list[bytes]) -> list[bytes]:
    prompt = str(fields.get("prompt", "a picture"))
    seed = cast("int", fields.get("seed", 7))
    if kind == "video":
        seconds = int(cast("str", fields.get("duration", "5")))
        return [pictures.video(prompt, seed, seconds * SECONDS_OF_FRAME, provider="fal")]
    count = cast("int", fields.get("num_images", fields.get("num_samples", 1)))
    made: list[bytes] = []
    for index in range(count):
        if BLACK_TRIGGER in prompt:
            image = Image.new("RGB", (64, 64))
        elif kind == "tryon":
            image = pictures.compose_tryon(sources[0], sources[1])
        elif sources:
            image = pictures.decode(sources[0]).convert("RGB")
        else:
            image = pictures.scene(prompt, seed + index, *_size(fields.get("image_size")))
        made.append(pictures.encode(pictures.stamp(image, "fal"), "png"))
    return made


def _size(given: object) -> tuple[int, int]:
    if isinstance(given, dict):
        size = cast("dict[str, int]", given)
        return size["width"], size["height"]
    sizes = {"square_hd": (1024, 1024), "square": (512, 512), "portrait_4_3": (768, 1024)}
    sizes |= {"portrait_16_9": (576, 1024), "landscape_16_9": (1024, 576)}
    return sizes.get(str(given), (1024, 768))
