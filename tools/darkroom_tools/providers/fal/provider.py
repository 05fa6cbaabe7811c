"""fal: pictures, edits, try-ons and videos by many models.

Sources: https://docs.fal.ai, and the official clients for what the pages leave out.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from pydantic import Field

from darkroom.providers import (
    DESTROYS,
    READS,
    STARTS,
    CallOperation,
    CheckOperation,
    Cost,
    Credential,
    JobOperation,
    Limits,
    Price,
    Provider,
    ProviderSettings,
    Rate,
    Request,
    ResultSource,
    StartParams,
    StateSource,
    reading,
)
from darkroom_tools.providers.fal.arguments import (
    IMAGE_MODEL,
    KLING,
    NANO_BANANA,
    TRYON_MODEL,
    CheckJob,
    OfJob,
    StartAny,
    StartEdit,
    StartImage,
    StartTryon,
    StartVideo,
    any_request,
    app_of,
    edit_mistakes,
    edit_request,
    image_mistakes,
    image_request,
    model_mistakes,
    model_of,
    tryon_request,
    video_mistakes,
    video_request,
)
from darkroom_tools.providers.fal.responses import (
    CODES,
    ENDS,
    TITLE,
    accepted,
    cancelled,
    read_error,
    read_result,
    read_state,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from darkroom.providers import JsonObject

NAME = "fal"

# --- limits: the queue takes any number of jobs and runs as many as the account may ---

REQUESTS_PER_SECOND = 10
IMAGE_SECONDS, EDIT_SECONDS, TRYON_SECONDS, VIDEO_SECONDS = 8.0, 15.0, 20.0, 90.0
"""guessed: no page says how long a model takes; the engine learns it."""

LONGEST_SECONDS = 3_600.0

PRICES = {IMAGE_MODEL: 0.025, TRYON_MODEL: 0.075, KLING: 0.35}
"""US dollars: a megapixel, a picture, a video of 5 s; other models' prices are not on the pages."""

LONGER_KLING_USD = 0.35
"""What the 5 s more of a long video cost."""

COUNTS, MOST_OUTPUTS = ("num_images", "num_samples"), 50


class Settings(ProviderSettings):
    """What differs between customers of fal."""

    private: bool = Field(
        default=False, description="Let fal keep neither the input nor the result of a job."
    )
    prices: dict[str, Price] = Field(
        default_factory=dict,
        description="What one output of a model costs, in US dollars, by the model's path.",
    )
    assumed_price: Price = Field(
        default=0.10,
        description="What one output counts, in US dollars, of a model whose price is not known.",
    )


def cost_of(model: str, outputs: int, settings: Settings) -> Cost:
    """Return what a job is likely to cost; fal's answers do not name it."""
    known = settings.prices.get(model, PRICES.get(model))
    price = settings.assumed_price if known is None else known
    return Cost(price * outputs, "usd", "unknown" if known is None else "estimate")


def image_cost(params: StartImage, settings: Settings) -> Cost:
    """Return the cost by megapixels, begun ones counted whole; every named size is one at most."""
    request = image_request(params, settings).body
    size = request.get("image_size") if isinstance(request, dict) else None
    megapixels = 1
    if isinstance(size, dict):
        pixels = int(reading.number(size, "width") or 0) * int(reading.number(size, "height") or 0)
        megapixels = max(1, -(-pixels // 1_000_000))
    return cost_of(params.model or IMAGE_MODEL, (params.num_images or 1) * megapixels, settings)


def any_cost(params: StartAny, settings: Settings) -> Cost:
    """Return the cost of as many outputs as the input asks for, by the names that models use."""
    asked = (reading.count(params.input, name) for name in COUNTS)
    outputs = min(max(1, *(count or 1 for count in asked)), MOST_OUTPUTS)
    return cost_of(params.model, outputs, settings)


def video_cost(params: StartVideo, settings: Settings) -> Cost:
    """Return the cost of a video."""
    model = params.model or KLING
    cost = cost_of(model, 1, settings)
    longer = model == KLING and params.duration == 10 and model not in settings.prices  # noqa: PLR2004 -- seconds
    return Cost(cost.amount + (LONGER_KLING_USD if longer else 0.0), "usd", cost.basis)


# --- state and result ---


def source(model: str | None) -> StateSource:
    """Return how state and result are requested; ``model``: if the arguments name none."""

    def path(request_id: str, arguments: JsonObject) -> str:
        app = app_of(model_of(arguments, model))
        return f"/{app}/requests/{quote(request_id, safe='')}"

    return StateSource(
        address="state",
        path=lambda request_id, arguments: f"{path(request_id, arguments)}/status",
        read=read_state,
        result=ResultSource(address="result", path=path, read=read_result, also_reads=ENDS),
    )


# --- operations ---


def prompt_of(arguments: JsonObject) -> str:
    """Return the text that files are named after."""
    inner = arguments.get("input")
    return reading.text(arguments, "prompt") or (
        reading.text(inner, "prompt") or "" if isinstance(inner, dict) else ""
    )


def starts(
    what: str,
    title: str,
    model: str | None,
    *,
    description: str,
    params: type[StartParams],
    prepare: Callable[[Any, Any], Request],
    typical_seconds: float,
    cost: Callable[[Any, Any], Cost],
    check: Callable[[Any, Any], Iterable[str]] | None = None,
    texts: tuple[str, ...] = (),
) -> JobOperation:
    """Declare an operation that submits a model's input to the queue."""
    return JobOperation(
        name=f"{NAME}_start{what}",
        title=title,
        description=description,
        params=params,
        prepare=prepare,
        check=check,
        typical_seconds=typical_seconds,
        cost=cost,
        texts=texts,
        hints=STARTS,
        path="/{model}",
        accepted=accepted,
        state=source(model),
        check_tool="fal_check_job",
        cancel="fal_cancel",
        longest_seconds=LONGEST_SECONDS,
        label=prompt_of,
    )


START_IMAGE = starts(
    "_image",
    "Start a fal picture",
    IMAGE_MODEL,
    description="Start generating pictures with FLUX dev. Then call fal_check_job.",
    params=StartImage,
    prepare=image_request,
    check=image_mistakes,
    typical_seconds=IMAGE_SECONDS,
    cost=image_cost,
    texts=("prompt",),
)

START_EDIT = starts(
    "_edit",
    "Start a fal edit",
    NANO_BANANA,
    description="Start editing pictures by a prompt. Then call fal_check_job.",
    params=StartEdit,
    prepare=edit_request,
    check=edit_mistakes,
    typical_seconds=EDIT_SECONDS,
    cost=lambda params, settings: cost_of(
        params.model or NANO_BANANA, params.num_images or 1, settings
    ),
    texts=("prompt",),
)

START_TRYON = starts(
    "_tryon",
    "Start a fal try-on",
    TRYON_MODEL,
    description="Start putting a garment onto a photo of a person. Then call fal_check_job.",
    params=StartTryon,
    prepare=tryon_request,
    typical_seconds=TRYON_SECONDS,
    cost=lambda params, settings: cost_of(TRYON_MODEL, params.num_samples or 1, settings),
)

START_VIDEO = starts(
    "_video",
    "Start a fal video",
    KLING,
    description="Start making a video from a picture and a prompt. Then call fal_check_job.",
    params=StartVideo,
    prepare=video_request,
    check=video_mistakes,
    typical_seconds=VIDEO_SECONDS,
    cost=video_cost,
    texts=("prompt",),
)

START = starts(
    "",
    "Start any fal model",
    None,
    description="Start any other model of fal with its own input. Then call fal_check_job.",
    params=StartAny,
    prepare=any_request,
    check=model_mistakes,
    typical_seconds=EDIT_SECONDS,
    cost=any_cost,
    texts=("input.prompt",),
)

STARTERS = (START_IMAGE, START_EDIT, START_TRYON, START_VIDEO, START)

CHECK_JOB = CheckOperation(
    name="fal_check_job",
    title="Check a fal job",
    description="Wait for a job of fal and return its state and files. "
    "Call it again while the job is queued or running.",
    params=CheckJob,
    hints=READS,
    operations=tuple(operation.name for operation in STARTERS),
    adopts=START.name,
    adopted=lambda params: {"model": params.model} if params.model is not None else {},
)


def cancel_request(params: OfJob, settings: Settings) -> Request:
    """Build the request that cancels a job which was started elsewhere."""
    del settings
    app = app_of(model_of({"model": params.model}, None))
    return Request(method="PUT", path=f"/{app}/requests/{quote(params.job_id, safe='')}/cancel")


CANCEL = CallOperation(
    name="fal_cancel",
    title="Cancel a fal job",
    description="Ask fal to cancel a job; one that runs may end all the same and be charged. "
    "Then call fal_check_job.",
    params=OfJob,
    hints=DESTROYS,
    method="PUT",
    path="/{model}/requests/{job_id}/cancel",
    address="cancel",
    prepare=cancel_request,
    repeatable=False,
    withdraws=True,
    accepts=frozenset({400}),  # {"status": "ALREADY_COMPLETED"}
    result=cancelled,
)

PROVIDER = Provider(
    name=NAME,
    title=TITLE,
    documentation="https://docs.fal.ai/model-endpoints/queue",
    base_url="https://queue.fal.run",
    base_url_variable="FAL_BASE_URL",
    hosts=("queue.fal.run", "queue.falrun.com", "rest.fal.ai"),
    credentials=(Credential(variable="FAL_KEY", scheme="Key"),),
    settings=Settings,
    limits=lambda _: Limits(rates=(Rate(REQUESTS_PER_SECOND, 1),)),  # an old page
    refusals=frozenset({401, 402, 403, 404, 422, 429}),
    codes=CODES,
    read_error=read_error,
    units=("usd",),
    prices={"usd": 1.0},
    operations=(*STARTERS, CHECK_JOB, CANCEL),
)
