"""Lumen: pictures made larger. An invented provider; its page would be https://lumen.example/docs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import Field

from darkroom.catalogue import Catalogue
from darkroom.providers import (
    READS,
    STARTS,
    Address,
    CallOperation,
    CheckOperation,
    CheckParams,
    Cost,
    Credential,
    JobOperation,
    Limits,
    Output,
    Params,
    Provider,
    ProviderSettings,
    Rate,
    StartParams,
    State,
    StateSource,
    failure,
    reading,
)

if TYPE_CHECKING:
    from darkroom.providers import Code, JsonObject, Response, Status

TITLE = "Lumen"

# --- limits ("Fair use") ---

REQUESTS_PER_MINUTE = 60
CONCURRENT_JOBS = 5
TYPICAL_SECONDS = 10.0
LONGEST_SECONDS = 300.0
CREDITS = {2: 1, 4: 3}
"""What enlarging by a factor costs."""


class Settings(ProviderSettings):
    """What Lumen lets a customer change."""

    discount: float = Field(
        default=1.0, gt=0, le=1, description="Share of the list price that your plan pays."
    )


# --- arguments ---


class StartUpscale(StartParams):
    """``POST /v1/upscales``."""

    image_url: Annotated[Address, Field(description="The picture to enlarge.")]
    factor: Literal[2, 4] = 2


# --- answers ---

STATUSES: dict[str, Status] = {"done": "completed", "rejected": "blocked", "error": "failed"}
"""Terminal states; ``waiting`` and ``working`` are still on their way."""

CODES: dict[str, Code] = {"no_credits": "insufficient_credits"}
"""``error.code`` where the status does not say it."""


def accepted(answer: Response) -> str | None:
    """Return ``id`` of a submission."""
    return reading.text(answer.object, "id")


def read_state(answer: Response) -> State:
    """Read ``GET /v1/upscales/{id}``."""
    fields = answer.object
    said = reading.required_text(fields, "state")
    status = STATUSES.get(said, "running")
    if status == "completed":
        address = reading.address(fields, "url")
        if address is None:
            raise reading.UnreadableError("done without url")
        output = Output(index=0, url=address, expires_at=reading.moment(fields.get("expires_at")))
        cost = Cost(reading.number(fields, "credits") or 0, "credits", "exact")
        return State(status=status, provider_status=said, outputs=(output,), cost=cost)
    if status == "running":
        return State(status=status, provider_status=said)
    code = "blocked_by_safety" if status == "blocked" else "provider_error"
    return State(
        status=status,
        provider_status=said,
        failure=failure(code, TITLE, provider_message=reading.text(fields, "reason")),
    )


def balance(answer: Response, params: Params) -> JsonObject:
    """Return ``GET /v1/balance``."""
    del params
    return {"credits": int(reading.number(answer.object, "credits") or 0)}


# --- operations ---

START_UPSCALE = JobOperation(
    name="lumen_start_upscale",
    title="Start a Lumen upscale",
    description="Start enlarging a picture. Then call lumen_check_upscale.",
    params=StartUpscale,
    hints=STARTS,
    path="/v1/upscales",
    accepted=accepted,
    state=StateSource(path="/v1/upscales/{id}", read=read_state),
    check_tool="lumen_check_upscale",
    typical_seconds=TYPICAL_SECONDS,
    longest_seconds=LONGEST_SECONDS,
    cost=lambda params, settings: Cost(CREDITS[params.factor] * settings.discount, "credits"),
)

CHECK_UPSCALE = CheckOperation(
    name="lumen_check_upscale",
    title="Check a Lumen upscale",
    description="Wait for an enlarged picture and return its state and file. "
    "Call it again while the job is queued or running.",
    params=CheckParams,
    hints=READS,
    operations=(START_UPSCALE.name,),
    adopts=START_UPSCALE.name,
)

GET_BALANCE = CallOperation(
    name="lumen_get_balance",
    title="Get the Lumen balance",
    description="Return how many credits the account has.",
    params=Params,
    hints=READS,
    path="/v1/balance",
    result=balance,
)

PROVIDER = Provider(
    name="lumen",
    title=TITLE,
    documentation="https://lumen.example/docs",
    base_url="https://api.lumen.example",
    base_url_variable="LUMEN_BASE_URL",
    credentials=(Credential(variable="LUMEN_API_KEY"),),
    settings=Settings,
    limits=lambda _settings: Limits(
        rates=(Rate(REQUESTS_PER_MINUTE, 60),), concurrent_jobs=CONCURRENT_JOBS
    ),
    refusals=frozenset({400, 401, 402, 404, 429}),  # "Errors": nothing was made
    codes=CODES,
    units=("credits",),
    operations=(START_UPSCALE, CHECK_UPSCALE, GET_BALANCE),
    probe=GET_BALANCE.name,
)

CATALOGUE = Catalogue(providers=(PROVIDER,))
