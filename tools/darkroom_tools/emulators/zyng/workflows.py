"""What a Zyng workflow does to a picture, for real."""

from __future__ import annotations

import hashlib
import json
from typing import TYPE_CHECKING

from PIL import Image, ImageFilter, ImageOps

from darkroom_tools.emulators.editing import mapped, on_color, remove_background

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping


def _grayscale(image: Image.Image) -> Image.Image:
    gray = ImageOps.grayscale(image).convert(image.mode)
    if image.mode == "RGBA":
        gray.putalpha(image.getchannel("A"))
    return gray


def _square(image: Image.Image) -> Image.Image:
    side = max(image.size)
    ground = Image.new("RGBA", (side, side), "white")
    ground.alpha_composite(
        image.convert("RGBA"), ((side - image.width) // 2, (side - image.height) // 2)
    )
    return ground.convert("RGB")


def _shadow(image: Image.Image) -> Image.Image:
    cut = remove_background(image)
    reach = max(2, min(cut.size) // 40)
    shade = mapped(cut.getchannel("A"), lambda value: value // 2)
    ground = Image.new("RGBA", cut.size, "white")
    ground.paste("#3a3a44", (reach, reach), shade.filter(ImageFilter.GaussianBlur(reach)))
    ground.alpha_composite(cut)
    return ground.convert("RGB")


WORKFLOWS: dict[str, Callable[[Image.Image], Image.Image]] = {
    "remove_background": remove_background,
    "white_background": lambda image: on_color(remove_background(image), "white"),
    "grayscale": _grayscale,
    "square": _square,
    "shadow": _shadow,
}
"""What ``{"operation": name}`` as workflowDetails does to a picture."""


def workflow_of(workflow: Mapping[str, object]) -> str:
    """Return which of WORKFLOWS the details stand for; unknown ones choose by what they hash to."""
    # invented: workflowDetails is opaque to everybody but Zyng, so the emulator has a form of its own
    named = workflow.get("operation")
    if isinstance(named, str) and named in WORKFLOWS:
        return named
    digest = hashlib.sha256(json.dumps(workflow, sort_keys=True).encode()).digest()
    return list(WORKFLOWS)[digest[0] % len(WORKFLOWS)]
