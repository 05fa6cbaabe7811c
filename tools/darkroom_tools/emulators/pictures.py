"""Pictures and films that the emulators answer with: drawn here, the same for the same input."""

from __future__ import annotations

import io
import statistics
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from PIL import Image, ImageChops, ImageDraw, ImageFilter, ImageFont, ImageOps, ImageStat

from darkroom_tools.emulators.drawing.people import person
from darkroom_tools.emulators.drawing.scenes import paint
from darkroom_tools.emulators.drawing.wardrobe import GarmentKind, garment, product
from darkroom_tools.emulators.drawing.webm import webm
from darkroom_tools.emulators.editing import mapped, resized
from darkroom_tools.emulators.kit import FetchFailedError

__all__ = [
    "GarmentKind",
    "compose_tryon",
    "decode",
    "encode",
    "garment",
    "person",
    "product",
    "scene",
    "stamp",
    "stand_in",
    "video",
]

if TYPE_CHECKING:
    from darkroom_tools.emulators.drawing.scenery import Scenery

Format = Literal["jpeg", "png", "webp", "avif", "tiff"]

SCENE_LIMIT = 1024
"""The longest side that is painted at full detail."""

PIXEL_LIMIT = 60_000_000
PICTURE_FPS = 12
"""Distinct pictures a second; a film is played at FRAMES_PER_SECOND, each picture shown twice."""

FRAMES_PER_SECOND = 24

GARMENT_WORDS = ("shirt", "dress", "jacket", "garment", "hoodie", "cloth", "tee", "top")
PERSON_WORDS = ("model", "person", "portrait", "woman", "man", "people")

SEGMENTATION_SIZE = 192
"""Longest side at which the subject is told from the ground."""

BACKGROUND_TOLERANCE = 26
"""How far from the ground's colour (0 to 255) a pixel belongs to the subject."""

GROUND_MARK = 128
SUBJECT_PARTS = (0.02, 0.97)
"""A subject that covers less or more of the picture is no subject: the ground is not plain."""

SUBJECT_AT_RIM = 0.3
"""Where the subject takes more of an upper or side edge, the ground is not plain."""

UPPER_PART = 0.6
LEAST_SHOULDERS = 0.3
SLEEVE_ROOM = 1.08
COLLAR_LIFT = 0.03


def stamp(image: Image.Image, provider: str) -> Image.Image:
    """Return the picture with a label in the lower right corner that says where it is from."""
    size = max(9, min(image.size) // 36)
    font = ImageFont.load_default(size)
    text = f"SANDBOX {provider}"
    label = ImageDraw.Draw(image)
    left, top, right, bottom = label.textbbox((0, 0), text, font=font)
    pad = size // 2
    box_width, box_height = int(right - left) + 2 * pad, int(bottom - top) + 2 * pad
    x, y = image.width - box_width - pad, image.height - box_height - pad
    stamped = image.convert("RGBA")
    plate = Image.new("RGBA", stamped.size)
    draw = ImageDraw.Draw(plate)
    draw.rounded_rectangle(
        (x, y, x + box_width, y + box_height), pad, (20, 22, 28, 150), outline=(255, 255, 255, 90)
    )
    draw.text((x + pad - left, y + pad - top), text, (255, 255, 255, 235), font=font)
    stamped.alpha_composite(plate)
    return stamped if image.mode == "RGBA" else stamped.convert("RGB")


def encode(image: Image.Image, format: Format, *, quality: int = 86) -> bytes:  # noqa: A002 -- the field's word
    """Return the picture as a file; JPEG has no transparency, so it gets a white ground."""
    out = io.BytesIO()
    if format == "jpeg" and image.mode != "RGB":
        ground = Image.new("RGBA", image.size, "white")
        ground.alpha_composite(image.convert("RGBA"))
        image = ground.convert("RGB")
    match format:
        case "png":
            image.save(out, "PNG", compress_level=4)
        case "tiff":
            image.save(out, "TIFF", compression="tiff_deflate")
        case "webp":
            image.save(out, "WEBP", quality=quality, method=2)
        case "avif":
            image.save(out, "AVIF", quality=quality, speed=9)
        case "jpeg":
            image.save(out, "JPEG", quality=quality)
    return out.getvalue()


def decode(data: bytes) -> Image.Image:
    """Return the picture in ``data``; FetchFailedError when it is none."""
    try:
        with Image.open(io.BytesIO(data)) as image:
            if image.width * image.height > PIXEL_LIMIT:
                raise FetchFailedError("more pixels than are accepted")
            image.load()
            has_alpha = image.mode in ("RGBA", "LA", "PA") or "transparency" in image.info
            return image.convert("RGBA" if has_alpha else "RGB")
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise FetchFailedError("no picture") from error


def stand_in(address: str) -> bytes:
    """Return a picture for an address that cannot be fetched here: what its words suggest."""
    words = address.lower()
    if any(word in words for word in GARMENT_WORDS):
        image = garment(address)
    elif any(word in words for word in PERSON_WORDS):
        image = person(address)
    else:
        image = paint(words, address, 1024, 768).picture()
    return encode(image, "jpeg")


def scene(
    prompt: str, seed: int | None, width: int, height: int, negative: str = ""
) -> Image.Image:
    """Return a painting of what the words of the prompt suggest, varied by ``seed``.

    What ``negative`` names is left out. Sides beyond SCENE_LIMIT are painted smaller and enlarged.
    """
    scale = min(1.0, SCENE_LIMIT / max(width, height))
    scenery = _scenery(prompt, seed, round(width * scale), round(height * scale), negative)
    return resized(scenery.picture(), (width, height))


def _scenery(
    prompt: str, seed: int | None, width: int, height: int, negative: str, *, margin: float = 0.0
) -> Scenery:
    kept = " ".join(w for w in prompt.lower().split() if w not in negative.lower().split())
    return paint(
        kept, f"{prompt}|{seed}|{negative}", width, height, margin=margin, without=negative
    )


def video(
    prompt: str,
    seed: int | None,
    frames: int,
    *,
    provider: str,
    width: int = 480,
    height: int = 270,
) -> bytes:
    """Return a WebM film of ``frames`` frames: the camera moves past the scene of the prompt."""
    scenery = _scenery(prompt, seed, width, height, "", margin=0.3)
    each = FRAMES_PER_SECOND // PICTURE_FPS
    count = max(1, -(-frames // each))
    label = stamp(Image.new("RGBA", (width, height)), provider)
    pictures: list[bytes] = []
    for index in range(count):
        frame = scenery.picture(index / max(1, count - 1))
        frame.paste(label, mask=label)
        out = io.BytesIO()
        frame.save(out, "WEBP", quality=60, method=0)
        pictures.append(out.getvalue())
    return webm(pictures, width, height, seconds=frames / FRAMES_PER_SECOND)


def compose_tryon(person_bytes: bytes, garment_bytes: bytes) -> Image.Image:
    """Return the model's picture wearing the garment, which is cut out of its plain ground.

    The collar goes to the neck and the sleeves to the arms, by the widths of both outlines. Raises
    FetchFailedError when either is no picture.
    """
    model, cloth = decode(person_bytes).convert("RGB"), decode(garment_bytes)
    body = _outline(_cut_out(model))
    if body is None or body.shoulders < model.width * LEAST_SHOULDERS:
        body = _Outline.assumed(model.size)
    mask = _cut_out(cloth)
    worn = _outline(mask) or _Outline(0, 0, cloth.height, cloth.width, cloth.width / 2)
    scale = body.shoulders * SLEEVE_ROOM / worn.shoulders
    size = (max(1, round(cloth.width * scale)), max(1, round(cloth.height * scale)))
    dressed = resized(cloth.convert("RGB"), size)
    alpha = resized(mask, size)
    at = (
        round(body.axis - worn.axis * scale),
        round(body.collar - worn.top * scale - COLLAR_LIFT * body.shoulders),
    )
    soft = max(1, model.width // 110)
    shadow = Image.new("L", model.size)
    shadow.paste(mapped(alpha, lambda level: level * 2 // 5), (at[0] + soft // 2, at[1] + soft))
    model.paste((24, 18, 30), mask=shadow.filter(ImageFilter.GaussianBlur(soft)))
    model.paste(dressed, at, alpha)
    return model


@dataclass(frozen=True, slots=True)
class _Outline:
    """Where a figure or a garment lies in its picture, in pixels.

    ``collar``: where it widens below the neck; ``shoulders``: its greatest width near the top.
    """

    top: float
    collar: float
    bottom: float
    shoulders: float
    axis: float

    @classmethod
    def assumed(cls, size: tuple[int, int]) -> _Outline:
        """Return what a half-length portrait is likely to be."""
        width, height = size
        return cls(height * 0.1, height * 0.33, height, width * 0.55, width / 2)


def _cut_out(image: Image.Image) -> Image.Image:
    """Return the mask of what stands before the plain ground; all of it when there is none."""
    if image.mode == "RGBA" and image.getchannel("A").getextrema()[0] == 0:
        return image.getchannel("A")
    apart = _difference(image)
    small = _small(apart)
    framed = ImageOps.expand(
        mapped(small, lambda level: 255 * (level > BACKGROUND_TOLERANCE)), 1, 0
    )
    ImageDraw.floodfill(framed, (0, 0), GROUND_MARK)
    inside = ImageOps.crop(mapped(framed, lambda level: 255 * (level != GROUND_MARK)), 1)
    inside = inside.filter(ImageFilter.MedianFilter(3))
    part = _mean(inside)
    rim = [inside.crop(box) for box in _rim(inside.size)]
    if not SUBJECT_PARTS[0] < part < SUBJECT_PARTS[1] or max(map(_mean, rim)) > SUBJECT_AT_RIM:
        return Image.new("L", image.size, 255)
    least = resized(inside.filter(ImageFilter.MinFilter(3)), image.size)
    most = resized(inside.filter(ImageFilter.MaxFilter(5)), image.size)
    low = BACKGROUND_TOLERANCE
    edge = mapped(apart, lambda level: round(min(255.0, max(0.0, (level - low) * 255 / low))))
    return ImageChops.lighter(ImageChops.darker(edge, most), least)


def _small(mask: Image.Image) -> Image.Image:
    scale = SEGMENTATION_SIZE / max(mask.size)
    size = max(1, round(mask.width * scale)), max(1, round(mask.height * scale))
    return resized(mask, size, Image.Resampling.BOX)


def _mean(mask: Image.Image) -> float:
    return ImageStat.Stat(mask).mean[0] / 255


def _rim(size: tuple[int, int]) -> list[tuple[int, int, int, int]]:
    """Return the left, right and upper edge; the lower one often cuts the subject off."""
    width, height = size
    return [(0, 0, 2, height), (width - 2, 0, width, height), (0, 0, width, 2)]


def _difference(image: Image.Image) -> Image.Image:
    """Return how far each pixel is from the ground, as its left and right edge let expect it."""
    rgb = image.convert("RGB")
    width, height = rgb.size
    edge = max(1, width // 40)
    sides = Image.new("RGB", (2, 6))
    for index, x in enumerate((0, width - edge)):
        strip = rgb.crop((x, 0, x + edge, height))
        sides.paste(resized(strip, (1, 6), Image.Resampling.BOX), (index, 0))
    ground = resized(sides, rgb.size, Image.Resampling.BILINEAR)
    red, green, blue = ImageChops.difference(rgb.filter(ImageFilter.BoxBlur(1)), ground).split()
    return ImageChops.lighter(red, ImageChops.lighter(green, blue))


def _outline(mask: Image.Image) -> _Outline | None:
    """Measure what a mask shows; None when it shows everything or nothing."""
    scale = SEGMENTATION_SIZE / max(mask.size)
    small = _small(mask)
    small = mapped(small, lambda level: 255 * (level > 127))  # noqa: PLR2004 -- half covered
    box = small.getbbox()
    if box is None or box == (0, 0, *small.size):
        return None
    _, top, _, bottom = box
    spans = [small.crop((0, y, small.width, y + 1)).getbbox() for y in range(top, bottom)]
    widths = [span[2] - span[0] if span else 0 for span in spans]
    upper = widths[: max(1, round(len(widths) * UPPER_PART))]
    shoulders = max(upper)
    reach = next(y for y, width in enumerate(upper) if width >= shoulders * 0.75)
    head = max(range(reach * 3 // 5 + 1), key=lambda y: widths[y])
    neck = min(range(head, reach + 1), key=lambda y: widths[y])
    collar = next(
        y for y in range(neck, reach + 1) if widths[y] >= min(widths[neck] * 1.25, shoulders * 0.75)
    )
    axis = statistics.median((span[0] + span[2]) / 2 for span in spans[collar : len(upper)] if span)
    return _Outline(*(value / scale for value in (top, top + collar, bottom, shoulders, axis)))
