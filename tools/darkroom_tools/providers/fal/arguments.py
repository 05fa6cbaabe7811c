"""The arguments of fal's tools, and the requests that they become: one endpoint for each model.

Source of the models' inputs: the schemas that fal's own clients carry.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import Field

from darkroom.providers import Address, CheckParams, JobParams, Request, StartParams, call_error

if TYPE_CHECKING:
    from collections.abc import Iterable

    from darkroom.providers import JsonObject, JsonValue, ProviderSettings

IMAGE_MODEL = "fal-ai/flux/dev"
TRYON_MODEL = "fal-ai/fashn/tryon/v1.6"
KONTEXT, NANO_BANANA = "fal-ai/flux-pro/kontext", "fal-ai/nano-banana/edit"
KLING = "fal-ai/kling-video/v2.5-turbo/pro/image-to-video"
SEEDANCE = "fal-ai/bytedance/seedance/v1.5/pro/image-to-video"
VIDEO_SECONDS = {KLING: (5, 10), SEEDANCE: tuple(range(4, 13))}

NAMESPACES = ("workflows/", "comfy/")
"""In front of these paths stands one more part than in front of a model's."""

MODEL = re.compile(r"(?:(?:workflows|comfy)/)?[\w.-]+/[\w.-]+(?:/[\w.-]+)*", re.ASCII)
SIZE = re.compile(r"([1-9][0-9]{1,4})x([1-9][0-9]{1,4})")
SIZES = (
    "square_hd",
    "square",
    "portrait_4_3",
    "portrait_16_9",
    "landscape_4_3",
    "landscape_16_9",
)

Prompt = Annotated[str, Field(min_length=1)]
Count = Annotated[int, Field(ge=1, le=4)]
Model = Annotated[str, Field(max_length=200, description="As on fal.ai: owner/app/...")]


class StartImage(StartParams):
    """``fal-ai/flux/dev``."""

    prompt: Prompt
    model: Literal["fal-ai/flux/dev"] | None = None
    image_size: Annotated[str, Field(description="portrait_16_9, 1024x768, ...")] | None = None
    num_images: Count | None = None
    seed: int | None = None
    output_format: Literal["jpeg", "png"] | None = None


class StartEdit(StartParams):
    """``fal-ai/nano-banana/edit`` and ``fal-ai/flux-pro/kontext``."""

    prompt: Prompt
    image_urls: Annotated[list[Address], Field(min_length=1, max_length=10)]
    model: (
        Annotated[
            Literal["fal-ai/nano-banana/edit", "fal-ai/flux-pro/kontext"],
            Field(description="The first if left out."),
        ]
        | None
    ) = None
    num_images: Count | None = None
    aspect_ratio: Annotated[str, Field(pattern=r"^(auto|\d{1,2}:\d{1,2})$")] | None = None
    seed: int | None = None


class StartTryon(StartParams):
    """``fal-ai/fashn/tryon/v1.6``."""

    model_image_url: Annotated[Address, Field(description="Photo of the person.")]
    garment_image_url: Annotated[Address, Field(description="Photo of the garment.")]
    category: Literal["tops", "bottoms", "one-pieces", "auto"] | None = None
    mode: Literal["performance", "balanced", "quality"] | None = None
    num_samples: Count | None = None
    seed: int | None = None


class StartVideo(StartParams):
    """Image to video: Kling 2.5 turbo pro, Seedance 1.5 pro."""

    prompt: Prompt
    image_url: Address
    model: (
        Annotated[
            Literal[
                "fal-ai/kling-video/v2.5-turbo/pro/image-to-video",
                "fal-ai/bytedance/seedance/v1.5/pro/image-to-video",
            ],
            Field(description="Kling if left out."),
        ]
        | None
    ) = None
    duration: Annotated[int, Field(description="Seconds.")] | None = None


class StartAny(StartParams):
    """Any model of fal, with its own input."""

    model: Model
    input: Annotated[dict[str, Any], Field(description="As the model's page has it.")]


class OfJob(JobParams):
    """A job; ``model`` is needed for one that was started elsewhere."""

    model: Model | None = None


class CheckJob(CheckParams):
    """A job; ``model`` is needed for one that was started elsewhere."""

    model: Annotated[str, Field(description="Of a job started elsewhere.")] | None = None


# --- what a schema cannot say ---


def image_mistakes(params: StartImage, settings: ProviderSettings) -> Iterable[str]:
    """Name what is wrong with the size."""
    del settings
    size = params.image_size
    if size is not None and size not in SIZES and SIZE.fullmatch(size) is None:
        yield f"image_size: expected width and height such as 1024x768, or {', '.join(SIZES)}"


def edit_mistakes(params: StartEdit, settings: ProviderSettings) -> Iterable[str]:
    """Name what the chosen model does not take."""
    del settings
    if params.model == KONTEXT and len(params.image_urls) > 1:
        yield f"image_urls: {KONTEXT} takes one picture; {NANO_BANANA} takes several"
    if params.model == KONTEXT and params.aspect_ratio == "auto":
        yield f"aspect_ratio: {KONTEXT} has no auto; leave it out"


def video_mistakes(params: StartVideo, settings: ProviderSettings) -> Iterable[str]:
    """Name a duration that the chosen model does not have."""
    del settings
    model = params.model or KLING
    if params.duration is not None and params.duration not in VIDEO_SECONDS[model]:
        allowed = ", ".join(map(str, VIDEO_SECONDS[model]))
        yield f"duration: {model} makes {allowed} seconds"


def model_mistakes(params: StartAny, settings: ProviderSettings) -> Iterable[str]:
    """Name a model that is no path of fal's."""
    del settings
    if not is_model(params.model):
        yield "model: expected a path such as fal-ai/flux/dev"


def is_model(text: str) -> bool:
    """Tell whether a text is the path of a model: no part of it leads anywhere else."""
    return MODEL.fullmatch(text) is not None and not {".", ".."} & set(text.split("/"))


# --- requests ---


def submit(model: str, fields: JsonObject, settings: ProviderSettings) -> Request:
    """Build the submission of a model's input; absent fields are left out."""
    headers = {"X-Fal-Store-IO": "0"} if getattr(settings, "private", False) else {}
    body: JsonObject = {name: value for name, value in fields.items() if value is not None}
    return Request(method="POST", path=f"/{model}", body=body, headers=headers)


def image_request(params: StartImage, settings: ProviderSettings) -> Request:
    """Build the request for a picture."""
    fields = given(params, "model", "image_size")
    size = SIZE.fullmatch(params.image_size or "")
    fields["image_size"] = (
        {"width": int(size[1]), "height": int(size[2])} if size else params.image_size
    )
    return submit(params.model or IMAGE_MODEL, fields, settings)


def edit_request(params: StartEdit, settings: ProviderSettings) -> Request:
    """Build the request for an edit: one model takes a list of pictures, the other takes one."""
    model = params.model or NANO_BANANA
    fields = given(params, "model", "image_urls")
    if model == KONTEXT:
        fields["image_url"] = params.image_urls[0]
    else:
        fields["image_urls"] = [*params.image_urls]
    return submit(model, fields, settings)


def tryon_request(params: StartTryon, settings: ProviderSettings) -> Request:
    """Build the request for a try-on."""
    fields = given(params, "model_image_url", "garment_image_url")
    fields["model_image"] = params.model_image_url
    fields["garment_image"] = params.garment_image_url
    return submit(TRYON_MODEL, fields, settings)


def video_request(params: StartVideo, settings: ProviderSettings) -> Request:
    """Build the request for a video; the seconds are text."""
    fields = given(params, "model", "duration")
    fields["duration"] = str(params.duration) if params.duration is not None else None
    return submit(params.model or KLING, fields, settings)


def any_request(params: StartAny, settings: ProviderSettings) -> Request:
    """Build the request for any model; its input is sent as it was given."""
    return Request(
        method="POST",
        path=f"/{params.model}",
        body=params.input,
        headers=submit(params.model, {}, settings).headers,
    )


def given(params: StartParams, *without: str) -> JsonObject:
    """Return the arguments that go into the input unchanged."""
    fields: dict[str, JsonValue] = params.model_dump(
        mode="json", exclude_none=True, exclude={"idempotency_key", *without}
    )
    return fields


def app_of(model: str) -> str:
    """Return owner and app of a model: the path of its requests has no more of it."""
    inside = next((name for name in NAMESPACES if model.startswith(name)), "")
    parts = model.removeprefix(inside).split("/")
    return inside + "/".join(parts[:2])


def model_of(arguments: JsonObject, fallback: str | None) -> str:
    """Return the model of a job from its arguments.

    Raises
    ------
    CallError: ``invalid_argument``: it is not known, and the caller has not said it.
    """
    model = arguments.get("model") or fallback
    if not isinstance(model, str) or not is_model(model):
        raise call_error(
            "invalid_argument",
            "model: needed for a job that was started elsewhere, such as fal-ai/flux/dev",
            "call again with model, as the job was started with it",
        )
    return model
