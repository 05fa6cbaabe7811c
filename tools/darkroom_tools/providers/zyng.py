"""Zyng: runs a workflow of the account over many images. Source: https://api.zyngai.com."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Annotated
from urllib.parse import unquote, urlsplit

from pydantic import Field

from darkroom.providers import (
    CHANGES,
    READS,
    STARTS,
    Address,
    CallOperation,
    CheckOperation,
    CheckParams,
    Cost,
    Credential,
    FanOutOperation,
    Limits,
    Output,
    Params,
    Provider,
    ProviderSettings,
    Rate,
    Request,
    Section,
    StartParams,
    State,
    StateSource,
    Table,
    call_error,
    nearest,
    outward_mistakes,
    reading,
)

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from darkroom.providers import JsonObject, Response

NAME, TITLE = "zyng", "Zyng"

# --- limits ("Rate Limits & Request Queueing") ---

REQUESTS_PER_MINUTE = {1: 10, 2: 100, 3: 1_000}
"""By tier. Zyng queues requests beyond this rate, so that we keep to it here."""

MOST_IMAGES = 200
IMAGE_SECONDS = 6.0
"""guessed: no document says how long an image takes."""

POLL_INTERVAL_SECONDS = 6.0
"""No document says whether polls count; polls alone do not exceed the lowest tier's rate."""

LONGEST_SECONDS = 3_600.0
DEADLINE_SECONDS = 1_800


class Workflow(Section):
    """A workflow of the Zyng app; its page "API" shows both objects."""

    workflow_details: Table = Field(description="The object, or the path of a .json file.")
    output_details: Table = Field(description="The object, or the path of a .json file.")


class Settings(ProviderSettings):
    """The tier of the account, and workflows that can be used by name."""

    tier: Annotated[int, Field(ge=1, le=3)] = Field(
        default=1, description="The account's tier: 10, 100 or 1,000 requests a minute."
    )
    deadline_seconds: Annotated[int, Field(ge=1)] = Field(
        default=DEADLINE_SECONDS,
        description="How long after its last request a job waits for images that do not come.",
    )
    output_hosts: tuple[str, ...] = Field(
        default=(),
        description="Hosts and storages that output_details of a call may name; those of a "
        "configured workflow may name any.",
    )
    workflows: dict[str, Workflow] = Field(
        default_factory=dict[str, Workflow],
        description="Workflows by name; paths begin at the configuration file's folder.",
    )


# --- arguments ---


class Image(Params):
    """One image: ``imglink`` and ``image_name``."""

    image_url: Address
    image_name: Annotated[str, Field(min_length=1, max_length=200)] | None = None


Details = dict[str, object]
"""It "must be the *exact same* object" in every request, so that it is stored unchanged."""


class RegisterRequest(Params):
    """``POST /process_image`` with task ``register_request``."""

    workflow: str | None = None
    workflow_details: Details | None = None
    output_details: Details | None = None


class StartImages(StartParams):
    """The same, unless there is a ``rid``; then task ``process_image`` for every image."""

    images: Annotated[list[Image], Field(min_length=1, max_length=MOST_IMAGES)]
    rid: Annotated[str, Field(min_length=1, max_length=200)] | None = None
    workflow: str | None = None
    workflow_details: Details | None = None
    output_details: Details | None = None


class CheckImages(CheckParams):
    """``GET /poll_results``."""

    expected_images: (
        Annotated[int, Field(ge=1, le=10_000, description="Of a rid that was started elsewhere.")]
        | None
    ) = None


def workflow_mistakes(params: RegisterRequest | StartImages, settings: Settings) -> Iterable[str]:
    """Accept exactly one way to name the workflow."""
    details = (params.workflow_details, params.output_details)
    rid = params.rid if isinstance(params, StartImages) else None
    ways = [rid is not None, params.workflow is not None, any(d is not None for d in details)]
    if sum(ways) != 1:
        first = "rid, workflow" if isinstance(params, StartImages) else "workflow"
        yield f"give exactly one of {first} or workflow_details with output_details"
    elif ways[2] and None in details:
        lacking = "workflow_details" if details[0] is None else "output_details"
        yield f"{lacking}: missing; the two objects belong together"
    setting = "[zyng] output_hosts"
    given = params.output_details
    yield from outward_mistakes("output_details", given, settings.output_hosts, setting)
    if params.workflow is not None and params.workflow not in settings.workflows:
        yield _unknown_workflow(params.workflow, settings.workflows)


def _unknown_workflow(name: str, known: Mapping[str, Workflow]) -> str:
    if not known:
        return (
            "workflow: none is configured; give workflow_details and output_details, or ask the "
            "person to add [zyng.workflows.<name>] to the configuration"
        )
    near = nearest(name, known)
    hint = f"; did you mean '{near}'?" if near else ""
    return f"workflow: expected one of {', '.join(map(repr, known))}{hint}"


def start_mistakes(params: StartImages, settings: Settings) -> Iterable[str]:
    """Also refuse names that are equal in the results."""
    yield from workflow_mistakes(params, settings)
    first: dict[str, int] = {}
    for index, image in enumerate(params.images):
        if (
            image.image_name is not None
            and first.setdefault(stem(image.image_name), index) != index
        ):
            yield (
                f"images[{index}].image_name: '{image.image_name[:80]}' is the name of "
                f"images[{first[stem(image.image_name)]}] too (a picture's ending does not count)"
            )


# --- names, which assign results to images ---

PICTURE = re.compile(r"(.+)\.(?:avif|bmp|gif|heic|jpe?g|png|tiff?|webp)", re.IGNORECASE)
LONGEST_MADE_NAME = 80


def stem(name: str) -> str:
    """Return a name without the extension of a picture."""
    match = PICTURE.fullmatch(name)
    return match[1] if match else name


def named(images: Sequence[Image]) -> list[Image]:
    """Give every image a name; a missing name is made from the address."""
    taken = {stem(image.image_name) for image in images if image.image_name is not None}
    result: list[Image] = []
    for image in images:
        if image.image_name is None:
            made = _name_of(image.image_url)
            name, serial = made, 1
            while name in taken:
                serial += 1
                name = f"{made}-{serial}"
            taken.add(name)
            image = image.model_copy(update={"image_name": name})  # noqa: PLW2901 -- the same, named
        result.append(image)
    return result


def _name_of(address: str) -> str:
    last = stem(unquote(urlsplit(address).path).rstrip("/").rpartition("/")[2])
    return re.sub(r"[^\w.-]+", "-", last)[:LONGEST_MADE_NAME].strip("-.") or "image"


def item_names(item: str) -> Sequence[str]:
    """Return the possible names of an image's result, "often derived from the image_name"."""
    return item, item, stem(item), stem(item)


def output_names(output: Output) -> Sequence[str]:
    """Return a result's names for the comparison with `item_names`."""
    name = output.name or ""
    bare = name.rpartition(".")[0] or name
    return name, bare, name, bare


# --- requests ---


def bind_registration(
    params: RegisterRequest, settings: Settings, remembered: JsonObject
) -> RegisterRequest:
    """Replace the name of a workflow by its details."""
    del remembered
    return params.model_copy(update=_details(params.workflow, settings))


def bind_images(params: StartImages, settings: Settings, remembered: JsonObject) -> StartImages:
    """Fill in details and names; the job keeps them even if the configuration changes."""
    found = _details(params.workflow, settings)
    if params.rid is not None:
        found = {name: remembered.get(name) for name in ("workflow_details", "output_details")}
        if None in found.values():
            raise call_error(
                "not_found",
                f"nothing is remembered here of rid {params.rid[:80]}",
                "leave rid out and give workflow, or workflow_details and output_details",
            )
    return params.model_copy(update={**found, "images": named(params.images)})


def _details(workflow: str | None, settings: Settings) -> dict[str, object]:
    if workflow is None:
        return {}
    found = settings.workflows[workflow]
    return {"workflow_details": found.workflow_details, "output_details": found.output_details}


def registration(params: RegisterRequest | StartImages, settings: Settings) -> Request:
    """Build ``register_request``."""
    del settings
    return _process(params, {"task": "register_request"})


def image_request(params: StartImages, settings: Settings, rid: str, item: str) -> Request:
    """Build ``process_image`` for one image."""
    del settings
    image = next(image for image in params.images if image.image_name == item)
    fields: JsonObject = {"imglink": image.image_url, "image_name": item}
    return _process(params, {"rid": rid, "task": "process_image", **fields})


def _process(params: RegisterRequest | StartImages, fields: JsonObject) -> Request:
    details = params.model_dump(include={"workflow_details", "output_details"})
    fields["workflowDetails"] = details["workflow_details"]
    fields["outputDetails"] = details["output_details"]
    return Request(method="POST", path="/process_image", body=fields)


# --- responses ---


def accepted(response: Response) -> str | None:
    """Return ``rid`` of a registration."""
    return reading.text(response.object, "rid")


def registered(response: Response, params: RegisterRequest) -> JsonObject:
    """Return the ``rid``."""
    del params
    return {"rid": reading.required_text(response.object, "rid")}


def receipt(response: Response, params: RegisterRequest) -> tuple[str, JsonObject]:
    """Store the details with the rid, because every request of it must have the same."""
    details = params.model_dump(include={"workflow_details", "output_details"})
    return reading.required_text(response.object, "rid"), details


def read_results(response: Response) -> State:
    """Read ``GET /poll_results``: only successes; ``[]`` may mean "not yet" or "never"."""
    body = response.body
    if isinstance(body, dict):
        body = next((body[name] for name in ("results", "data") if name in body), None)
    if not isinstance(body, list):
        raise reading.UnreadableError("no list of results")
    outputs: list[Output] = []
    for entry in reading.objects(body):
        address = reading.address(entry, "iid")
        if address is not None:
            name = (
                reading.text(entry, "name")
                or unquote(re.split(r"[?#]", address, maxsplit=1)[0].strip()).rpartition("/")[2]
            )
            outputs.append(Output(index=len(outputs), url=address, name=name))
    return State(status="running", outputs=tuple(outputs))


# --- operations ("API Endpoints") ---

REGISTER_REQUEST = CallOperation(
    name="zyng_register_request",
    title="Register a Zyng request",
    description="Register a workflow and get its rid. Then call zyng_start_images with it.",
    params=RegisterRequest,
    hints=CHANGES,
    method="POST",
    path="/process_image",
    check=workflow_mistakes,
    personal=True,
    bind=bind_registration,
    prepare=registration,
    repeatable=False,  # no document says that it may be sent twice
    if_lost="call it again; at worst a rid is left that nobody uses",
    result=registered,
    remembers=receipt,
)

START_IMAGES = FanOutOperation(
    name="zyng_start_images",
    title="Start Zyng images",
    description="Run a workflow over images: workflow by name, or a rid, or both details objects. "
    "Then call zyng_check_images.",
    params=StartImages,
    hints=STARTS,
    path="/process_image",
    check=start_mistakes,
    bind=bind_images,
    prepare=registration,
    opened=lambda params: params.rid,
    accepted=accepted,
    items=lambda params: [image.image_name or "" for image in params.images],
    item_request=image_request,
    item_names=item_names,
    output_names=output_names,
    expected=lambda arguments: reading.count(arguments, "expected_images"),
    state=StateSource(path="/poll_results?rid={id}", read=read_results),
    check_tool="zyng_check_images",
    typical_seconds=IMAGE_SECONDS,
    longest_seconds=LONGEST_SECONDS,
    poll_interval_seconds=POLL_INTERVAL_SECONDS,
    deadline_seconds=lambda settings: settings.deadline_seconds,
    cost=lambda params, _: Cost(len(params.images), "images"),
    # Results are matched by name, and the objects must be the same in every request.
    texts_unchanged=("images.image_name", "workflow_details", "output_details"),
)


CHECK_IMAGES = CheckOperation(
    name="zyng_check_images",
    title="Check Zyng images",
    description="Wait for the images of a job (or rid) and return those that have come. "
    "Call it again while the job is queued or running.",
    params=CheckImages,
    hints=READS,
    operations=(START_IMAGES.name,),
    adopts=START_IMAGES.name,
    adopted=lambda params: params.model_dump(include={"expected_images"}, exclude_none=True),
)


def workflow_names(settings: Settings) -> Mapping[str, Mapping[str, Sequence[str]]]:
    """List the configured workflows in the schemas."""
    names = {"workflow": list(settings.workflows)}
    return {REGISTER_REQUEST.name: names, START_IMAGES.name: names}


PROVIDER = Provider(
    name=NAME,
    title=TITLE,
    documentation="https://api.zyngai.com",
    base_url="https://api.zyngai.com",
    base_url_variable="ZYNG_BASE_URL",
    credentials=(Credential(variable="ZYNG_API_KEY"),),
    settings=Settings,
    units=("images",),
    limits=lambda settings: Limits(rates=(Rate(REQUESTS_PER_MINUTE[settings.tier], 60),)),
    # The page shows no errors; by the meaning of HTTP these requests were not processed.
    refusals=frozenset({400, 401, 402, 403, 404, 422, 429}),
    enums=workflow_names,
    operations=(REGISTER_REQUEST, START_IMAGES, CHECK_IMAGES),
)
