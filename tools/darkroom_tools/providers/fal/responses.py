"""How fal's answers are read. Source: https://docs.fal.ai and fal's own clients.

What no page says is marked ``guessed:``.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from darkroom.providers import (
    Acceptance,
    ErrorBody,
    Output,
    State,
    failure,
    read_error_body,
    reading,
)

if TYPE_CHECKING:
    from darkroom.providers import Code, JsonObject, JsonValue, Params, Response

TITLE = "fal"
FILE_SECONDS = 7 * 86_400.0
"""guessed: how long a file lives is a setting of the account; an old page promises seven days."""

BLOCKED = "a picture is not handed out: fal's safety checker blackened it"
LOCKED_WORDS = ("exhausted", "locked", "top up", "balance")
"""guessed: by these words of a 403 an empty account is told from a key without permission."""

CODES: dict[str, Code] = {
    "content_policy_violation": "blocked_by_safety",
    "no_media_generated": "provider_error",
    "internal_server_error": "provider_error",
    "generation_timeout": "timeout",
    "downstream_service_error": "provider_error",
    "downstream_service_unavailable": "provider_unavailable",
    "request_timeout": "timeout",
    "startup_timeout": "timeout",
    "runner_scheduling_failure": "provider_unavailable",
    "runner_connection_timeout": "provider_unavailable",
    "runner_disconnected": "provider_error",
    "runner_connection_refused": "provider_unavailable",
}
"""Types of errors whose meaning their status does not say: of a model, and of the queue."""

ENDS = frozenset({400, 422, 500, 503, 504})
"""Statuses with which a result says that its job has failed, if the body is an error of a model."""


def accepted(response: Response) -> Acceptance | None:
    """Read a submission: ``request_id``, three addresses, the place in the queue."""
    fields = response.object
    request_id = reading.text(fields, "request_id")
    if request_id is None:
        return None
    named = {
        "state": reading.address(fields, "status_url"),
        "result": reading.address(fields, "response_url"),
        "cancel": reading.address(fields, "cancel_url"),
    }
    return Acceptance(
        id=request_id,
        addresses={name: address for name, address in named.items() if address is not None},
        details={"queue_position": reading.count(fields, "queue_position")},
    )


def read_state(response: Response) -> State:
    """Read a status: a job that failed is COMPLETED too, with or without an ``error``."""
    fields = response.object
    said = reading.required_text(fields, "status")
    details: JsonObject = {"queue_position": reading.count(fields, "queue_position")}
    if said != "COMPLETED":  # IN_QUEUE, IN_PROGRESS; anything else is taken for these
        if line := last_log(fields.get("logs")):
            details["log"] = line
        return State(status="running", provider_status=said, details=details)
    metrics = fields.get("metrics")
    if isinstance(metrics, dict):
        details["inference_seconds"] = reading.number(metrics, "inference_time")
    error = reading.text(fields, "error")
    if error is None:
        return State(status="completed", provider_status=said, details=details)
    kind = reading.text(fields, "error_type")
    return replace(
        ended(ErrorBody(kind, error), response, CODES.get(kind or "", "provider_error")),
        provider_status=said,
        details=details,
    )


def read_result(response: Response) -> State:
    """Read a result: the model's output, or the error with which the model ended.

    Raises
    ------
    UnreadableError: neither; while the job is not done, fal answers 400 with a text (guessed).
    """
    if not response.ok:
        if "detail" not in response.object or not is_models_error(response.object):
            raise reading.UnreadableError("no error of a model")
        said = read_error(response)
        return ended(said, response, CODES.get(said.code or "", "invalid_argument"))
    fields = response.object
    inner = fields.get("response")
    if isinstance(inner, dict) and "status" in fields:  # as an old page shows it
        fields = inner
    files = found_files(fields)
    flags = fields.get("has_nsfw_concepts")
    flagged = flags if isinstance(flags, list) else []
    black = {index for index, flag in enumerate(flagged) if flag is True}
    outputs = tuple(
        output_of(index, file, response.received_at)
        for index, file in enumerate(files)
        if index not in black
    )
    details: JsonObject = {"seed": reading.number(fields, "seed")}
    if not files:
        state = State(status="completed", details=details)
        raise reading.UnreadableError("a result without a file", ended=state)
    if not outputs:
        return State(status="blocked", failure=failure("blocked_by_safety", TITLE), details=details)
    warnings = (BLOCKED,) if black else ()
    return State(status="completed", outputs=outputs, warnings=warnings, details=details)


def found_files(fields: JsonObject) -> list[JsonObject]:
    """Return the files of an output: models name them differently."""
    listed = [*reading.objects(fields.get("images")), *reading.objects(fields.get("videos"))]
    single = (fields.get(name) for name in ("image", "video", "audio"))
    files = [*listed, *(file for file in single if isinstance(file, dict))]
    return [file for file in files if reading.address(file, "url") is not None]


def output_of(index: int, file: JsonObject, received_at: float) -> Output:
    """Return a file as an output of the job."""
    return Output(
        index=index,
        url=reading.address(file, "url"),
        expires_at=received_at + FILE_SECONDS,
        media_type=reading.text(file, "content_type"),
        width=reading.count(file, "width"),
        height=reading.count(file, "height"),
        bytes=reading.count(file, "file_size"),
    )


def ended(said: ErrorBody, response: Response, code: Code) -> State:
    """Return the state of a job that a model or the queue gave up."""
    if said.means is not None:
        code = said.means
    if "cancel" in f"{said.code} {said.message}".lower():  # guessed: what a cancelled job shows
        return State(status="cancelled")
    error = failure(code, TITLE, provider_code=said.code, provider_message=said.message)
    hint = response.headers.get("x-fal-retryable")
    if hint is not None:
        error = replace(error, retryable=hint.lower() == "true")
    status = "blocked" if code == "blocked_by_safety" else "failed"
    return State(status=status, failure=error)


def is_models_error(body: JsonObject) -> bool:
    """Tell whether a body is an error of a model, or of the queue, by which a job ends."""
    detail = body["detail"]
    if isinstance(detail, list):
        return any(isinstance(entry, dict) and "msg" in entry for entry in detail)
    return isinstance(detail, str) and "error_type" in body


def read_error(response: Response) -> ErrorBody:
    """Read an error: of a model (a list of entries with a ``type``), of the queue, of the account."""
    said = read_error_body(response.body)
    detail = response.object.get("detail")
    if isinstance(detail, list):
        types = [reading.text(entry, "type") for entry in reading.objects(detail)]
        said = replace(said, code=next(filter(None, types), None))
    kind = response.headers.get("x-fal-error-type")
    if said.code is None and kind:
        said = replace(said, code=kind)
    message = (said.message or "").lower()
    if response.status == 403 and any(word in message for word in LOCKED_WORDS):  # noqa: PLR2004 -- forbidden
        said = replace(said, means="insufficient_credits")
    return said


def last_log(logs: JsonValue) -> str | None:
    """Return the newest line that a model has logged."""
    lines = [reading.text(entry, "message") for entry in reading.objects(logs)]
    return next(filter(None, reversed(lines)), None)


def cancelled(response: Response, params: Params) -> JsonObject:
    """Return what became of asking for a cancellation: the job may run to its end all the same."""
    said = reading.text(response.object, "status") or ""
    return {
        "job_id": getattr(params, "job_id", ""),
        "asked": said != "ALREADY_COMPLETED",
        "provider_status": said,
    }
