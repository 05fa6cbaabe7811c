"""Local files, and a server whose uploader is the sandbox's bucket."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING, Any

from PIL import Image

from darkroom_tools.emulators import bucket
from tests.harness import rig

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.harness import Rig

GPS = 0x8825
ORIENTATION = 0x0112
CAMERA = 0x0110
PLACE = {1: "N", 2: (48.0, 51.0, 24.0), 3: "E", 4: (2.0, 17.0, 40.0)}


def picture(
    kind: str = "JPEG",
    size: tuple[int, int] = (320, 240),
    *,
    seed: int = 0,
    orientation: int | None = None,
    place: bool = False,
) -> bytes:
    """Return a picture, of which each ``seed`` has its own colours."""
    image = Image.new("RGB", size, (seed * 37 % 256, 90, 200 - seed % 200))
    image.paste((250, 240, 20), (0, 0, size[0] // 2, size[1] // 4))  # its upper left corner
    exif = Image.Exif()
    exif[CAMERA] = "A camera of mine"
    if orientation is not None:
        exif[ORIENTATION] = orientation
    if place:
        exif[GPS] = PLACE
    out = io.BytesIO()
    image.save(out, kind, exif=exif.tobytes())
    return out.getvalue()


def bucket_rig(clock: Callable[[], float], folder: Path, **more: Any) -> Rig:
    """Return a server that takes files from ``folder / "photos"`` and uploads them to a bucket."""
    photos = folder / "photos"
    photos.mkdir(exist_ok=True)
    environment = {
        "DARKROOM_INPUTS__ROOTS": f'["{photos}"]',
        **bucket.ENVIRONMENT,
        **more.pop("environment", {}),
    }
    return rig(clock, folder, environment=environment, **more)
