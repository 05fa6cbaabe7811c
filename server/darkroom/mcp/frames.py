"""What is wrong with a message before the SDK reads it: how it is encoded, and what it is not.

The SDK would put other characters in the place of bytes that are no UTF-8 (and the provider would
be paid for those), and would take a request whose id is a fraction for a notification, which nobody
answers.
"""

from __future__ import annotations

import codecs
import json
import re
from typing import TYPE_CHECKING, cast

from mcp_types import INVALID_REQUEST, PARSE_ERROR

if TYPE_CHECKING:
    from darkroom.core.json_types import JsonObject

NO_UTF8 = "Parse error: the message is not UTF-8, so nothing was done"
BATCH = "Invalid request: batches are not part of this protocol; send each message by itself"
ODD_ID = "Invalid request: an id is a string or a whole number"

_ODD_ID = re.compile(rb'"id"\s*:\s*(?:[^\s"\d-]|-?\d+[.eE])')
"""Where an id that is no string and no whole number may be; parsing tells whether it is the message's."""


class FrameError(ValueError):
    """A message cannot be taken; `answer` is what its sender is told."""

    def __init__(self, code: int, message: str) -> None:
        super().__init__(message)
        self.answer = json.dumps(
            {"jsonrpc": "2.0", "id": None, "error": {"code": code, "message": message}}
        )


def checked(frame: bytes) -> bytes:
    """Return a message without a byte order mark, if the SDK can be trusted with it.

    Raises
    ------
    FrameError: it is no UTF-8, a batch, or has an id that nobody could be answered by.
    """
    frame = frame.removeprefix(codecs.BOM_UTF8)
    try:
        frame.decode()
    except UnicodeDecodeError:
        raise FrameError(PARSE_ERROR, NO_UTF8) from None
    if frame.lstrip()[:1] == b"[":
        raise FrameError(INVALID_REQUEST, BATCH)
    if _ODD_ID.search(frame) is not None and _has_odd_id(frame):
        raise FrameError(INVALID_REQUEST, ODD_ID)
    return frame


def _has_odd_id(frame: bytes) -> bool:
    try:
        message: object = json.loads(frame)
    except (ValueError, RecursionError):
        return False  # the SDK says what is wrong with it
    if not isinstance(message, dict):
        return False
    fields = cast("JsonObject", message)
    if "method" not in fields or "id" not in fields:
        return False  # an answer may have none
    given = fields["id"]
    return isinstance(given, bool) or not isinstance(given, str | int)
