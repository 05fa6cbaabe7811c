"""ZSky: images and videos from a prompt. Source of all facts: https://zsky.ai/api-docs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

from pydantic import Field

from darkroom.providers import (
    DESTROYS,
    READS,
    STARTS,
    Allowance,
    CallOperation,
    CheckOperation,
    CheckParams,
    Cost,
    Credential,
    JobOperation,
    JobParams,
    Limits,
    Lookback,
    Output,
    Params,
    Provider,
    ProviderSettings,
    Quota,
    Rate,
    Secret,
    StartParams,
    State,
    StateSource,
    Suspension,
    failure,
    reading,
)

if TYPE_CHECKING:
    from darkroom.providers import JsonObject, Response, Status

NAME, TITLE = "zsky", "ZSky"

# --- limits ("Rate Limits & Allowances") ---

REQUESTS_PER_MINUTE = 20
CONCURRENT_JOBS = 3
IMAGES_PER_MONTH = 1_000
VIDEOS_PER_MONTH = 300
IMAGES_PER_DAY = 200
VIDEOS_PER_DAY = 50
ADDRESS_SECONDS = 86_400
KEY_PREFIX = "zsky_live_"
IMAGE_SECONDS = 6.0
"""guessed: no document says how long an image takes; the sample client polls every 2 s."""

VIDEO_SECONDS = 60.0
LONGEST_IMAGE_SECONDS = 600.0
LONGEST_VIDEO_SECONDS = 1_800.0


class Settings(ProviderSettings):
    """What ZSky lets a customer change."""

    allow_overage: bool = Field(
        default=False, description="Go on beyond the month's allowance, which ZSky charges for."
    )
    images_per_month: int = Field(
        default=IMAGES_PER_MONTH, ge=1, description="Images that the month's allowance covers."
    )
    videos_per_month: int = Field(
        default=VIDEOS_PER_MONTH, ge=1, description="Videos that the month's allowance covers."
    )
    images_per_day: int = Field(
        default=IMAGES_PER_DAY, ge=1, description="Daily soft cap on images (lifted on request)."
    )
    videos_per_day: int = Field(
        default=VIDEOS_PER_DAY, ge=1, description="Daily soft cap on videos (lifted on request)."
    )


# --- arguments ---

Prompt = Annotated[str, Field(min_length=1, max_length=2000)]
Pixels = Annotated[int, Field(ge=256, le=2048, description="Pixels; 1024 if left out.")]


class StartImage(StartParams):
    """``POST /v1/images/generate``."""

    prompt: Prompt
    width: Pixels | None = None
    height: Pixels | None = None
    seed: Annotated[int, Field(description="Same seed, same picture.")] | None = None
    negative: Annotated[str, Field(max_length=2000, description="What to avoid.")] | None = None


class StartVideo(StartParams):
    """``POST /v1/videos/generate``."""

    prompt: Prompt
    length: Annotated[int, Field(ge=1, description="Frames; 121 is 5 s.")] | None = None


# --- responses ---

STATUSES: dict[str, Status] = {
    "completed": "completed",
    "blocked": "blocked",
    "failed": "failed",
}
"""Terminal statuses; every other one counts as running."""


def accepted(response: Response) -> str | None:
    """Return ``job_id`` of a submission."""
    return reading.text(response.object, "job_id")


def read_state(response: Response) -> State:
    """Read ``GET /v1/jobs/{id}``."""
    fields = response.object
    said = reading.required_text(fields, "status")
    status = STATUSES.get(said.lower(), "running")
    address = reading.address(fields, "result_url")
    if status == "completed" and address is None:
        ended = State(status=status, provider_status=said)
        raise reading.UnreadableError("completed without result_url", ended=ended)
    if status == "completed":
        lifetime = reading.seconds(fields, "expires_in") or ADDRESS_SECONDS
        output = Output(index=0, url=address, expires_at=response.received_at + lifetime)
        return State(status=status, provider_status=said, outputs=(output,))
    if status == "running":
        return State(status=status, provider_status=said)
    code = "blocked_by_safety" if status == "blocked" else "provider_error"
    return State(
        status=status,
        provider_status=said,
        failure=failure(code, TITLE, provider_message=reading.text(fields, "error")),
    )


def usage(response: Response, params: Params) -> JsonObject:
    """Return ``GET /v1/usage`` with what is left of the allowance."""
    del params
    fields = response.object
    return {
        **fields,
        "videos_left": _left(fields, "videos"),
        "images_left": _left(fields, "images"),
    }


def _left(fields: JsonObject, kind: str) -> int:
    base, used = (
        reading.count(fields, f"base_{kind}_allowance"),
        reading.count(fields, f"{kind}_used"),
    )
    if base is None or used is None:
        raise reading.UnreadableError(f"no allowance of {kind}")
    return max(0, base - used)


def left(response: Response, operation: str) -> int:
    """Return how many more jobs the month's allowance covers."""
    return _left(response.object, "videos" if operation == START_VIDEO.name else "images")


def exhausted(response: Response, operation: str) -> bool:
    """Tell from ``GET /v1/usage`` whether a 429 meant the month's allowance."""
    return left(response, operation) == 0


def deleted(response: Response, params: JobParams) -> JsonObject:
    """Return the result of a deletion, which is answered with 204."""
    del response
    return {"job_id": params.job_id, "deleted": True}


def prompt_of(arguments: JsonObject) -> str:
    """Return the text that files are named after."""
    return reading.text(arguments, "prompt") or ""


def counters(response: Response, sent_at: float) -> JsonObject:
    """Return this month's counters as evidence about an unknown submission."""
    del sent_at
    names = ("images_used", "videos_used")
    return {"usage_now": {name: response.object.get(name) for name in names}}


# --- operations ("Endpoints") ---

STATE = StateSource(path="/v1/jobs/{id}", read=read_state)
USAGE_COUNTERS = Lookback(path="/v1/usage", evidence=counters)

START_IMAGE = JobOperation(
    name="zsky_start_image",
    title="Start a ZSky image",
    description="Start generating an image from a prompt. Then call zsky_check_job.",
    params=StartImage,
    hints=STARTS,
    path="/v1/images/generate",
    accepted=accepted,
    also_accepts=frozenset({503}),  # "Workers unavailable; queued": a job, if it has an id
    state=STATE,
    check_tool="zsky_check_job",
    typical_seconds=IMAGE_SECONDS,
    longest_seconds=LONGEST_IMAGE_SECONDS,
    cost=lambda _params, _settings: Cost(1, "images"),
    lookback=USAGE_COUNTERS,
    label=prompt_of,
    quota=lambda settings: Quota(
        daily=settings.images_per_day,
        monthly=settings.images_per_month,
        overage=settings.allow_overage,
    ),
    texts=("prompt", "negative"),
)

START_VIDEO = JobOperation(
    name="zsky_start_video",
    title="Start a ZSky video",
    description="Start generating a video with sound from a prompt (about a minute). "
    "Then call zsky_check_job.",
    params=StartVideo,
    hints=STARTS,
    path="/v1/videos/generate",
    accepted=accepted,
    also_accepts=frozenset({503}),
    state=STATE,
    check_tool="zsky_check_job",
    typical_seconds=VIDEO_SECONDS,
    longest_seconds=LONGEST_VIDEO_SECONDS,
    cost=lambda _params, _settings: Cost(1, "videos"),
    lookback=USAGE_COUNTERS,
    label=prompt_of,
    quota=lambda settings: Quota(
        daily=settings.videos_per_day,
        monthly=settings.videos_per_month,
        overage=settings.allow_overage,
    ),
    texts=("prompt",),
)

CHECK_JOB = CheckOperation(
    name="zsky_check_job",
    title="Check a ZSky job",
    description="Wait for an image or video and return its state and files. "
    "Call it again while the job is queued or running.",
    params=CheckParams,
    hints=READS,
    operations=(START_IMAGE.name, START_VIDEO.name),
    adopts=START_IMAGE.name,
)

DELETE_RESULT = CallOperation(
    name="zsky_delete_result",
    title="Delete a ZSky result",
    description="Delete a result from ZSky's storage now instead of after 7 days; "
    "files saved here stay. list_jobs shows the jobs.",
    params=JobParams,
    hints=DESTROYS,
    method="DELETE",
    path="/v1/jobs/{job_id}",
    repeatable=False,
    asks="Delete the result of {job_id} from ZSky's storage? It cannot be brought back.",
    drops_outputs=True,
    result=deleted,
)

GET_USAGE = CallOperation(
    name="zsky_get_usage",
    title="Get ZSky usage",
    description="Return what this month's allowance is and what is left of it.",
    params=Params,
    hints=READS,
    path="/v1/usage",
    result=usage,
)

ROTATE_KEY = CallOperation(
    name="zsky_rotate_key",
    title="Rotate the ZSky key",
    description="Replace the API key; the old one dies at once and the new one goes into its file.",
    params=Params,
    hints=DESTROYS,
    method="POST",
    path="/v1/keys/rotate",
    repeatable=False,
    asks="Replace the ZSky API key? The present one stops working everywhere at once.",
    secret=Secret(prefix=KEY_PREFIX, replaces=True),  # "a one-time-shown plaintext value"
    if_lost="the old key may be dead: tell the person to try it, and to rotate on ZSky's page if so",
    result=lambda _response, _params: {"rotated": True},
)

PROVIDER = Provider(
    name=NAME,
    title=TITLE,
    documentation="https://zsky.ai/api-docs",
    base_url="https://zsky.ai",
    base_url_variable="ZSKY_BASE_URL",
    credentials=(
        Credential(
            variable="ZSKY_API_KEY", header="X-API-Key", scheme="", modes={KEY_PREFIX: "live"}
        ),
    ),
    settings=Settings,
    units=("images", "videos"),
    prices={"images": 0.05, "videos": 0.50},  # "Overage pricing"; within the allowance it is less
    limits=lambda _: Limits(
        rates=(Rate(REQUESTS_PER_MINUTE, 60),), concurrent_jobs=CONCURRENT_JOBS
    ),
    refusals=frozenset({400, 401, 403, 404, 429, 451}),  # "Error Codes"
    statuses={403: "suspended"},
    allowance=Allowance(path="/v1/usage", exhausted=exhausted, left=left),
    suspension=Suspension(  # "Safety"
        share=0.5, least=10, window_seconds=1_800, suspended_seconds=86_400
    ),
    operations=(START_IMAGE, START_VIDEO, CHECK_JOB, DELETE_RESULT, GET_USAGE, ROTATE_KEY),
    probe=GET_USAGE.name,
)
