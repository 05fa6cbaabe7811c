"""Black Forest Labs: FLUX.2 pictures and try-on. Source: https://docs.bfl.ai and its OpenAPI.

What no page says is marked ``guessed:``.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import Field

from darkroom.providers import (
    READS,
    STARTS,
    Acceptance,
    Address,
    CallOperation,
    CheckOperation,
    CheckParams,
    Cost,
    Credential,
    ErrorBody,
    JobOperation,
    Limits,
    MissingError,
    Output,
    Params,
    Price,
    Progress,
    Provider,
    ProviderSettings,
    Request,
    StartParams,
    State,
    StateSource,
    failure,
    read_error_body,
    reading,
)

if TYPE_CHECKING:
    from collections.abc import Iterable

    from darkroom.providers import Code, JsonObject, JsonValue, Response

NAME, TITLE = "bfl", "Black Forest Labs"

# --- limits and prices ("Pricing", "Errors") ---

ACTIVE_TASKS = 24
ADDRESS_SECONDS = 600.0
"""An address of a result is "only valid for 10 minutes"."""

IMAGE_SECONDS, TRYON_SECONDS = 12.0, 15.0
"""guessed: no page says how long a picture takes; the engine learns it."""

LONGEST_SECONDS = 1_800.0
CENT = 0.01
"""US dollars that a credit costs."""

DEFAULT_MODEL = "flux-2-pro"
CREDITS = {
    "flux-2-pro": (3.0, 1.5),
    "flux-2-max": (7.0, 3.0),
    "flux-2-flex": (5.0, 5.0),
    "flux-2-klein-4b": (1.4, 0.1),
    "flux-2-klein-9b": (1.5, 0.2),
}
"""Credits of the first megapixel, and of each further one; pictures that go in count as further."""

MOST_PICTURES = {"flux-2-klein-4b": 4, "flux-2-klein-9b": 4}
PIXELS_STEP, LEAST_SIDE, MOST_PIXELS = 16, 64, 4_194_304
MEGAPIXEL = 1_048_576
TRYON_PATH = "/v1/flux-tools/vto-v2"
TRYON_PROMPT = "TRY-ON: The person of image 1 wearing the garments of image 2."


class Settings(ProviderSettings):
    """What differs between customers."""

    tryon_credits: Price = Field(
        default=5.0, description="Credits that a try-on counts before it says what it costs."
    )


# --- arguments ---

Side = Annotated[int, Field(ge=LEAST_SIDE, description="Pixels, a multiple of 16.")]


class StartImage(StartParams):
    """``POST /v1/flux-2-...``."""

    prompt: Annotated[str, Field(min_length=1)]
    model: (
        Literal["flux-2-pro", "flux-2-max", "flux-2-flex", "flux-2-klein-4b", "flux-2-klein-9b"]
        | None
    ) = None
    image_urls: (
        Annotated[list[Address], Field(max_length=8, description="Pictures to edit or combine.")]
        | None
    ) = None
    width: Side | None = None
    height: Side | None = None
    seed: int | None = None
    output_format: Literal["jpeg", "png", "webp"] | None = None


class StartTryon(StartParams):
    """``POST /v1/flux-tools/vto-v2``."""

    model_image_url: Annotated[Address, Field(description="Photo of the person.")]
    garment_image_url: Annotated[Address, Field(description="Photo of one or more garments.")]
    prompt: Annotated[str, Field(min_length=1)] | None = None
    seed: int | None = None


def image_mistakes(params: StartImage, settings: Settings) -> Iterable[str]:
    """Name sizes and numbers of pictures that a model does not take."""
    del settings
    for name, side in (("width", params.width), ("height", params.height)):
        if side is not None and side % PIXELS_STEP:
            yield f"{name}: expected a multiple of {PIXELS_STEP}"
    if (params.width or 0) * (params.height or 0) > MOST_PIXELS:
        yield "width, height: expected at most 4 megapixels in all"
    model = params.model or DEFAULT_MODEL
    most = MOST_PICTURES.get(model, 8)
    if len(params.image_urls or ()) > most:
        yield f"image_urls: {model} takes at most {most} pictures"


def image_request(params: StartImage, settings: Settings) -> Request:
    """Build the request for a picture: each picture that goes in has an argument of its own."""
    del settings
    body: JsonObject = params.model_dump(
        mode="json", exclude_none=True, exclude={"idempotency_key", "model", "image_urls"}
    )
    for number, address in enumerate(params.image_urls or (), start=1):
        body["input_image" if number == 1 else f"input_image_{number}"] = address
    return Request(method="POST", path=f"/v1/{params.model or DEFAULT_MODEL}", body=body)


def tryon_request(params: StartTryon, settings: Settings) -> Request:
    """Build the request for a try-on."""
    del settings
    body: JsonObject = {
        "prompt": params.prompt or TRYON_PROMPT,
        "person": params.model_image_url,
        "garment": params.garment_image_url,
    }
    if params.seed is not None:
        body["seed"] = params.seed
    return Request(method="POST", path=TRYON_PATH, body=body)


def image_cost(params: StartImage, settings: Settings) -> Cost:
    """Return the list price; a picture that goes in is taken for one megapixel (guessed)."""
    del settings
    first, further = CREDITS[params.model or DEFAULT_MODEL]
    pixels = (params.width or 1024) * (params.height or 1024)
    megapixels = max(1.0, pixels / MEGAPIXEL)
    beyond = megapixels - 1 + len(params.image_urls or ())
    return Cost(round(first + beyond * further, 2), "credits")


# --- answers ---

CODES: dict[str, Code] = {
    "rate_limit_exceeded": "rate_limited",
    "insufficient_credits": "insufficient_credits",
    "invalid_api_key": "auth_failed",
    "validation_error": "invalid_argument",
}

# --- what a submission says ---


def accepted(response: Response) -> Acceptance | None:
    """Read a submission: ``id``, ``polling_url`` and the exact ``cost``."""
    fields = response.object
    task = reading.text(fields, "id")
    if task is None:
        return None
    address, cost = reading.address(fields, "polling_url"), reading.amount(fields, "cost")
    return Acceptance(
        id=task,
        cost=Cost(cost, "credits", "exact") if cost is not None else None,
        addresses={"state": address} if address is not None else {},
    )


# --- what a poll says ---

MODERATED = frozenset({"request moderated", "content moderated"})
FORBIDDEN = 403


def read_state(response: Response) -> State:
    """Read a poll. The word in ``status`` counts before the HTTP status; unknown words run."""
    fields = response.object
    said = reading.required_text(fields, "status")
    word = said.lower()
    if word == "task not found":
        raise MissingError(said)
    if word == "ready":
        return ready(response, said)
    if word in MODERATED:
        reasons = fields.get("details")
        error = failure("blocked_by_safety", TITLE, provider_message=reason_of(reasons))
        # "not charged"
        return State(
            status="blocked",
            provider_status=said,
            failure=error,
            cost=Cost(0, "credits", "exact"),
        )
    if word in {"error", "failed"}:
        message = reading.text(fields, "error") or reason_of(fields.get("details"))
        error = failure("provider_error", TITLE, provider_message=message)
        return State(status="failed", provider_status=said, failure=error)
    share = reading.number(fields, "progress")
    progress = Progress(round(share * 100), 100) if share is not None and 0 <= share <= 1 else None
    return State(status="running", provider_status=said, progress=progress)


def ready(response: Response, said: str) -> State:
    """Read a finished job: one picture, whose address dies after ten minutes."""
    result = response.object.get("result")
    fields = result if isinstance(result, dict) else {}
    address = reading.address(fields, "sample")
    if address is None:
        ended = State(status="completed", provider_status=said)
        raise reading.UnreadableError("Ready without a sample", ended=ended)
    cost = reading.amount(response.object, "cost")
    return State(
        status="completed",
        provider_status=said,
        outputs=(Output(index=0, url=address, expires_at=response.received_at + ADDRESS_SECONDS),),
        cost=Cost(cost, "credits", "exact") if cost is not None else None,
        details={"seed": reading.number(fields, "seed")},
    )


def reason_of(details: JsonValue) -> str | None:
    """Return what ``details`` says, a list of reasons as one text."""
    if isinstance(details, str):
        return details
    if not isinstance(details, dict):
        return None
    said = next(iter(details.values()), None)
    if isinstance(said, list):
        return ", ".join(text for text in said if isinstance(text, str))
    return said if isinstance(said, str) else None


def read_error(response: Response) -> ErrorBody:
    """Read an error; a key that is not accepted is answered with 403 "Not authenticated"."""
    said = read_error_body(response.body)
    if response.status == FORBIDDEN and "not authenticated" in (said.message or "").lower():
        return replace(said, means="auth_failed")
    return said


def balance(response: Response, params: Params) -> JsonObject:
    """Return ``GET /v1/credits``."""
    del params
    left = reading.number(response.object, "credits")
    if left is None:
        raise reading.UnreadableError("no credits")
    return {"credits": left}


def prompt_of(arguments: JsonObject) -> str:
    """Return the text that files are named after."""
    return reading.text(arguments, "prompt") or ""


# --- operations ---

STATE = StateSource(
    address="state",  # on another host of the provider than the submission
    path="/v1/get_result?id={id}",
    read=read_state,
    also_reads=frozenset({404, 422, 503}),  # seen: a state comes with these, too
)

START_IMAGE = JobOperation(
    name="bfl_start_image",
    title="Start a FLUX picture",
    description="Start making a picture with FLUX.2 from a prompt, and from pictures if given. "
    "Then call bfl_check_job.",
    params=StartImage,
    hints=STARTS,
    path="/v1/{model}",
    prepare=image_request,
    check=image_mistakes,
    accepted=accepted,
    state=STATE,
    check_tool="bfl_check_job",
    typical_seconds=IMAGE_SECONDS,
    longest_seconds=LONGEST_SECONDS,
    cost=image_cost,
    texts=("prompt",),
    label=prompt_of,
    poll_interval_seconds=1.0,
)

START_TRYON = JobOperation(
    name="bfl_start_tryon",
    title="Start a FLUX try-on",
    description="Start putting garments onto a photo of a person. Then call bfl_check_job.",
    params=StartTryon,
    hints=STARTS,
    path=TRYON_PATH,
    prepare=tryon_request,
    accepted=accepted,
    state=STATE,
    check_tool="bfl_check_job",
    typical_seconds=TRYON_SECONDS,
    longest_seconds=LONGEST_SECONDS,
    cost=lambda _params, settings: Cost(settings.tryon_credits, "credits", "unknown"),
    texts=("prompt",),
    label=prompt_of,
    poll_interval_seconds=1.0,
)

CHECK_JOB = CheckOperation(
    name="bfl_check_job",
    title="Check a FLUX job",
    description="Wait for a picture and return its state and file. "
    "Call it again while the job is queued or running.",
    params=CheckParams,
    hints=READS,
    operations=(START_IMAGE.name, START_TRYON.name),
    adopts=START_IMAGE.name,
)

GET_CREDITS = CallOperation(
    name="bfl_get_credits",
    title="Get FLUX credits",
    description="Return how many credits the organisation has.",
    params=Params,
    hints=READS,
    path="/v1/credits",
    result=balance,
)

PROVIDER = Provider(
    name=NAME,
    title=TITLE,
    documentation="https://docs.bfl.ai",
    base_url="https://api.bfl.ai",
    base_url_variable="BFL_BASE_URL",
    hosts=("*.bfl.ai",),
    credentials=(Credential(variable="BFL_API_KEY", header="x-key", scheme=""),),
    settings=Settings,
    limits=lambda _: Limits(concurrent_jobs=ACTIVE_TASKS),
    refusals=frozenset({400, 401, 402, 403, 404, 422, 429}),
    codes=CODES,
    read_error=read_error,
    units=("credits",),
    prices={"credits": CENT},
    operations=(START_IMAGE, START_TRYON, CHECK_JOB, GET_CREDITS),
    probe=GET_CREDITS.name,
)
