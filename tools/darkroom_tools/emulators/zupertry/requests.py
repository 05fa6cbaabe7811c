"""How Zuper Try-On's emulator reads requests, and refuses them."""

from __future__ import annotations

import base64
from typing import TYPE_CHECKING, cast
from urllib.parse import urlsplit

from darkroom_tools.emulators.kit import ProviderError

if TYPE_CHECKING:
    from collections.abc import Mapping

DEFAULT_PAGE, LARGEST_PAGE = 20, 100

# invented: how the format is told at submission, where only the address is known
UNSUPPORTED_ENDINGS = (".gif", ".bmp", ".tif", ".tiff", ".avif", ".heic", ".svg", ".pdf")


def picture_address(body: Mapping[str, object], name: str) -> str:
    """Return the address in a field that is required."""
    address = body.get(name)
    if not is_address(address):
        raise refusal(422, "validation_error", f"{name} is missing or no valid URL.")
    address = cast("str", address)
    if urlsplit(address).path.lower().endswith(UNSUPPORTED_ENDINGS):
        raise refusal(422, "validation_error", f"{name}: the image format is not supported.")
    return address


def is_address(value: object) -> bool:
    """Tell whether a value is an http or https address."""
    if not isinstance(value, str):
        return False
    try:
        parts = urlsplit(value)
    except ValueError:
        return False
    return parts.scheme in ("http", "https") and bool(parts.hostname)


def cursor_before(number: int) -> str:
    """Return the cursor of the page that begins before a job's number."""
    return base64.urlsafe_b64encode(f"before:{number}".encode()).decode()


def refusal(status: int, code: str, message: str) -> ProviderError:
    """Return the documented envelope of an error."""
    return ProviderError(status, {"error": {"code": code, "message": message}})


def place_of(cursor: str) -> int:
    """Return what `cursor_before` was given."""
    try:
        return int(base64.urlsafe_b64decode(cursor.encode()).removeprefix(b"before:"))
    except ValueError as error:  # invented: what a wrong cursor is answered with
        raise refusal(422, "validation_error", "cursor is not valid.") from error


def page_size(text: str | None, *, clamps: bool) -> int:
    """Return how many jobs a page has; over 100 means 100 when ``clamps``."""
    if text is None:
        return DEFAULT_PAGE
    limit = int(text) if text.isascii() and text.isdigit() else 0
    if clamps and limit > LARGEST_PAGE:
        return LARGEST_PAGE
    if not 1 <= limit <= LARGEST_PAGE:  # invented: "max 100" is enforced by refusing
        raise refusal(422, "validation_error", "limit is not between 1 and 100.")
    return limit
