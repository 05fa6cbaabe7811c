"""Pictures small enough for a chat, from files of unknown origin.

Everything here blocks. `thumbnail` and `convert` decode, and run in a child process with limits
(`darkroom.results.decoder`); the rest handles only pictures of ours, in a worker thread. Only what is
needed is decoded: a JPEG is scaled while it is read, and a picture of more than `MAX_PIXELS` is not
decoded at all.
"""

from __future__ import annotations

import io
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, BinaryIO, Literal, cast

from PIL import Image, ImageDraw, ImageFont, ImageMath, ImageOps, UnidentifiedImageError

from darkroom.results.problems import NoPictureError
from darkroom.results.webm import LOOK_BYTES, first_frame

if TYPE_CHECKING:
    from collections.abc import Sequence

LONG_SIDE = 768
MAX_PIXELS = 50_000_000
"""This many decoded pixels take 150 to 200 MB."""

MAX_HEADER_PIXELS = 400_000_000
"""The limit for JPEG, which is scaled down by up to eight while it is decoded."""

SIXTEEN_BITS = 65_535

FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "TIFF", "BMP", "AVIF")
PREVIEW_TYPE = "image/jpeg"
PAPER, INK, DIM, CARD = (248, 247, 244), (28, 27, 25), (110, 106, 100), (229, 226, 220)

_QUALITIES = (85, 75, 62, 50, 38)
_SHRINK = 0.8
_SMALLEST_SIDE = 48
_GUTTER = 8
_BADGE = 0.14
"""Height of a number on a contact sheet, as a share of its cell."""

DAMAGED = (OSError, ValueError, SyntaxError, EOFError, RuntimeError, ArithmeticError, LookupError)
"""What decoders raise; the AVIF decoder a bare RuntimeError."""

SaveFormat = Literal["JPEG", "PNG", "WEBP"]
_SAVE_OPTIONS: dict[SaveFormat, dict[str, int]] = {
    "JPEG": {"quality": 92},
    "PNG": {},
    "WEBP": {"quality": 92, "method": 4},
}


@dataclass(frozen=True, slots=True)
class Tile:
    """One picture of a contact sheet and its number."""

    number: int
    picture: Image.Image


def thumbnail(file: BinaryIO, media_type: str, side: int = LONG_SIDE) -> Image.Image:
    """Return a picture, or a video's first frame, at most ``side`` pixels long, never enlarged.

    Raises
    ------
    NoPictureError: it cannot be decoded here, or is too large.
    """
    if media_type.startswith("video/"):
        frame = first_frame(file.read(LOOK_BYTES)) if media_type == "video/webm" else None
        if frame is None:
            raise NoPictureError(f"no still can be made of {media_type} here")
        file = io.BytesIO(frame)
    with opened(file) as image:
        image.draft("RGB", (side, side))
        check_size(image)
        try:
            picture = eight_bits(image)
            picture.thumbnail((side, side), Image.Resampling.LANCZOS, reducing_gap=2.0)
            return flat(ImageOps.exif_transpose(picture))
        except DAMAGED:
            raise NoPictureError("the picture is damaged") from None


def convert(file: BinaryIO, to: SaveFormat) -> bytes:
    """Return the whole picture in another format.

    Raises
    ------
    NoPictureError: it cannot be decoded here, or is too large.
    """
    with opened(file) as image:
        check_size(image)
        try:
            picture = ImageOps.exif_transpose(eight_bits(image))
            if to == "JPEG":
                picture = flat(picture)
            elif picture.mode not in {"RGB", "RGBA"}:
                picture = picture.convert("RGBA" if picture.has_transparency_data else "RGB")
            out = io.BytesIO()
            picture.save(out, to, **_SAVE_OPTIONS[to])
        except DAMAGED:
            raise NoPictureError("the picture is damaged") from None
        return out.getvalue()


def title_card(title: str, reason: str, side: int = LONG_SIDE // 2) -> Image.Image:
    """Return a card that is shown instead of a picture and says why."""
    card = Image.new("RGB", (side, side * 3 // 4), CARD)
    draw = ImageDraw.Draw(card)
    size = max(12, side // 18)
    x, y = size, card.height // 2 - size * 2
    for text, ink in ((title, INK), *((line, DIM) for line in _lines(reason, side // size * 2))):
        draw.text((x, y), text, fill=ink, font=ImageFont.load_default(size))
        y += size * 3 // 2
    return card


def contact_sheet(tiles: Sequence[Tile], side: int = LONG_SIDE) -> Image.Image:
    """Return a contact sheet: all pictures in one, each with its number."""
    columns = math.ceil(math.sqrt(len(tiles)))
    rows = math.ceil(len(tiles) / columns)
    cell = cell_side(len(tiles), side)
    step = cell + _GUTTER
    sheet = Image.new("RGB", (columns * step + _GUTTER, rows * step + _GUTTER), PAPER)
    draw = ImageDraw.Draw(sheet)
    badge = max(12, round(cell * _BADGE))
    font = ImageFont.load_default(badge * 0.7)
    for place, tile in enumerate(tiles):
        x, y = _GUTTER + place % columns * step, _GUTTER + place // columns * step
        picture = ImageOps.contain(tile.picture, (cell, cell))
        sheet.paste(picture, (x + (cell - picture.width) // 2, y + (cell - picture.height) // 2))
        text = str(tile.number)
        box = (x, y, x + round(badge * (0.6 + 0.5 * len(text))), y + badge)
        draw.rectangle(box, fill=INK)
        middle = ((box[0] + box[2]) / 2, (box[1] + box[3]) / 2)
        draw.text(middle, text, fill=PAPER, font=font, anchor="mm")
    return sheet


def cell_side(count: int, side: int = LONG_SIDE) -> int:
    """Return the longest side of a picture on a contact sheet of ``count`` pictures."""
    columns = math.ceil(math.sqrt(count))
    return max(1, (side - _GUTTER) // columns - _GUTTER)


def encode(picture: Image.Image, most_bytes: int) -> bytes:
    """Return a picture as JPEG of at most ``most_bytes``: first lower quality, then fewer pixels."""
    while True:
        for quality in _QUALITIES:
            out = io.BytesIO()
            picture.save(out, "JPEG", quality=quality, optimize=True, progressive=True)
            if out.tell() <= most_bytes:
                return out.getvalue()
        if max(picture.size) <= _SMALLEST_SIDE:
            raise NoPictureError("no room is left for it")
        smaller = (max(1, round(picture.width * _SHRINK)), max(1, round(picture.height * _SHRINK)))
        picture = ImageOps.contain(picture, smaller)


def opened(file: BinaryIO) -> Image.Image:
    """Return a picture whose header was read; raises as `thumbnail`."""
    try:
        image = Image.open(file, formats=FORMATS)
    except (UnidentifiedImageError, Image.DecompressionBombError, *DAMAGED):
        raise NoPictureError("the picture cannot be read here") from None
    if image.width * image.height > MAX_HEADER_PIXELS:
        raise NoPictureError(_too_large(image))
    return image


def check_size(image: Image.Image) -> None:
    """Refuse a picture that would take too much memory."""
    if image.width * image.height > MAX_PIXELS:
        raise NoPictureError(_too_large(image))


def _too_large(image: Image.Image) -> str:
    return f"{image.width} x {image.height} pixels are too many to decode here"


def eight_bits(image: Image.Image) -> Image.Image:
    """Return a picture whose channels have 8 bits; Pillow alone would cut larger values off.

    Grey of 16 bits is divided. Other wide values have no stated range: theirs becomes the whole one.
    """
    if not image.mode.startswith(("I", "F")):
        return image
    wide = image.convert("F")
    low, high = 0.0, float(SIXTEEN_BITS)
    if not image.mode.startswith("I;16") and image.format != "PNG":
        low, high = cast("tuple[float, float]", wide.getextrema())
    scale = 255 / (high - low) if high > low else 1.0
    grey = ImageMath.lambda_eval(
        lambda given: given["convert"](given["wide"] * scale + (0.5 - low * scale), "L"), wide=wide
    )
    if "exif" in image.info:
        grey.info["exif"] = image.info["exif"]
    return grey


def flat(image: Image.Image) -> Image.Image:
    """Return a picture in RGB; transparent pixels get the colour of paper."""
    if image.has_transparency_data:
        rgba = image.convert("RGBA")
        flat = Image.new("RGB", rgba.size, (255, 255, 255))
        flat.paste(rgba, mask=rgba.getchannel("A"))
        return flat
    return image.convert("RGB")


def _lines(text: str, width: int) -> list[str]:
    lines = [""]
    for word in text.split():
        longer = f"{lines[-1]} {word}".strip()
        if len(longer) > width and lines[-1]:
            lines.append(word)
        else:
            lines[-1] = longer
    return lines
