"""How Claid refuses a request, and what every answer says about the rate limit."""

from __future__ import annotations

import base64
import hashlib
import hmac
import math
from collections import defaultdict, deque
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from darkroom_tools.emulators.kit import ProviderError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

Encoding = Literal["hex", "base64"]
"""How the webhook's digest is written; no document says."""

RATE_LIMITS = ((120, 60.0), (4, 1.0))
"""Requests in any so many seconds; RateLimit-Remaining speaks of the first."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Left:
    """What the rate limit leaves after a request: whether it was one too many, and the headers."""

    refused: bool
    headers: Mapping[str, str]


class RateLimits:
    """Several sliding windows per key: none of its length ever holds more than its number."""

    def __init__(self, limits: Sequence[tuple[int, float]]) -> None:
        self._limits = tuple(limits)
        self._asked: defaultdict[str, deque[float]] = defaultdict(deque)

    def untouched(self) -> Left:
        """Return what is left to somebody who has asked nothing."""
        return self._left(self._limits[0][0], 0)

    def take(self, key: str, now: float) -> Left:
        """Count a request; one too many is refused, and then does not count."""
        asked = self._asked[key]
        while asked and asked[0] <= now - max(seconds for _, seconds in self._limits):
            asked.popleft()
        waits: list[float] = []
        for most, seconds in self._limits:
            recent = [at for at in asked if at > now - seconds]
            if len(recent) >= most:
                waits.append(recent[-most] + seconds - now)
        if waits:
            return self._left(-1, max(waits))
        asked.append(now)
        most, seconds = self._limits[0]
        recent = [at for at in asked if at > now - seconds]
        # invented: but for a 429 the headers speak of the first window
        return self._left(most - len(recent), recent[0] + seconds - now)

    def _left(self, remaining: int, reset: float) -> Left:
        windows = [f"{most};w={seconds:g}" for most, seconds in self._limits]
        return Left(
            refused=remaining < 0,
            headers={
                "RateLimit-Limit": ", ".join([str(self._limits[0][0]), *windows]),
                "RateLimit-Remaining": str(remaining),
                "RateLimit-Reset": str(math.ceil(reset)),
            },
        )


def refusal(
    status: int, code: str, kind: str, message: str, details: Mapping[str, object] | None = None
) -> ProviderError:
    """Return an error in the documented envelope."""
    return ProviderError(
        status,
        {
            "error_code": code,
            "error_type": kind,
            "error_message": message,
            "error_details": dict(details or {}),
        },
    )


def invalid(wrong: Mapping[str, list[str]]) -> ProviderError:
    """Return the answer to a body with mistakes: dotted path -> messages."""
    message = " ".join(f"{path}: {text}." for path, texts in wrong.items() for text in texts)
    return refusal(422, "9000", "validation", message, wrong)


def rate_limited() -> ProviderError:
    """Return the one error whose envelope is nested in ``detail``."""
    return ProviderError(
        429,
        {
            "detail": {
                "error_code": "2001",
                "error_type": "general",
                "error_message": "Too Many Requests. Rate limit exceeded.",
            }
        },
    )


def webhook_headers(body: bytes, secret: str | None, encoding: Encoding) -> dict[str, str]:
    """Return a webhook's headers: signed with HMAC-SHA256 over the raw body if there is a secret."""
    headers = {"content-type": "application/json"}
    if secret is not None:
        digest = hmac.new(secret.encode(), body, hashlib.sha256).digest()
        written = digest.hex() if encoding == "hex" else base64.b64encode(digest).decode()
        headers["x-claid-hmac-sha256"] = written
    return headers
