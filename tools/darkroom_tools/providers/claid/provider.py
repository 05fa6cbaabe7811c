"""Claid: edits of an image. Source: https://docs.claid.ai/image-editing-api/async-api-reference."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pydantic import Field

from darkroom.providers import (
    READS,
    STARTS,
    CheckOperation,
    CheckParams,
    Cost,
    Credential,
    JobOperation,
    Limits,
    Output,
    Provider,
    ProviderSettings,
    Rate,
    Request,
    State,
    StateSource,
    failure,
    reading,
)
from darkroom_tools.providers.claid import arguments as claid_arguments
from darkroom_tools.providers.claid.arguments import StartImageEdit

if TYPE_CHECKING:
    from darkroom.providers import JsonObject, Response, Status

NAME, TITLE = "claid", "Claid"

# --- limits ("Rate limits") ---

REQUESTS_PER_MINUTE = 120
REQUESTS_PER_SECOND = 4
ADDRESS_SECONDS = 86_400
"""``tmp_url`` is valid for 24 hours."""

EDIT_SECONDS = 5.0
"""guessed: no document says how long an edit takes."""

LONGEST_EDIT_SECONDS = 900.0


class Settings(ProviderSettings):
    """Settings for points in which Claid's documents differ."""

    path_prefix: str = Field(
        default="/v1-beta1",
        pattern=r"^(/[\w.-]+)*$",
        description="What every path begins with; newer pages of the provider say /v1.",
    )
    output_hosts: tuple[str, ...] = Field(
        default=(), description="Hosts and storages that output may name; results go there."
    )


# --- responses ---

STATUSES: dict[str, Status] = {"DONE": "completed", "ERROR": "failed", "CANCELLED": "cancelled"}
"""Terminal statuses; ACCEPTED, PROCESSING, WAITING, PAUSED and unknown ones count as running."""

MEDIA_TYPES = {
    "jpg": "image/jpeg",
    "jpeg": "image/jpeg",
    "pnj": "image/jpeg",
    "png": "image/png",
    "webp": "image/webp",
    "avif": "image/avif",
    "av1": "image/avif",
    "tif": "image/tiff",
    "tiff": "image/tiff",
}
"""``mime`` goes first; ``format`` and ``ext`` are written in several ways ("pnj" stands beside
image/jpeg in the page's example, "av1" in its table)."""


ENDED = State(status="completed", provider_status="DONE")


def data(response: Response) -> JsonObject:
    """Return the object in ``data``, or the response itself."""
    inner = response.object.get("data")
    return inner if isinstance(inner, dict) else response.object


def accepted(response: Response) -> str | None:
    """Return the task's id, which is an integer."""
    task = data(response).get("id")
    if isinstance(task, int) and not isinstance(task, bool):
        return str(task)
    return task if isinstance(task, str) and task.isascii() and task.isdigit() else None


def read_state(response: Response) -> State:
    """Read ``GET {prefix}/image/edit/async/{task_id}``."""
    fields = data(response)
    said = reading.required_text(fields, "status")
    status = STATUSES.get(said.upper(), "running")
    if status == "completed":
        return State(status=status, provider_status=said, outputs=(read_output(response, fields),))
    error = None
    if status == "failed":
        errors = reading.objects(fields.get("errors"))
        message = reading.text(errors[0], "error") if errors else None
        error = failure("provider_error", TITLE, provider_message=message)
    return State(status=status, provider_status=said, failure=error)


def read_output(response: Response, fields: JsonObject) -> Output:
    """Read ``result.output_object``: a temporary address, or a file in the account's storage."""
    result = fields.get("result")
    made = result.get("output_object") if isinstance(result, dict) else None
    if not isinstance(made, dict):
        raise reading.UnreadableError("done without output_object", ended=ENDED)
    address = reading.address(made, "tmp_url")
    places = (reading.text(made, name) for name in STORED_AS)
    stored = next((place for place in places if place), None)
    if address is None and stored is None:
        raise reading.UnreadableError("done without tmp_url", ended=ENDED)
    kinds = (reading.text(made, name) or "" for name in ("format", "ext"))
    width, height = (reading.count(made, side) for side in ("width", "height"))
    return Output(
        index=0,
        url=address,
        expires_at=response.received_at + ADDRESS_SECONDS if address else None,
        media_type=reading.text(made, "mime")
        or next((MEDIA_TYPES[kind.lower()] for kind in kinds if kind.lower() in MEDIA_TYPES), None),
        width=width or None,
        height=height or None,
        name=stored.rpartition("://")[2] if stored else None,
    )


STORED_AS = ("claid_storage_uri", "object_uri", "object_key")
"""Return a warning that says where a result in the account's own storage is."""


def source_of(arguments: JsonObject) -> str:
    """Return the text that files are named after: the last part of the picture's address."""
    path = (reading.text(arguments, "input") or "").partition("?")[0]
    return path.rstrip("/").rpartition("/")[2].rpartition(".")[0] or "edit"


# --- operations ---

START_IMAGE_EDIT = JobOperation(
    name="claid_start_image_edit",
    title="Start an image edit",
    description="Start editing an image. Then call claid_check_image_edit.",
    params=StartImageEdit,
    hints=STARTS,
    path="/image/edit/async",
    prepare=lambda params, _: Request(
        method="POST", path="/image/edit/async", body=claid_arguments.body(params)
    ),
    check=claid_arguments.mistakes,
    accepted=accepted,
    state=StateSource(path="/image/edit/async/{id}", read=read_state),
    check_tool="claid_check_image_edit",
    typical_seconds=EDIT_SECONDS,
    longest_seconds=LONGEST_EDIT_SECONDS,
    cost=lambda _params, _settings: Cost(1, "credits"),  # "consumes API call credits"
    label=source_of,
    texts=(
        "operations.generative.style_transfer.prompt",
        "operations.background.remove.object_to_keep",
        "operations.background.blur.object_to_keep",
    ),
)

CHECK_IMAGE_EDIT = CheckOperation(
    name="claid_check_image_edit",
    title="Check an image edit",
    description="Wait for an image edit and return its state and file. "
    "Call it again while the job is queued or running.",
    params=CheckParams,
    hints=READS,
    operations=(START_IMAGE_EDIT.name,),
    adopts=START_IMAGE_EDIT.name,
)

PROVIDER = Provider(
    name=NAME,
    title=TITLE,
    documentation="https://docs.claid.ai/image-editing-api/async-api-reference",
    base_url="https://api.claid.ai",
    base_url_variable="CLAID_BASE_URL",
    credentials=(Credential(variable="CLAID_API_KEY"),),
    settings=Settings,
    path_prefix=lambda settings: settings.path_prefix,
    units=("credits",),
    limits=lambda _: Limits(rates=(Rate(REQUESTS_PER_MINUTE, 60), Rate(REQUESTS_PER_SECOND, 1))),
    refusals=frozenset({400, 401, 402, 403, 404, 409, 422, 429}),  # "Errors"
    operations=(START_IMAGE_EDIT, CHECK_IMAGE_EDIT),
)
