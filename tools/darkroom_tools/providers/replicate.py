"""Replicate: any of its models, by predictions. Source: https://replicate.com/docs/reference/http.

What no page says is marked ``guessed:``.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import Field

from darkroom.providers import (
    DESTROYS,
    READS,
    STARTS,
    CallOperation,
    CheckOperation,
    CheckParams,
    Cost,
    Credential,
    ErrorBody,
    JobOperation,
    JobParams,
    Limits,
    Lookback,
    Output,
    Params,
    Price,
    Progress,
    Provider,
    ProviderSettings,
    Rate,
    Request,
    StartParams,
    State,
    StateSource,
    failure,
    read_error_body,
    reading,
)

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from darkroom.providers import JsonObject, JsonValue, Response, Status

NAME, TITLE = "replicate", "Replicate"

# --- limits ("Rate limits", "Data retention") ---

CREATED_PER_MINUTE = 600
KEPT_SECONDS = 3_600.0
"""Input, output and files of a prediction "are automatically deleted after an hour"."""

CANCEL_AFTER = "30m"
"""A prediction that is forgotten stops costing; it is stopped after 30 minutes in any case."""

TYPICAL_SECONDS = 10.0
"""guessed: it depends on the model; the engine learns it."""

LONGEST_SECONDS = 2_000.0
SEND_WINDOW_SECONDS = 30.0
MOST_OUTPUTS = 50

PRICES = {
    "black-forest-labs/flux-schnell": 0.003,
    "black-forest-labs/flux-1.1-pro": 0.04,
    "black-forest-labs/flux-kontext-pro": 0.04,
}
"""guessed: US dollars a picture, as they were in 2025; the API names no price."""


class Settings(ProviderSettings):
    """What differs between customers of Replicate."""

    prices: dict[str, Price] = Field(
        default_factory=dict,
        description="What one output of a model costs, in US dollars, by owner/name.",
    )
    assumed_price: Price = Field(
        default=0.05,
        description="What a prediction counts, in US dollars, of a model whose price is not known.",
    )


# --- arguments ---

OFFICIAL = re.compile(r"[\w.-]+/[\w.-]+", re.ASCII)
VERSION = re.compile(r"(?:[\w.-]+/[\w.-]+:)?[0-9a-f]{64}", re.ASCII)


class Start(StartParams):
    """``POST /v1/models/{owner}/{name}/predictions`` or ``POST /v1/predictions``."""

    model: Annotated[
        str,
        Field(
            max_length=300, description="owner/name, or owner/name:version for community models."
        ),
    ]
    input: Annotated[dict[str, Any], Field(description="As the model's page has it.")]


def mistakes(params: Start, settings: Settings) -> Iterable[str]:
    """Name a model that is none of the forms that Replicate knows."""
    del settings
    official = OFFICIAL.fullmatch(params.model) and not {".", ".."} & set(params.model.split("/"))
    if not official and VERSION.fullmatch(params.model) is None:
        yield "model: expected owner/name, or owner/name:version with its 64 digits"


def request_of(params: Start, settings: Settings) -> Request:
    """Build the request: official models have a path, others a version."""
    del settings
    headers = {"Cancel-After": CANCEL_AFTER}
    if VERSION.fullmatch(params.model):
        body: JsonObject = {"version": params.model.rpartition(":")[2], "input": params.input}
        return Request(method="POST", path="/v1/predictions", body=body, headers=headers)
    path = f"/v1/models/{params.model}/predictions"
    return Request(method="POST", path=path, body={"input": params.input}, headers=headers)


def cost_of(params: Start, settings: Settings) -> Cost:
    """Return what a prediction is likely to cost; no answer names it."""
    name = params.model.partition(":")[0]
    known = settings.prices.get(name, PRICES.get(name))
    outputs = params.input.get("num_outputs", 1)
    count = min(max(1, outputs), MOST_OUTPUTS) if isinstance(outputs, int) else 1
    if known is None:
        return Cost(settings.assumed_price, "usd", "unknown")
    return Cost(known * count, "usd", "estimate")


# --- answers ---

STATUSES: dict[str, Status] = {
    "succeeded": "completed",
    "failed": "failed",
    "canceled": "cancelled",
    "cancelled": "cancelled",
    "aborted": "cancelled",  # ended before it began
}
"""Terminal statuses; ``starting`` and ``processing`` are still on their way."""

MODERATION = re.compile(r"nsfw|sensitive|\(E005\)|content policy|safety", re.IGNORECASE)
"""guessed: a refused picture is a failed prediction, told by these words of its error."""

INTERRUPTED = re.compile(r"\(code: PA\)")
"""guessed: "Prediction interrupted; please retry"."""

PERCENT = re.compile(r"(\d{1,3})%\|")
WAIT = re.compile(r"resets in ~?(\d+)s")


def accepted(response: Response) -> str | None:
    """Return ``id`` of a new prediction."""
    return reading.text(response.object, "id")


def read_state(response: Response) -> State:
    """Read a prediction."""
    fields = response.object
    said = reading.required_text(fields, "status")
    status = STATUSES.get(said, "running")
    metrics = fields.get("metrics")
    timed = metrics if isinstance(metrics, dict) else {}
    details: JsonObject = {"predict_seconds": reading.number(timed, "predict_time")}
    if status == "running":
        return State(status=status, provider_status=said, progress=progress(fields))
    if status == "cancelled":
        return State(status=status, provider_status=said, details=details)
    if status == "failed":
        message = reading.text(fields, "error") or ""
        moderated = MODERATION.search(message) is not None
        code = "blocked_by_safety" if moderated else "provider_error"
        if INTERRUPTED.search(message):
            code = "provider_unavailable"
        return State(
            status="blocked" if moderated else "failed",
            provider_status=said,
            failure=failure(code, TITLE, provider_message=message),
            details=details,
        )
    return succeeded(response, said, details)


def succeeded(response: Response, said: str, details: JsonObject) -> State:
    """Read the output, whose form is the model's own: text, a list, an object."""
    fields = response.object
    output = fields.get("output")
    if output == []:  # guessed: the checker of the model took everything out
        error = failure("blocked_by_safety", TITLE)
        return State(status="blocked", provider_status=said, failure=error, details=details)
    ended_at = reading.moment(fields.get("completed_at")) or response.received_at
    outputs = tuple(
        Output(index=index, url=address, expires_at=ended_at + KEPT_SECONDS)
        for index, address in enumerate(addresses(output))
    )
    if not outputs:
        ended = State(status="completed", provider_status=said, details=details)
        raise reading.UnreadableError("succeeded without an address", ended=ended)
    return State(status="completed", provider_status=said, outputs=outputs, details=details)


def addresses(value: JsonValue) -> Iterator[str]:
    """Yield the addresses in an output, in their order."""
    if isinstance(value, str) and value.startswith(("https://", "http://")):
        yield value
    elif isinstance(value, list):
        for inner in value:
            yield from addresses(inner)
    elif isinstance(value, dict):
        for inner in value.values():
            yield from addresses(inner)


def progress(fields: JsonObject) -> Progress | None:
    """Return the last percentage that the model has logged."""
    found = PERCENT.findall(reading.text(fields, "logs") or "")
    return Progress(min(int(found[-1]), 100), 100) if found else None


def read_error(response: Response) -> ErrorBody:
    """Read an error as RFC 7807 has it; how long to wait may stand in its text only."""
    said = read_error_body(response.body)
    wait = WAIT.search(said.message or "")
    seconds = float(wait[1]) if wait else said.retry_after_seconds
    return ErrorBody(None, said.message, retry_after_seconds=seconds)


def recent(response: Response, sent_at: float) -> JsonObject:
    """Return the ids of predictions that were made when the request was sent."""
    made = [
        (reading.text(each, "id"), reading.moment(each.get("created_at")))
        for each in reading.objects(response.object.get("results"))
    ]
    return {
        "candidates": [
            name for name, at in made if name and at and abs(at - sent_at) <= SEND_WINDOW_SECONDS
        ]
    }


def cancelled(response: Response, params: Params) -> JsonObject:
    """Return what the prediction is after it was cancelled."""
    said = reading.text(response.object, "status") or ""
    return {"job_id": getattr(params, "job_id", ""), "provider_status": said}


def prompt_of(arguments: JsonObject) -> str:
    """Return the text that files are named after."""
    inner = arguments.get("input")
    return reading.text(inner, "prompt") or "" if isinstance(inner, dict) else ""


# --- operations ---

START = JobOperation(
    name="replicate_start",
    title="Start a Replicate prediction",
    description="Start any model of Replicate with its own input. Then call replicate_check_job.",
    params=Start,
    hints=STARTS,
    path="/v1/predictions",
    prepare=request_of,
    check=mistakes,
    accepted=accepted,
    state=StateSource(path="/v1/predictions/{id}", read=read_state),
    check_tool="replicate_check_job",
    cancel="replicate_cancel",
    typical_seconds=TYPICAL_SECONDS,
    longest_seconds=LONGEST_SECONDS,
    cost=cost_of,
    lookback=Lookback(path="/v1/predictions", evidence=recent),
    texts=("input.prompt",),
    label=prompt_of,
)

CHECK_JOB = CheckOperation(
    name="replicate_check_job",
    title="Check a Replicate prediction",
    description="Wait for a prediction and return its state and files. "
    "Call it again while the job is queued or running.",
    params=CheckParams,
    hints=READS,
    operations=(START.name,),
    adopts=START.name,
)

CANCEL = CallOperation(
    name="replicate_cancel",
    title="Cancel a Replicate prediction",
    description="Cancel a prediction that has not ended; what it has used may be charged.",
    params=JobParams,
    hints=DESTROYS,
    method="POST",
    path="/v1/predictions/{job_id}/cancel",
    repeatable=False,
    withdraws=True,
    state=read_state,
    result=cancelled,
)

PROVIDER = Provider(
    name=NAME,
    title=TITLE,
    documentation="https://replicate.com/docs/reference/http",
    base_url="https://api.replicate.com",
    base_url_variable="REPLICATE_BASE_URL",
    base_url_suffix="/v1",
    credentials=(Credential(variable="REPLICATE_API_TOKEN"),),
    settings=Settings,
    limits=lambda _: Limits(rates=(Rate(CREATED_PER_MINUTE, 60),)),
    refusals=frozenset({400, 401, 402, 403, 404, 422, 429}),
    read_error=read_error,
    units=("usd",),
    prices={"usd": 1.0},
    operations=(START, CHECK_JOB, CANCEL),
)
