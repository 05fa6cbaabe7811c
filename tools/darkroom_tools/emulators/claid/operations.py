"""What Claid's operations do to a picture: with Pillow where that can be done, else stubs.

Everything here takes a request that ``claid_contract`` has found valid.
"""

from __future__ import annotations

import io
from collections.abc import Mapping
from typing import cast

from PIL import Image, ImageChops, ImageEnhance, ImageFilter, ImageOps

from darkroom_tools.emulators import pictures
from darkroom_tools.emulators.editing import (
    has_plain_background,
    on_color,
    remove_background,
    resized,
)
from darkroom_tools.emulators.kit import FetchFailedError

Json = Mapping[str, object]
Size = tuple[int, int]

BLUR_SHARE = {"low": 0.006, "medium": 0.015, "high": 0.03}
"""Radius of the background's blur, as a share of the longer side."""

INPUT_FORMATS = ("AVIF", "BMP", "GIF", "JPEG", "PNG", "TIFF", "WEBP")
"""As documented, but for HEIC, which Pillow cannot read."""

JPEG_QUALITY, WEBP_QUALITY, AVIF_QUALITY = 85, 75, 50
PNG_LEVELS = {"fast": 1, "optimal": 6, "best": 9}


def measure(source: bytes) -> tuple[str, tuple[int, int]]:
    """Return a picture's format and size; FetchFailedError when it is none that Claid reads."""
    size = pictures.decode(source).size
    with Image.open(io.BytesIO(source)) as image:
        shown = "JPEG" if image.format == "MPO" else str(image.format)
    if shown not in INPUT_FORMATS:
        raise FetchFailedError("Unsupported image format.")  # invented: the wording
    return shown, size


def output_size(size: Size, operations: Json) -> Size:
    """Return the result's width and height: an "auto" side keeps the proportions."""
    resizing = _at(operations, "resizing")
    width = _pixels(resizing.get("width"), size[0])
    height = _pixels(resizing.get("height"), size[1])
    kind, options = _fit(resizing)
    if width is None and height is None:
        target = size
    elif width is None or height is None:
        scale = (width or 0) / size[0] or (height or 0) / size[1]
        target = (width or _scaled(size[0], scale), height or _scaled(size[1], scale))
    elif kind in ("cover", "bounds"):
        pick = max if kind == "cover" else min
        target = _times(size, pick(width / size[0], height / size[1]))
    else:
        target = (width, height)
    if kind == "outpaint" and "outpaint_by" in options:
        # invented: what is named is added on each side, vertical before horizontal
        more_y, more_x = _margins(cast("str", options["outpaint_by"]), target)
        target = (target[0] + 2 * more_x, target[1] + 2 * more_y)
    return target


def edit(source: bytes, operations: Json, style: bytes | None = None) -> Image.Image:
    """Return the edited picture; RGBA where something of it is transparent.

    invented: the order of the operations, which the contract does not state.
    """
    image = pictures.decode(source)
    size = output_size(image.size, operations)
    image = _restored(image, _at(operations, "restorations"))
    image = _adjusted(image, _at(operations, "adjustments"))
    image = _on_background(image, _at(operations, "background"))
    image = _fitted(image, size, _fit(_at(operations, "resizing"))[0])
    padding = operations.get("padding")
    if isinstance(padding, str):
        # invented: the picture keeps its size, its content shrinks; vertical before horizontal
        pad_y, pad_x = _margins(padding, size)
        inside = (max(1, size[0] - 2 * pad_x), max(1, size[1] - 2 * pad_y))
        image = _centred(_contained(image, inside), Image.new("RGBA", size))
    color = _at(operations, "background").get("color")
    if isinstance(color, str) and color != "transparent" and image.mode == "RGBA":
        image = on_color(image, color)
    if style is not None:
        image = _in_style(image, style, _at(_at(operations, "generative"), "style_transfer"))
    # invented: ``privacy`` finds neither plates nor faces here, and leaves the picture as it is
    return image


def output_format(output: object) -> pictures.Format:
    """Return the format that a request asks for."""
    return cast("pictures.Format", _format(output).get("type", "jpeg"))


def write(image: Image.Image, output: object) -> bytes:
    """Return the picture as the file that ``output`` describes."""
    options = _format(output)
    metadata = _at(output, "metadata")
    kind = output_format(output)
    if kind != "png" and image.mode == "RGBA":
        image = on_color(image, "white")  # "transparent" only works for png; invented: white else
    if kind in ("jpeg", "tiff") and _named(metadata.get("color_space")).get("type") == "CMYK":
        image = image.convert("CMYK")
    params: dict[str, object] = {}
    if isinstance(metadata.get("dpi"), int):
        params["dpi"] = (metadata["dpi"], metadata["dpi"])
    compression = _named(options.get("compression"))
    lossless = compression.get("type") == "lossless"
    match kind:
        case "jpeg":
            params["quality"] = options.get("quality", JPEG_QUALITY)
            params["progressive"] = options.get("progressive", True)
        case "png":
            params["compress_level"] = PNG_LEVELS[str(options.get("compression", "optimal"))]
        case "webp":
            params |= {"quality": compression.get("quality", WEBP_QUALITY), "lossless": lossless}
        case "avif":
            params["quality"] = 100 if lossless else compression.get("quality", AVIF_QUALITY)
            params["speed"] = 9
        case "tiff":
            lossy = compression.get("type") == "lossy"
            params["compression"] = "jpeg" if lossy else "tiff_deflate"
    file = io.BytesIO()
    image.save(file, kind.upper(), **params)
    return file.getvalue()


def style_reference(operations: Json) -> str | None:
    """Return the address of the picture whose style is asked for."""
    transfer = _at(_at(operations, "generative"), "style_transfer")
    return cast("str | None", transfer.get("style_reference_image"))


def _at(value: object, name: str) -> dict[str, object]:
    """Return the object under ``name``; empty where there is none."""
    inner = cast("Json", value).get(name) if isinstance(value, dict) else None
    return cast("dict[str, object]", inner) if isinstance(inner, dict) else {}


def _named(value: object) -> dict[str, object]:
    """Return the full form of what may be written as a word."""
    if isinstance(value, str):
        return {"type": value}
    return cast("dict[str, object]", value) if isinstance(value, dict) else {}


def _format(output: object) -> dict[str, object]:
    asked = cast("Json", output).get("format") if isinstance(output, dict) else None
    return _named(asked) or {"type": "jpeg"}


def _fit(resizing: Json) -> tuple[str, dict[str, object]]:
    options = _named(resizing.get("fit"))
    return str(options.get("type", "crop")), options


def _scaled(side: int, scale: float) -> int:
    return max(1, round(side * scale))


def _times(size: Size, scale: float) -> Size:
    return _scaled(size[0], scale), _scaled(size[1], scale)


def _pixels(asked: object, side: int) -> int | None:
    if isinstance(asked, str) and asked.endswith("%"):
        return _scaled(side, int(asked[:-1]) / 100)
    return asked if isinstance(asked, int) else None


def _margins(written: str, size: Size) -> Size:
    """Read "10%", "5% 15%" or "64px 32px" as pixels: vertical, horizontal."""
    parts = written.split()

    def measure(part: str, side: int) -> int:
        return int(part[:-2]) if part.endswith("px") else round(side * int(part[:-1]) / 100)

    return measure(parts[0], size[1]), measure(parts[-1], size[0])


def _contained(image: Image.Image, size: Size) -> Image.Image:
    scale = min(size[0] / image.width, size[1] / image.height)
    width, height = _times(image.size, scale)
    return resized(image, (min(width, size[0]), min(height, size[1])))


def _centred(image: Image.Image, ground: Image.Image) -> Image.Image:
    place = ((ground.width - image.width) // 2, (ground.height - image.height) // 2)
    ground.alpha_composite(image.convert("RGBA"), place)
    return ground


def _fitted(image: Image.Image, size: Size, kind: str) -> Image.Image:
    if image.size == size:
        return image
    if kind in ("crop", "outpaint"):
        scale = max(size[0] / image.width, size[1] / image.height)
        large = resized(image, _times(image.size, scale))
        left, top = (large.width - size[0]) // 2, (large.height - size[1]) // 2
        # invented: "smart" crops where "center" does
        cover = large.crop((left, top, left + size[0], top + size[1]))
        if kind == "crop":
            return cover
        # invented: what a model would paint around the picture is its own blurred enlargement
        around = cover.filter(ImageFilter.GaussianBlur(max(size) / 30)).convert("RGBA")
        return _centred(_contained(image, size), around).convert(image.mode)
    if kind == "canvas":
        return _centred(_contained(image, size), Image.new("RGBA", size))
    return resized(image, size)


def _restored(image: Image.Image, restorations: Json) -> Image.Image:
    # invented: stand-ins for models; ``upscale`` sharpens, the size is left to ``resizing``
    if restorations.get("decompress"):
        image = image.filter(ImageFilter.MedianFilter(3))
    if restorations.get("upscale"):
        image = image.filter(ImageFilter.UnsharpMask(2, 80, 2))
    return image.filter(ImageFilter.DETAIL) if restorations.get("polish") else image


def _adjusted(image: Image.Image, adjustments: Json) -> Image.Image:
    def value(name: str) -> int:
        given = adjustments.get(name, 0)
        return given if isinstance(given, int) else 0

    hdr = adjustments.get("hdr", 0)
    if isinstance(hdr, dict):
        hdr = cast("Json", hdr).get("intensity", 100)
    rgb = image.convert("RGB")
    if isinstance(hdr, int) and hdr > 0:
        rgb = Image.blend(rgb, ImageOps.autocontrast(ImageOps.equalize(rgb), cutoff=1), hdr / 200)
    rgb = ImageEnhance.Brightness(rgb).enhance(2 ** (value("exposure") / 100))
    rgb = ImageEnhance.Color(rgb).enhance(1 + value("saturation") / 100)
    rgb = ImageEnhance.Contrast(rgb).enhance(1 + value("contrast") / 100)
    rgb = ImageEnhance.Sharpness(rgb).enhance(1 + value("sharpness") / 25)
    if image.mode == "RGBA":
        rgb.putalpha(image.getchannel("A"))
    return rgb


def _on_background(image: Image.Image, background: Json) -> Image.Image:
    blur = background.get("blur", False)
    if blur is not False:
        options = _named(blur)
        radius = BLUR_SHARE[str(options.get("level", "medium"))] * max(image.size)
        soft = ImageFilter.BoxBlur if options.get("type") == "lens" else ImageFilter.GaussianBlur
        image = Image.composite(image, image.filter(soft(radius)), _subject(image))
    return image if background.get("remove", False) is False else remove_background(image)


def _subject(image: Image.Image) -> Image.Image:
    if has_plain_background(image):
        return remove_background(image).getchannel("A")
    # invented: a stand-in for a model; without a plain background the subject is in the middle
    middle = ImageChops.invert(resized(Image.radial_gradient("L"), image.size))
    return ImageOps.autocontrast(middle, cutoff=30)


def _in_style(image: Image.Image, style: bytes, options: Json) -> Image.Image:
    # invented: a stand-in for a model; the reference's colours are laid over the picture
    colors = resized(pictures.decode(style).convert("RGB"), image.size)
    colors = colors.filter(ImageFilter.GaussianBlur(max(image.size) / 12))
    strength = cast("float", options.get("style_strength", 0.75))
    styled = Image.blend(image.convert("RGB"), colors, strength / 2)
    if image.mode == "RGBA":
        styled.putalpha(image.getchannel("A"))
    return styled
