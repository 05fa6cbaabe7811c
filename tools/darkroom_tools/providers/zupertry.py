"""Zuper Try-On: a garment on a photo of a model. Source: https://docs.zupertry.com/api-reference."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Literal
from urllib.parse import urlsplit

from pydantic import Field

from darkroom.providers import (
    DESTROYS,
    READS,
    STARTS,
    Address,
    CallOperation,
    CheckOperation,
    CheckParams,
    Cost,
    Credential,
    JobOperation,
    JobParams,
    Limits,
    Listing,
    Lookback,
    Output,
    Params,
    Provider,
    ProviderSettings,
    Rate,
    StartParams,
    State,
    StateSource,
    Takes,
    WebAddress,
    failure,
    reading,
)

if TYPE_CHECKING:
    from collections.abc import Iterable

    from darkroom.providers import Code, JsonObject, JsonValue, Response, Status

NAME, TITLE = "zupertry", "Zuper Try-On"

# --- limits ---

REQUESTS_PER_MINUTE = 60
ADDRESS_SECONDS = 3_600
"""``output_url`` is a "Signed URL valid for 1 hour", counted from the response that contains it."""

LARGEST_PAGE = 100
LISTED_CHARACTERS = 4_800
"""Of a list that a model gets: within 2,000 tokens."""

LISTED = ("job_id", "status", "created_at", "credits_consumed", "error_code")
"""Of each try-on in such a list; zupertry_check_tryon shows the rest."""

TRYON_SECONDS = 8.0
"""guessed: no document says how long a try-on takes."""

LONGEST_TRYON_SECONDS = 900.0


SEND_WINDOW_SECONDS = 60.0
"""Largest difference between a job's time and the time of its request (clocks, slow responses)."""


class Settings(ProviderSettings):
    """Settings for Zuper Try-On."""

    webhook_hosts: tuple[str, ...] = Field(
        default=(), description="Hosts that webhook_url may name; it carries people's photos."
    )


# --- arguments ---

PHOTO = Takes(media_types=("image/jpeg", "image/png", "image/webp"), max_bytes=10_000_000)
"""The page: "publicly accessible, JPEG/PNG/WebP, max 10 MB"."""


class StartTryon(StartParams):
    """``POST /v1/tryon``."""

    model_image_url: Annotated[Address, PHOTO, Field(description="Photo of the person.")]
    garment_image_url: Annotated[Address, PHOTO, Field(description="Photo of the garment.")]
    workspace_id: Annotated[str, Field(max_length=200)] | None = None
    webhook_url: WebAddress | None = None


class ListTryons(Params):
    """``GET /v1/jobs``."""

    workspace_id: Annotated[str, Field(max_length=200)] | None = None
    status: (
        Literal["pending", "processing", "completed", "failed", "cancelled", "refunded"] | None
    ) = None
    limit: Annotated[int, Field(ge=1, le=100)] = 20
    cursor: str | None = None


def webhook_allowed(params: StartTryon, settings: Settings) -> Iterable[str]:
    """Refuse a webhook to a host that is not configured, because it would receive photos."""
    if params.webhook_url is None:
        return
    parts = urlsplit(params.webhook_url)
    if parts.scheme != "https":
        yield "webhook_url: expected an https address"
    if (parts.hostname or "") not in settings.webhook_hosts:
        yield (
            "webhook_url: this host is not allowed; leave webhook_url out, or ask the person to "
            "name the host in [zupertry] webhook_hosts"
        )


# --- responses ---

STATUSES: dict[str, Status] = {
    "completed": "completed",
    "failed": "failed",
    "cancelled": "cancelled",
    "refunded": "failed",
}
"""Terminal statuses; ``pending``, ``processing`` and unknown ones count as running."""

REFUNDED = frozenset({"cancelled", "refunded"})
"""Statuses after which the reserved credit is returned."""

CODES: dict[str, Code] = {
    "invalid_api_key": "auth_failed",
    "api_key_revoked": "auth_failed",
    "api_key_disabled": "auth_failed",
    "unauthorized": "auth_failed",
    "insufficient_credits": "insufficient_credits",
    "account_suspended": "suspended",
    "forbidden": "not_found",
    "workspace_not_found": "not_found",
    "job_not_found": "not_found",
    "job_not_cancellable": "conflict",
    "validation_error": "invalid_argument",
    "rate_limit_exceeded": "rate_limited",
    "internal_error": "provider_error",
}
"""``error.code``; ``forbidden`` means a job of another organisation."""


def accepted(response: Response) -> str | None:
    """Return ``job_id`` of a submission."""
    return reading.text(response.object, "job_id")


def read_state(response: Response) -> State:
    """Read the job object of ``GET`` and ``DELETE /v1/jobs/{jobId}``."""
    fields = response.object
    said = reading.required_text(fields, "status")
    status = STATUSES.get(said.lower(), "running")
    consumed = reading.amount(fields, "credits_consumed")
    if consumed is None and said.lower() in REFUNDED:
        consumed = 0.0
    cost = Cost(consumed, "credits", "exact") if consumed is not None else None
    if status == "completed":
        address = reading.address(fields, "output_url")
        if address is None:
            ended = State(status=status, provider_status=said, cost=cost)
            raise reading.UnreadableError("completed without output_url", ended=ended)
        output = Output(index=0, url=address, expires_at=response.received_at + ADDRESS_SECONDS)
        return State(status=status, provider_status=said, outputs=(output,), cost=cost)
    error = None
    if status == "failed":
        error = failure("provider_error", TITLE, provider_code=reading.text(fields, "error_code"))
    return State(status=status, provider_status=said, cost=cost, failure=error)


def listed(response: Response) -> dict[str, JsonObject]:
    """Return the job objects of ``GET /v1/jobs``: the newest of the account."""
    jobs = reading.objects(response.object.get("jobs"))
    return {job_id: job for job in jobs if (job_id := reading.text(job, "job_id"))}


def read_cancelled(response: Response) -> State:
    """Read the response to a cancellation; no document shows it, so it may also be empty."""
    if reading.text(response.object, "status"):
        return read_state(response)
    return State(status="cancelled", provider_status="cancelled")


def cancelled(response: Response, params: JobParams) -> JsonObject:
    """Return the job object, or an object that says that the job is cancelled."""
    if reading.text(response.object, "status"):
        return response.object
    return {"job_id": params.job_id, "status": "cancelled"}


def recent(response: Response, sent_at: float) -> JsonObject:
    """Return the ids of new jobs of the account that were created when the request was sent."""
    made = [
        (reading.text(job, "job_id"), reading.moment(job.get("created_at")))
        for job in reading.objects(response.object.get("jobs"))
    ]
    return {
        "candidates": [
            job_id
            for job_id, at in made
            if job_id and at and abs(at - sent_at) <= SEND_WINDOW_SECONDS
        ]
    }


def workspaces(response: Response, params: Params) -> JsonObject:
    """Return the workspaces from any documented or likely form: no document shows the response."""
    del params
    body = response.body
    if isinstance(body, dict):
        body = next((body[k] for k in ("workspaces", "data", "items") if k in body), None)
    if not isinstance(body, list):
        raise reading.UnreadableError("no list of workspaces")
    return {"workspaces": [*reading.objects(body)]}


def tryons(response: Response, params: Params) -> JsonObject:
    """Return the list without addresses, and of each try-on what tells it from others."""
    del params
    if "jobs" not in response.object:
        raise reading.UnreadableError("no list of jobs")
    jobs: list[JsonValue] = [
        {name: job[name] for name in LISTED if job.get(name) is not None}
        for job in reading.objects(response.object["jobs"])
    ]
    return {**response.object, "jobs": jobs}


def cost_of(params: StartTryon, settings: Settings) -> Cost:
    """Return the cost of a try-on: one credit with a live key; the exact cost is known at the end."""
    del params, settings
    return Cost(1, "credits")


# --- operations ---

STATE = StateSource(
    path="/v1/jobs/{id}",
    read=read_state,
    listing=Listing(path=f"/v1/jobs?limit={LARGEST_PAGE}", size=LARGEST_PAGE, rows=listed),
)

START_TRYON = JobOperation(
    name="zupertry_start_tryon",
    title="Start a try-on",
    description="Start putting a garment onto a photo of a person (JPEG, PNG or WebP, "
    "at most 10 MB each). Then call zupertry_check_tryon.",
    params=StartTryon,
    hints=STARTS,
    path="/v1/tryon",
    check=webhook_allowed,
    accepted=accepted,
    state=STATE,
    check_tool="zupertry_check_tryon",
    typical_seconds=TRYON_SECONDS,
    longest_seconds=LONGEST_TRYON_SECONDS,
    cost=cost_of,
    cancel="zupertry_cancel_tryon",
    lookback=Lookback(path="/v1/jobs", evidence=recent),
)

CHECK_TRYON = CheckOperation(
    name="zupertry_check_tryon",
    title="Check a try-on",
    description="Wait for a try-on and return its state and file. "
    "Call it again while the job is queued or running.",
    params=CheckParams,
    hints=READS,
    operations=(START_TRYON.name,),
    adopts=START_TRYON.name,
)

LIST_TRYONS = CallOperation(
    name="zupertry_list_tryons",
    title="List try-ons",
    description="List the account's try-ons at the provider, newest first.",
    params=ListTryons,
    hints=READS,
    path="/v1/jobs",
    result=tryons,
    most_characters=LISTED_CHARACTERS,
)

CANCEL_TRYON = CallOperation(
    name="zupertry_cancel_tryon",
    title="Cancel a try-on",
    description="Cancel a try-on that is still pending and get its credit back.",
    params=JobParams,
    hints=DESTROYS,
    method="DELETE",
    path="/v1/jobs/{job_id}",
    repeatable=False,
    withdraws=True,
    state=read_cancelled,
    result=cancelled,
)

LIST_WORKSPACES = CallOperation(
    name="zupertry_list_workspaces",
    title="List workspaces",
    description="List the account's workspaces; their ids go into zupertry_start_tryon.",
    params=Params,
    hints=READS,
    personal=True,
    path="/v1/workspaces",
    result=workspaces,
)

GET_ACCOUNT = CallOperation(
    name="zupertry_get_account",
    title="Get account",
    description="Return the account's plan, credits and region.",
    params=Params,
    hints=READS,
    path="/v1/account",
)

PROVIDER = Provider(
    name=NAME,
    title=TITLE,
    documentation="https://docs.zupertry.com/api-reference",
    base_url="https://app.zupertry.com",
    base_url_variable="ZUPERTRY_BASE_URL",
    credentials=(
        Credential(
            variable="ZUPERTRY_API_KEY",
            modes={"zt_live_sk_": "live", "zt_test_sk_": "test"},
            free_modes=frozenset({"test"}),  # "no credits are consumed"
        ),
    ),
    settings=Settings,
    units=("credits",),
    limits=lambda _: Limits(rates=(Rate(REQUESTS_PER_MINUTE, 60),)),
    refusals=frozenset({401, 402, 403, 404, 409, 422, 429}),  # the error tables
    codes=CODES,
    operations=(
        START_TRYON,
        CHECK_TRYON,
        LIST_TRYONS,
        CANCEL_TRYON,
        LIST_WORKSPACES,
        GET_ACCOUNT,
    ),
    probe=GET_ACCOUNT.name,
)
