"""ZSky AI, as its developer API page describes it.

A prompt with BLOCKED_PROMPT_TRIGGER is refused with 451; with BLOCKED_OUTPUT_TRIGGER the job ends
``blocked``; with FAIL_TRIGGER it ends ``failed``.
"""

from __future__ import annotations

import math
from collections import Counter, deque
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import partial
from typing import TYPE_CHECKING, Literal, cast

from starlette.responses import JSONResponse, Response

from darkroom_tools.emulators import pictures
from darkroom_tools.emulators.kit import (
    Clock,
    Emulator,
    Fetch,
    Handler,
    Offload,
    ProviderError,
    never_finishes,
    read_json_object,
)
from darkroom_tools.emulators.signing import Signer
from darkroom_tools.emulators.windows import SlidingWindow, Window

if TYPE_CHECKING:
    from starlette.requests import Request

TEST_KEY = "zsky_live_sandbox_not_a_real_key"
OTHER_KEY = "zsky_live_sandbox_somebody_else"

BLOCKED_PROMPT_TRIGGER = "blocked-prompt"
BLOCKED_OUTPUT_TRIGGER = "blocked-output"
FAIL_TRIGGER = "fails-in-processing"

Kind = Literal["image", "video"]
KINDS: tuple[Kind, ...] = ("image", "video")

ALLOWANCE = {"video": 300, "image": 1000}
"""A calendar month, UTC."""

DAILY_CAP = {"video": 50, "image": 200}
"""A UTC day and key."""

OVERAGE_CENTS = {"video": 50, "image": 5}
CONCURRENT_JOBS = 3
REQUESTS_PER_MINUTE = 20
WINDOW_SECONDS = 60
ADDRESS_SECONDS = 24 * 3600
RETENTION_SECONDS = 7 * 24 * 3600

SUSPENSION_SECONDS = 24 * 3600
ATTEMPTS_SECONDS = 30 * 60
ATTEMPTS_LEAST = 10
REJECTED_SHARE = 0.5

PROMPT_LIMIT = 2000
SIDES = (256, 2048)
DEFAULT_SIDE = 1024
DEFAULT_LENGTH = 121
LENGTHS = (1, 241)  # invented: the page's list of parameters is empty; 241 frames are 10 s

SECONDS = {"image": 6.0, "video": 60.0}
"""How long a job takes; a minute is documented for videos."""

SHORTEST, LONGEST = 0.8, 1.25
"""Factors between which durations are spread."""

MEDIA = {"image": ("webp", "image/webp"), "video": ("webm", "video/webm")}  # invented: video's

BUSY_MESSAGE = "Workers unavailable; queued — please retry shortly"

Busy = Literal["refused", "queued", "queued_unnamed"]


@dataclass(slots=True, kw_only=True)
class _Job:
    id: str
    kind: Kind
    request: Mapping[str, object]
    finishes_at: float
    ends: Literal["completed", "blocked", "failed"]
    deleted: bool = False
    asset: bytes | None = None

    def status(self, now: float) -> str:
        return "queued" if now < self.finishes_at else self.ends


@dataclass(slots=True)
class _Account:
    """A key's holder: rotating gives the holder another key and leaves the rest as it is."""

    window: Window
    jobs: dict[str, _Job] = field(default_factory=dict[str, _Job])
    used: Counter[tuple[str, str]] = field(default_factory=Counter[tuple[str, str]])
    """(kind, month or day) -> how many."""

    attempts: deque[tuple[float, _Job | None]] = field(
        default_factory=deque[tuple[float, "_Job | None"]]
    )
    """When something was asked for, and the job that it became; None: refused with 451."""

    suspended_until: float = -math.inf


_AccountHandler = Callable[["Request", _Account], Awaitable[Response]]


class ZskyEmulator(Emulator):
    """ZSky AI.

    Beside what every emulator takes:

    requests_per_minute, concurrent_jobs: what this account may do, where it is not what the page
        says (limits are raised on request).
    window: how requests in a minute are counted, which no page says.
    used_elsewhere: what other programs of this account had made before, this month and today.
    overage: generations beyond the month's allowance are made, and charged for.
    soft_cap: generations beyond the day's cap are refused with 429.
    retry_after: a 429 that a wait can help carries Retry-After.
    running_status: what a job that is being worked on is called.
    after_purge: reading a job whose result is gone answers 404, or "completed" without an address.
    key_field: under which name the new key stands in the answer to a rotation.
    lengths: fewest and most frames of a video.
    error_body: the body of an error from its message.

    ``busy`` may be set at any time. Generations are then answered with 503: "refused" makes no
    job, "queued" makes one and names it, "queued_unnamed" makes one and does not say so.
    """

    name = "zsky"

    def __init__(
        self,
        *,
        clock: Clock,
        base_url: str,
        fetch: Fetch,
        seed: int = 0,
        time_scale: float = 1.0,
        offload: Offload | None = None,
        requests_per_minute: int = REQUESTS_PER_MINUTE,
        window: Callable[[int, float], Window] = SlidingWindow,
        concurrent_jobs: int = CONCURRENT_JOBS,
        used_elsewhere: Mapping[Kind, int] | None = None,
        overage: bool = False,
        soft_cap: bool = True,
        retry_after: bool = False,
        running_status: str = "queued",
        after_purge: Literal["not_found", "completed"] = "not_found",
        key_field: str = "api_key",
        lengths: tuple[int, int] = LENGTHS,
        error_body: Callable[[str], object] | None = None,
    ) -> None:
        super().__init__(
            clock=clock,
            base_url=base_url,
            fetch=fetch,
            seed=seed,
            time_scale=time_scale,
            offload=offload,
        )
        self.busy: Busy | None = None
        self._concurrent_jobs = concurrent_jobs
        self._overage = overage
        self._soft_cap = soft_cap
        self._retry_after = retry_after
        self._running_status = running_status
        self._after_purge = after_purge
        self._key_field = key_field
        self._lengths = lengths
        # invented: the shape of errors; ``error`` is what a blocked job has
        self._error_body = error_body or _error_body
        self.keys = {
            key: _Account(window(requests_per_minute, WINDOW_SECONDS))
            for key in (TEST_KEY, OTHER_KEY)
        }
        for kind, number in (used_elsewhere or {}).items():
            for period in self._periods():
                self.keys[TEST_KEY].used[kind, period] = number
        self._assets: dict[str, _Job] = {}
        self._signer = Signer(self.random.randbytes(32), "X-Amz", clock)

    def operations(self) -> list[tuple[str, str, str, Handler]]:
        """Return the documented operations, and where results are fetched from."""
        table: tuple[tuple[str, str, str, _AccountHandler], ...] = (
            ("POST", "/v1/images/generate", "generate_image", partial(self._generate, "image")),
            ("POST", "/v1/videos/generate", "generate_video", partial(self._generate, "video")),
            ("GET", "/v1/jobs/{job_id}", "get_job", self._get),
            ("DELETE", "/v1/jobs/{job_id}", "delete_job", self._delete),
            ("GET", "/v1/usage", "usage", self._usage),
            ("POST", "/v1/keys/rotate", "rotate_key", self._rotate),
        )
        return [
            ("GET", "/assets/{name}", "download", self._download),
            *(
                (method, path, operation, partial(self._authenticated, handler))
                for method, path, operation, handler in table
            ),
        ]

    def not_found(self) -> ProviderError:
        """Return the answer to a path that ZSky does not have."""
        return self._refusal(404, "Not found")

    def suspend(self, key: str) -> None:
        """Suspend a key for 24 hours from now."""
        self.keys[key].suspended_until = self.clock() + SUSPENSION_SECONDS

    async def _authenticated(self, handler: _AccountHandler, request: Request) -> Response:
        account = self.keys.get(request.headers.get("x-api-key", ""))
        if account is None:
            raise self._refusal(401, "Missing or invalid API key")
        self._judge(account)
        if self.clock() < account.suspended_until:
            raise self._refusal(403, "API key suspended")
        wait = account.window.wait(self.clock())  # invented: every request counts, polls too
        if wait:
            raise self._limited("Rate limit hit", wait)
        return await handler(request, account)

    def _judge(self, account: _Account) -> None:
        """Suspend the key if more than half of the last 30 minutes' attempts were rejected."""
        now, attempts = self.clock(), account.attempts
        while attempts and attempts[0][0] <= now - ATTEMPTS_SECONDS:
            attempts.popleft()
        # invented: the ten events that it takes are attempts, not rejections
        rejected = sum(job is None or job.status(now) == "blocked" for _, job in attempts)
        if len(attempts) >= ATTEMPTS_LEAST and rejected > len(attempts) * REJECTED_SHARE:
            account.suspended_until = now + SUSPENSION_SECONDS
            attempts.clear()

    async def _generate(self, kind: Kind, request: Request, account: _Account) -> Response:
        body = self._valid(kind, await read_json_object(request))
        prompt = cast("str", body["prompt"])
        now = self.clock()
        if BLOCKED_PROMPT_TRIGGER in prompt:  # invented: 451 is the check of the prompt, uncounted
            account.attempts.append((now, None))
            self._judge(account)
            raise self._refusal(451, "Generation blocked by safety filter")
        self._admit(kind, account)
        if self.busy == "refused":
            raise self._refusal(503, BUSY_MESSAGE)
        job = _Job(
            id=self.hex_id(),
            kind=kind,
            request=body,
            finishes_at=now
            + SECONDS[kind] * self.random.uniform(SHORTEST, LONGEST) * self.time_scale,
            ends="blocked"
            if BLOCKED_OUTPUT_TRIGGER in prompt
            else "failed"
            if FAIL_TRIGGER in prompt
            else "completed",
        )
        if never_finishes(request):
            job.finishes_at = math.inf
        account.jobs[job.id] = self._assets[job.id] = job
        account.attempts.append((now, job))
        for period in self._periods():
            account.used[kind, period] += 1
        # A blocked generation counts (documented). invented: so does a failed one
        self.charge(job.id, 1, f"{kind}s")
        answer: dict[str, object] = {
            "job_id": job.id,
            "status": "queued",
            "kind": kind,
            "poll_url": f"/v1/jobs/{job.id}",
        }
        if self.busy is None:
            return JSONResponse(answer)
        refusal = self._refusal(503, BUSY_MESSAGE)
        if self.busy == "queued":  # invented: how a 503 that says "queued" names its job
            refusal.body = {**cast("dict[str, object]", refusal.body), **answer}
        raise refusal

    def _admit(self, kind: Kind, account: _Account) -> None:
        now = self.clock()
        running = [job.finishes_at for job in account.jobs.values() if now < job.finishes_at]
        if len(running) >= self._concurrent_jobs:  # invented: the status of a fourth job
            raise self._limited("Too many concurrent jobs", min(running) - now)
        month, day = self._periods()
        if account.used[kind, month] >= ALLOWANCE[kind] and not self._overage:
            raise self._refusal(429, "Monthly allowance reached")
        if self._soft_cap and account.used[kind, day] >= DAILY_CAP[kind]:  # invented: the status
            raise self._refusal(429, "Daily cap reached")

    def _valid(self, kind: Kind, body: dict[str, object] | None) -> dict[str, object]:
        if body is None:
            raise self._refusal(400, "Malformed request body")
        prompt = body.get("prompt")
        if (
            not isinstance(prompt, str)
            or not 1 <= len(prompt.strip()) <= len(prompt) <= PROMPT_LIMIT
        ):
            raise self._refusal(400, "Invalid prompt")
        # invented: unknown names are let through
        if kind == "video":
            self._integer(body, "length", self._lengths)
        else:
            self._integer(body, "width", SIDES)
            self._integer(body, "height", SIDES)
            self._integer(body, "seed", (-math.inf, math.inf))
            if not isinstance(body.get("negative", ""), str):
                raise self._refusal(400, "Invalid negative")
        return body

    def _integer(self, body: Mapping[str, object], name: str, bounds: tuple[float, float]) -> None:
        if name not in body:
            return
        value = body[name]
        if isinstance(value, bool) or not isinstance(value, int):
            raise self._refusal(400, f"Invalid {name}")
        if not bounds[0] <= value <= bounds[1]:
            raise self._refusal(400, f"Invalid {name}")

    async def _get(self, request: Request, account: _Account) -> Response:
        job = self._job(request, account)
        now = self.clock()
        status = job.status(now)
        if status == "queued":
            return JSONResponse(
                {"job_id": job.id, "status": self._running_status, "kind": job.kind}
            )
        shown: dict[str, object] = {"job_id": job.id, "status": status, "kind": job.kind}
        match status:
            case "completed" if not self._purged(job):
                shown["result_url"] = self._address(job)
                shown["expires_in"] = ADDRESS_SECONDS
            case "completed":
                if self._after_purge == "not_found":  # invented
                    raise self._refusal(404, "Job not found")
            case "blocked":
                shown["error"] = f"Sorry — our safety check stopped this {job.kind}..."
            case _:
                shown["error"] = "Generation failed"  # invented: the wording
        return JSONResponse(shown)

    def _job(self, request: Request, account: _Account) -> _Job:
        job = account.jobs.get(request.path_params["job_id"])
        if job is None:
            raise self._refusal(404, "Job not found")
        return job

    def _purged(self, job: _Job) -> bool:
        return job.deleted or self.clock() >= job.finishes_at + RETENTION_SECONDS

    def _address(self, job: _Job) -> str:
        """Return the result's address, signed for 24 hours from now (invented: each time)."""
        path = f"/assets/{job.id}.{MEDIA[job.kind][0]}"
        return f"{self.base_url}{path}?{self._signer.query(path, ADDRESS_SECONDS)}"

    async def _delete(self, request: Request, account: _Account) -> Response:
        job = self._job(request, account)
        if self._purged(job):  # invented: what is gone does not exist
            raise self._refusal(404, "Job not found")
        job.deleted = True  # invented: a job that still runs goes on, without a result
        job.asset = None
        return Response(status_code=204)

    async def _usage(self, request: Request, account: _Account) -> Response:
        del request
        month, _ = self._periods()
        used = {kind: account.used[kind, month] for kind in KINDS}
        over = {kind: max(0, used[kind] - ALLOWANCE[kind]) for kind in KINDS}
        return JSONResponse(
            {
                "videos_used": used["video"],  # invented: with those beyond the allowance
                "videos_overage": over["video"],
                "images_used": used["image"],
                "images_overage": over["image"],
                "overage_charged_cents": sum(over[kind] * OVERAGE_CENTS[kind] for kind in KINDS),
                "base_videos_allowance": ALLOWANCE["video"],
                "base_images_allowance": ALLOWANCE["image"],
                "month_start": f"{month}-01",
            }
        )

    async def _rotate(self, request: Request, account: _Account) -> Response:
        del self.keys[request.headers["x-api-key"]]
        key = f"zsky_live_sandbox_{self.hex_id()}"
        self.keys[key] = account
        return JSONResponse({self._key_field: key})  # invented: the name

    async def _download(self, request: Request) -> Response:
        name = request.path_params["name"]
        refusal = self._signer.refusal(request, f"/assets/{name}")
        if refusal is not None:
            return refusal
        job = self._assets[name.partition(".")[0]]
        if self._purged(job):
            missing = b"<Error><Code>NoSuchKey</Code></Error>"
            return Response(missing, status_code=404, media_type="application/xml")
        if job.asset is None:
            job.asset = await self.offload(partial(_render, job.kind, job.request))
        return Response(job.asset, media_type=MEDIA[job.kind][1])

    def _periods(self) -> tuple[str, str]:
        """Return this month and this day, UTC, by which generations are counted."""
        now = datetime.fromtimestamp(self.clock(), UTC)
        return now.strftime("%Y-%m"), now.strftime("%Y-%m-%d")

    def _refusal(self, status: int, message: str) -> ProviderError:
        return ProviderError(status, self._error_body(message))

    def _limited(self, message: str, wait: float) -> ProviderError:
        error = self._refusal(429, message)
        if self._retry_after and math.isfinite(wait):  # invented: the page does not know the header
            error.headers["retry-after"] = str(math.ceil(wait))
        return error


def _error_body(message: str) -> object:
    return {"error": message}


def _render(kind: Kind, request: Mapping[str, object]) -> bytes:
    prompt = cast("str", request["prompt"])
    if kind == "video":
        length = cast("int", request.get("length", DEFAULT_LENGTH))
        return pictures.video(prompt, None, length, provider=ZskyEmulator.name)
    width, height = (cast("int", request.get(side, DEFAULT_SIDE)) for side in ("width", "height"))
    seed = cast("int | None", request.get("seed"))
    image = pictures.scene(prompt, seed, width, height, cast("str", request.get("negative", "")))
    return pictures.encode(pictures.stamp(image, ZskyEmulator.name), "webp")
