"""Makes a picture of a stranger ready to be sent; it runs in the child process.

The picture is decoded once, so that a damaged or cut off file is found before anything is sent. If
it stands upright and the provider takes it as it is, its bytes stay the same but for the metadata;
otherwise it is written anew.
"""

from __future__ import annotations

import io
import math
from typing import TYPE_CHECKING, Any, cast

from PIL import Image, ImageOps

from darkroom.results import preview
from darkroom.results.problems import NoPictureError
from darkroom.results.stripping import stripped

if TYPE_CHECKING:
    from collections.abc import Mapping

ORIENTATION = 0x0112
FORMATS = {
    "image/jpeg": "JPEG",
    "image/png": "PNG",
    "image/webp": "WEBP",
    "image/avif": "AVIF",
    "image/tiff": "TIFF",
    "image/gif": "GIF",
    "image/bmp": "BMP",
}
QUALITIES = (95, 90, 85, 80, 75)
SHRINK = 0.85
SMALLEST_SIDE = 64
_OPTIONS: dict[str, dict[str, object]] = {
    "WEBP": {"method": 4},
    "AVIF": {"speed": 8},
    "TIFF": {"compression": "tiff_deflate"},
}
_LOSSY = frozenset({"JPEG", "WEBP", "AVIF"})
_DAMAGED = "the file is damaged or cut off"


def prepare(data: bytes, wanted: Mapping[str, Any]) -> tuple[dict[str, object], bytes]:
    """Return what a file is now (``media_type``, ``width``, ``height``, ``said``), and its bytes.

    ``wanted``: the file's ``media_type``; the limits of the provider (``media_types``,
    ``max_bytes``, ``max_pixels``, ``max_side``, ``min_side``); ``fit`` and ``keep`` as in the
    settings ``[inputs] fit`` and ``keep_metadata``.

    Raises
    ------
    NoPictureError: it cannot be sent; the text says why.
    """
    media_type = cast("str", wanted["media_type"])
    if media_type.startswith("video/"):
        return _video(data, media_type, wanted)
    image = _decoded(data)
    turned = image.getexif().get(ORIENTATION, 1) in range(2, 9)
    size = (image.width, image.height)
    if image.getexif().get(ORIENTATION, 1) in range(5, 9):
        size = (size[1], size[0])
    if (least := wanted["min_side"]) and min(size) < least:
        raise NoPictureError(f"{size[0]} x {size[1]} pixels are too few: each side needs {least}")
    to, scale = media_type, _scale(size, wanted)
    problems: list[str] = []
    if media_type not in wanted["media_types"]:
        to = wanted["media_types"][0]
        problems.append(f"{_name(media_type)} is not taken, only {_names(wanted['media_types'])}")
    if scale < 1:
        problems.append(f"{size[0]} x {size[1]} pixels are too many")
    plain = data if wanted["keep"] else _stripped(data, media_type, image)
    most = wanted["max_bytes"]
    if most and not problems and len(plain or data) > most:
        problems.append(f"{_megabytes(len(data))} are too much: at most {_megabytes(most)}")
    if problems and not wanted["fit"]:
        raise NoPictureError("; ".join(problems))
    if not problems and plain is not None and (wanted["keep"] or not turned):
        return _facts(media_type, *size), plain
    made, facts = _written(data, to, scale, most, wanted)
    if problems:
        was = f"{_name(media_type)}, {size[0]} x {size[1]}, {_megabytes(len(data))}"
        now = f"{_name(to)}, {facts['width']} x {facts['height']}, {_megabytes(len(made))}"
        facts["said"] = [f"made to fit: {was} became {now}"]
    return facts, made


def _decoded(data: bytes) -> Image.Image:
    """Decode a picture whole (a JPEG at the least size), and return it with its header."""
    with _opened(data) as image:
        image.draft("RGB", (64, 64))
        preview.check_size(image)
        try:
            image.load()
        except preview.DAMAGED:
            raise NoPictureError(_DAMAGED) from None
    return _opened(data)


def _opened(data: bytes) -> Image.Image:
    return preview.opened(io.BytesIO(data))


def _stripped(data: bytes, media_type: str, image: Image.Image) -> bytes | None:
    """Return the bytes without metadata; None if the picture has to be written anew for that."""
    try:
        plain = stripped(data, media_type)
    except ValueError:  # it can be decoded all the same
        return None
    if plain is not None:
        return plain
    held = image.info.keys() & {"exif", "xmp", "comment", "XML:com.adobe.xmp"}
    return None if held or media_type == "image/tiff" else data


def _scale(size: tuple[int, int], wanted: Mapping[str, Any]) -> float:
    """Return by how much a picture has to be made smaller; 1 if not at all."""
    scale = 1.0
    if wanted["max_pixels"]:
        scale = min(scale, math.sqrt(wanted["max_pixels"] / (size[0] * size[1])))
    if wanted["max_side"]:
        scale = min(scale, wanted["max_side"] / max(size))
    return scale


def _written(
    data: bytes, media_type: str, scale: float, most: int | None, wanted: Mapping[str, Any]
) -> tuple[bytes, dict[str, object]]:
    """Write a picture anew: upright, not larger than allowed, without metadata."""
    kind = FORMATS[media_type]
    with _opened(data) as image:
        if scale < 1:
            image.draft("RGB", _scaled(image, scale))
        preview.check_size(image)
        try:
            profile = image.info.get("icc_profile")
            exif = image.getexif() if wanted["keep"] else None
            picture = ImageOps.exif_transpose(preview.eight_bits(image))
        except preview.DAMAGED:
            raise NoPictureError(_DAMAGED) from None
    if kind == "JPEG":
        picture = preview.flat(picture)
    elif picture.mode not in {"RGB", "RGBA", "L"}:
        picture = picture.convert("RGBA" if picture.has_transparency_data else "RGB")
    if (still := _scale(picture.size, wanted)) < 1:
        picture.thumbnail(_scaled(picture, still), Image.Resampling.LANCZOS)
    extra: dict[str, object] = {"icc_profile": profile} if profile and picture.mode != "L" else {}
    if exif is not None:
        exif.pop(ORIENTATION, None)
        extra["exif"] = exif.tobytes()
    picture.info.clear()
    while True:
        for quality in QUALITIES if kind in _LOSSY else (0,):
            out = io.BytesIO()
            lossy: dict[str, object] = {"quality": quality} if quality else {}
            picture.save(out, kind, **_OPTIONS.get(kind, {}), **lossy, **extra)
            if not most or out.tell() <= most:
                return out.getvalue(), _facts(media_type, picture.width, picture.height)
        if min(picture.size) * SHRINK < max(SMALLEST_SIDE, wanted["min_side"] or 0):
            raise NoPictureError("it cannot be made small enough")
        picture.thumbnail(_scaled(picture, SHRINK), Image.Resampling.LANCZOS)


def _scaled(image: Image.Image, scale: float) -> tuple[int, int]:
    return max(1, int(image.width * scale)), max(1, int(image.height * scale))


def _video(
    data: bytes, media_type: str, wanted: Mapping[str, Any]
) -> tuple[dict[str, object], bytes]:
    """Check a video's kind and size; it is not decoded, and cannot be made to fit."""
    if media_type not in wanted["media_types"]:
        raise NoPictureError(
            f"{_name(media_type)} is not taken, only {_names(wanted['media_types'])}"
        )
    if wanted["max_bytes"] and len(data) > wanted["max_bytes"]:
        most = _megabytes(wanted["max_bytes"])
        raise NoPictureError(f"{_megabytes(len(data))} are too much: at most {most}")
    try:
        plain = data if wanted["keep"] else stripped(data, media_type)
    except ValueError:
        raise NoPictureError(_DAMAGED) from None
    if plain is None:
        raise NoPictureError(
            "what it says of its place cannot be removed here: save it as an MP4 with only picture "
            "and sound, or let the person set [inputs] keep_metadata"
        )
    return _facts(media_type, None, None), plain


def _facts(media_type: str, width: int | None, height: int | None) -> dict[str, object]:
    return {"media_type": media_type, "width": width, "height": height, "said": []}


def _name(media_type: str) -> str:
    return media_type.partition("/")[2].upper()


def _names(media_types: list[str]) -> str:
    return ", ".join(_name(each) for each in media_types)


def _megabytes(size: int) -> str:
    return f"{size / 1e6:.1f} MB" if size >= 100_000 else f"{size / 1e3:.0f} kB"  # noqa: PLR2004 -- a tenth of one
