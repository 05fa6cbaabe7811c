"""Zuper Try-On, as its API reference, error-code and webhook pages describe it.

Input addresses that contain FAIL_TRIGGER make a job that fails.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import math
from collections import defaultdict
from functools import partial
from typing import TYPE_CHECKING, Literal, cast

import anyio
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
    iso,
    never_finishes,
    read_json_object,
)
from darkroom_tools.emulators.record import Deliver, Delivery
from darkroom_tools.emulators.signing import Signer
from darkroom_tools.emulators.windows import SlidingWindow
from darkroom_tools.emulators.zupertry.requests import (
    cursor_before,
    is_address,
    page_size,
    picture_address,
    place_of,
    refusal,
)
from darkroom_tools.emulators.zupertry.state import (
    KEYS,
    LIVE_KEY,
    STATUSES,
    TEST_KEY,
    WORKSPACES_CREATED_AT,
    Job,
    Organisation,
    Status,
    organisations,
)

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from starlette.requests import Request

__all__ = ["LIVE_KEY", "TEST_KEY", "WEBHOOK_SECRET", "ZupertryEmulator"]

WEBHOOK_SECRET = "whsec_sandbox_not_a_real_secret"  # noqa: S105 -- a fixture

FAIL_TRIGGER = "fails-in-processing"

REQUESTS_PER_MINUTE = 60
WINDOW_SECONDS = 60
OUTPUT_ADDRESS_SECONDS = 3600
INPUT_LIMIT_BYTES = 10 * 1024 * 1024

PENDING_SECONDS = 1.2
PROCESSING_SECONDS = 6.8
SHORTEST, LONGEST = 0.75, 1.35
"""Factors between which durations are spread."""

WEBHOOK_RETRY_SECONDS = (10.0, 60.0, 300.0)  # invented: "retrying" is documented, its pace is not

PICTURE_FIELDS = ("model_image_url", "garment_image_url")


class ZupertryEmulator(Emulator):
    """Zuper Try-On.

    Beside what every emulator takes:

    requests_per_minute: of one organisation, in any 60 s.
    foreign_job: another organisation's job is 403 (API reference) or 404 (error-code page).
    failed_status: a failed job, whose credit is refunded, shows as "failed" or as "refunded".
    renews_address: each reading signs the output's address afresh, or it is signed once.
    cancel_answer: cancelling answers 200 with the job, or 204 without a body.
    workspaces_key: the list stands under this name; None: the answer is the bare array.
    lists_archived: archived workspaces are listed, too.
    clamps_limit: a page size over 100 means 100; otherwise it is refused.
    deliver: how webhooks leave; none are sent without it.
    """

    name = "zupertry"

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
        foreign_job: Literal[403, 404] = 403,
        failed_status: Literal["failed", "refunded"] = "failed",
        renews_address: bool = True,
        cancel_answer: Literal["job", "empty"] = "job",
        workspaces_key: str | None = "workspaces",
        lists_archived: bool = False,
        clamps_limit: bool = False,
        deliver: Deliver | None = None,
    ) -> None:
        super().__init__(
            clock=clock,
            base_url=base_url,
            fetch=fetch,
            seed=seed,
            time_scale=time_scale,
            offload=offload,
        )
        self.keys = dict(KEYS)
        self.organisations = {each.org_id: each for each in organisations()}
        self.deliveries: list[Delivery] = []
        self._foreign_job = foreign_job
        self._failed_status: Status = failed_status
        self._renews_address = renews_address
        self._cancel_answer = cancel_answer
        self._workspaces_key = workspaces_key
        self._lists_archived = lists_archived
        self._clamps_limit = clamps_limit
        self._deliver = deliver
        self._windows = defaultdict[str, SlidingWindow](
            lambda: SlidingWindow(requests_per_minute, WINDOW_SECONDS)
        )
        self._signer = Signer(self.random.randbytes(32), "X-Goog", clock)
        self._jobs: dict[str, Job] = {}
        self._unsettled: list[Job] = []
        self._settling = anyio.Lock()

    def operations(self) -> list[tuple[str, str, str, Handler]]:
        """Return the documented operations, and where outputs are fetched from."""
        return [
            ("POST", "/v1/tryon", "submit", partial(self._authenticated, self._submit)),
            ("GET", "/v1/jobs/{job_id}", "get", partial(self._authenticated, self._get)),
            ("GET", "/v1/jobs", "list", partial(self._authenticated, self._list)),
            ("DELETE", "/v1/jobs/{job_id}", "cancel", partial(self._authenticated, self._cancel)),
            ("GET", "/v1/workspaces", "workspaces", partial(self._authenticated, self._workspaces)),
            ("GET", "/v1/account", "account", partial(self._authenticated, self._account)),
            ("GET", "/zupertry-outputs/{name}", "download", self._download),
        ]

    def not_found(self) -> ProviderError:
        """Return the answer to a path that Zupertry does not have."""
        return refusal(404, "not_found", "Not found.")  # invented: the code

    async def _authenticated(
        self,
        handler: Callable[[Request, Organisation], Awaitable[Response]],
        request: Request,
    ) -> Response:
        scheme, _, given = request.headers.get("authorization", "").partition(" ")
        if scheme != "Bearer" or not given:
            raise refusal(401, "unauthorized", "The request carries no API key.")
        key = self.keys.get(given)
        if key is None:
            raise refusal(401, "invalid_api_key", "There is no such API key.")
        if key.state != "active":
            raise refusal(401, f"api_key_{key.state}", f"This API key is {key.state}.")
        organisation = self.organisations[key.organisation]
        if organisation.suspended:
            raise refusal(403, "account_suspended", "This organisation is suspended.")
        # invented: only requests that are let in count, and all of them do
        wait = self._windows[organisation.org_id].wait(self.clock())
        if wait:
            error = refusal(429, "rate_limit_exceeded", "Too many requests.")
            error.headers["retry-after"] = str(math.ceil(wait))
            raise error
        await self.settle()
        return await handler(request, organisation)

    async def _submit(self, request: Request, organisation: Organisation) -> Response:
        body = await read_json_object(request)
        if body is None:
            raise refusal(422, "validation_error", "The body is no JSON object.")
        model, garment = (picture_address(body, name) for name in PICTURE_FIELDS)
        webhook_url = body.get("webhook_url")
        if webhook_url is not None and not is_address(webhook_url):
            raise refusal(422, "validation_error", "webhook_url is no valid URL.")
        workspace = self._workspace(organisation, body.get("workspace_id"))
        live = request.headers["authorization"].startswith("Bearer zt_live_sk_")
        if live and organisation.credits < 1:
            raise refusal(
                402,
                "insufficient_credits",
                "Your account has 0 credits remaining. Top up at https://app.zupertry.com/billing.",
            )
        now = self.clock()
        spread = self.random.uniform(SHORTEST, LONGEST) * self.time_scale
        job = Job(
            number=len(self._jobs),
            id=f"job_{self.hex_id(24)}",
            organisation=organisation,
            workspace=workspace,
            mode="live" if live else "test",
            model=model,
            garment=garment,
            webhook_url=cast("str | None", webhook_url) or organisation.webhook_url,
            created_at=now,
            starts_at=now + PENDING_SECONDS * spread,
            finishes_at=now + (PENDING_SECONDS + PROCESSING_SECONDS) * spread,
        )
        if never_finishes(request):
            job.finishes_at = math.inf
        if job.webhook_url is not None:
            job.webhook_status = "pending"
        self._jobs[job.id] = job
        self._unsettled.append(job)
        if live:  # "refund the reserved credit" (cancel): it is reserved here
            organisation.credits -= 1
            self.charge(job.id, 1, "credits")
        answer = {
            "job_id": job.id,
            "status": "pending",
            "created_at": iso(now),
            "mode": job.mode,
        }
        return JSONResponse(answer, status_code=202)

    def _workspace(self, organisation: Organisation, asked: object) -> str:
        active = [
            each for each, (_, status) in organisation.workspaces.items() if status == "active"
        ]
        if asked is None:
            return active[0]
        if not isinstance(asked, str):
            raise refusal(422, "validation_error", "workspace_id is no string.")
        if asked not in active:  # invented: an archived workspace is not found
            raise refusal(404, "workspace_not_found", "There is no such workspace.")
        return asked

    async def _get(self, request: Request, organisation: Organisation) -> Response:
        return JSONResponse(self._shown(self._job(request, organisation)))

    def _job(self, request: Request, organisation: Organisation) -> Job:
        job = self._jobs.get(request.path_params["job_id"])
        if job is not None and job.organisation is not organisation and self._foreign_job == 403:  # noqa: PLR2004 -- a status
            raise refusal(403, "forbidden", "The job belongs to a different organisation.")
        if job is None or job.organisation is not organisation:
            raise refusal(404, "job_not_found", "There is no such job.")
        return job

    async def _list(self, request: Request, organisation: Organisation) -> Response:
        query = request.query_params
        status, workspace = query.get("status"), query.get("workspace_id")
        if status is not None and status not in STATUSES:  # invented: not an empty list
            raise refusal(422, "validation_error", "status is none of the known ones.")
        limit = page_size(query.get("limit"), clamps=self._clamps_limit)
        now = self.clock()
        jobs = [
            job
            for job in reversed(self._jobs.values())
            if job.organisation is organisation
            and status in (None, job.status(now))
            and workspace in (None, job.workspace)
        ]
        cursor = query.get("cursor")
        if cursor is not None:
            last = place_of(cursor)
            jobs = [job for job in jobs if job.number < last]
        page, rest = jobs[:limit], jobs[limit:]
        shown = [self._shown(job) for job in page]
        for each in shown:
            del each["webhook_url"], each["webhook_status"]
        next_cursor = cursor_before(page[-1].number) if rest else None
        return JSONResponse({"jobs": shown, "next_cursor": next_cursor, "has_more": bool(rest)})

    async def _cancel(self, request: Request, organisation: Organisation) -> Response:
        job = self._job(request, organisation)
        if job.status(self.clock()) != "pending":
            raise refusal(409, "job_not_cancellable", "Only pending jobs can be cancelled.")
        job.ended = "cancelled"
        job.finishes_at = self.clock()
        self._refund(job)
        if self._cancel_answer == "empty":
            return Response(status_code=204)
        return JSONResponse(self._shown(job))  # invented: body and status

    def _refund(self, job: Job) -> None:
        if job.mode == "live":
            job.organisation.credits += 1
            self.charge(job.id, -1, "credits")

    async def _workspaces(self, request: Request, organisation: Organisation) -> Response:
        del request
        listed: list[dict[str, object]] = [
            {"id": each, "name": name, "status": status, "created_at": WORKSPACES_CREATED_AT}
            for each, (name, status) in organisation.workspaces.items()
            if status == "active" or self._lists_archived
        ]
        if self._workspaces_key is None:
            return JSONResponse(listed)
        return JSONResponse({self._workspaces_key: listed})  # invented: the name, as in "jobs"

    async def _account(self, request: Request, organisation: Organisation) -> Response:
        del request
        return JSONResponse(
            {
                "org_id": organisation.org_id,
                "name": organisation.name,
                "plan": "growth",
                "region_code": "EU",
                "currency_code": "EUR",
                "credits": organisation.credits,
                "auto_reload_enabled": False,
            }
        )

    def _shown(self, job: Job) -> dict[str, object]:
        status = job.status(self.clock())
        ended, done = job.ended is not None, status == "completed"
        consumed = 1 if done and job.mode == "live" else 0
        return {
            "job_id": job.id,
            "status": status,
            "workspace_id": job.workspace,
            "mode": job.mode,
            "output_url": self._address(job) if done else None,
            # "null until job completes"; 0 on failure as in the webhook. invented: 0 if cancelled
            "credits_consumed": consumed if ended else None,
            "error_code": job.error_code,
            "webhook_url": job.webhook_url,
            "webhook_status": job.webhook_status,
            "created_at": iso(job.created_at),
            # invented: set when a job ends in any way
            "completed_at": iso(job.finishes_at) if ended else None,
            "duration_ms": round((job.finishes_at - job.starts_at) * 1000) if done else None,
        }

    def _address(self, job: Job) -> str:
        if job.address is None or self._renews_address:  # invented: reading renews the address
            path = f"/zupertry-outputs/{job.id}.jpg"
            job.address = (
                f"{self.base_url}{path}?{self._signer.query(path, OUTPUT_ADDRESS_SECONDS)}"
            )
        return job.address

    async def settle(self) -> None:
        """Bring every job up to the clock: fetch its pictures, end it, tell the webhook."""
        async with self._settling:
            now = self.clock()
            self._unsettled = [job for job in self._unsettled if not job.settled]
            for job in self._unsettled:
                if job.ended is None and job.finishes_at <= now:
                    await self._finish(job)
                if job.webhook_due <= now:
                    await self._notify(job)

    async def _finish(self, job: Job) -> None:
        try:
            model, garment = await self._input(job.model), await self._input(job.garment)
        except FetchFailedError:
            job.error_code = "image_fetch_failed"  # invented: no list of these codes is published
        else:
            if FAIL_TRIGGER in job.model + job.garment:
                job.error_code = "processing_failed"  # invented
            job.inputs = (model, garment)
        if job.error_code is None:
            job.ended = "completed"
            if not self._renews_address:
                self._address(job)
        else:
            job.ended = self._failed_status
            self._refund(job)
        if job.webhook_url is not None and self._deliver is not None:
            job.webhook_due = job.finishes_at

    async def _input(self, address: str) -> bytes:
        data = await self.fetch(address)
        if len(data) > INPUT_LIMIT_BYTES:
            raise FetchFailedError("more than 10 MB")
        if not (data.startswith((b"\xff\xd8", b"\x89PNG")) or data[8:12] == b"WEBP"):
            raise FetchFailedError("neither JPEG nor PNG nor WebP")
        await self.offload(partial(pictures.decode, data))
        return data

    async def _notify(self, job: Job) -> None:
        body = json.dumps(self._event(job)).encode()
        digest = hmac.new(WEBHOOK_SECRET.encode(), body, hashlib.sha256).hexdigest()
        headers = {"content-type": "application/json", "x-zupertry-signature": digest}
        url, deliver = cast("str", job.webhook_url), cast("Deliver", self._deliver)
        status = await deliver(url, body, headers)
        self.deliveries.append(
            Delivery(at=self.clock(), url=url, body=body, headers=headers, status=status)
        )
        job.webhook_due = math.inf
        if 200 <= status < 300:  # noqa: PLR2004 -- the successful statuses
            job.webhook_status = "delivered"
        elif job.webhook_tries == len(WEBHOOK_RETRY_SECONDS):
            job.webhook_status = "failed"
        else:
            job.webhook_status = "retrying"
            job.webhook_due = self.clock() + WEBHOOK_RETRY_SECONDS[job.webhook_tries]
            job.webhook_tries += 1

    def _event(self, job: Job) -> dict[str, object]:
        shown = self._shown(job)
        if job.ended == "completed":
            names = ("job_id", "workspace_id", "status", "output_url", "credits_consumed")
            data = {name: shown[name] for name in (*names, "created_at", "completed_at")}
            data["org_id"] = job.organisation.org_id
            return {"type": "job.completed", "data": data}
        data = {name: shown[name] for name in ("job_id", "credits_consumed", "created_at")}
        error = "Vertex AI returned an unexpected response format"
        return {"type": "job.failed", "data": {**data, "status": "failed", "error": error}}

    async def _download(self, request: Request) -> Response:
        name = request.path_params["name"]
        denied = self._signer.refusal(request, f"/zupertry-outputs/{name}")
        if denied is not None:
            return denied
        job = self._jobs[name.removesuffix(".jpg")]
        if job.picture is None:
            inputs = cast("tuple[bytes, bytes]", job.inputs) if job.mode == "live" else None
            job.picture = await self.offload(partial(_render, inputs))
            job.inputs = None
        return Response(job.picture, media_type="image/jpeg")  # invented: the output's format


def _render(inputs: tuple[bytes, bytes] | None) -> bytes:
    if inputs is None:  # "processed with a mock output": the same picture whatever was sent
        inputs = (
            pictures.encode(pictures.person("mock"), "jpeg"),
            pictures.encode(pictures.garment("mock"), "jpeg"),
        )
    worn = pictures.compose_tryon(*inputs)
    return pictures.encode(pictures.stamp(worn, ZupertryEmulator.name), "jpeg")
