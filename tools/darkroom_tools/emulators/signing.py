"""Signed addresses that expire, as object stores give them out."""

from __future__ import annotations

import hashlib
import hmac
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING
from urllib.parse import urlencode

from darkroom_tools.emulators.kit import access_denied

if TYPE_CHECKING:
    from starlette.requests import Request
    from starlette.responses import Response

    from darkroom_tools.emulators.kit import Clock

STAMP = "%Y%m%dT%H%M%SZ"


@dataclass(frozen=True, slots=True)
class Signer:
    """Signs paths of one emulator; ``prefix`` is the store's, "X-Amz" or "X-Goog"."""

    key: bytes
    prefix: str
    clock: Clock

    def query(self, path: str, seconds: int) -> str:
        """Return the query that makes ``path`` readable for ``seconds`` from now."""
        date = datetime.fromtimestamp(self.clock(), UTC).strftime(STAMP)
        return urlencode(
            {
                f"{self.prefix}-Date": date,
                f"{self.prefix}-Expires": seconds,
                f"{self.prefix}-Signature": self._signature(path, date, str(seconds)),
            }
        )

    def refusal(self, request: Request, path: str) -> Response | None:
        """Return the store's 403 unless the request carries a good signature that still holds."""
        date, seconds, signature = (
            request.query_params.get(f"{self.prefix}-{part}", "")
            for part in ("Date", "Expires", "Signature")
        )
        if not hmac.compare_digest(
            signature.encode(), self._signature(path, date, seconds).encode()
        ):
            return access_denied("The signature does not match")
        signed_at = datetime.strptime(date, STAMP).replace(tzinfo=UTC).timestamp()
        if self.clock() >= signed_at + int(seconds):
            return access_denied("Request has expired")
        return None

    def _signature(self, path: str, date: str, seconds: str) -> str:
        return hmac.new(self.key, f"{path}\n{date}\n{seconds}".encode(), hashlib.sha256).hexdigest()
