"""A bucket as S3 has it: signed PUT, GET and DELETE of objects, and nothing public.

Source: the "Authenticating requests: using query parameters (AWS Signature Version 4)" page of
Amazon S3. A request without a valid, unexpired signature is refused. `Bucket.fault` plans what goes
wrong.
"""

from __future__ import annotations

import hashlib
import hmac
import time
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Literal
from urllib.parse import quote

from starlette.applications import Starlette
from starlette.responses import Response
from starlette.routing import Route

if TYPE_CHECKING:
    from collections.abc import Callable

    from starlette.requests import Request

BUCKET, REGION = "darkroom-sandbox", "us-east-1"
ACCESS_KEY, SECRET_KEY = "SANDBOXACCESSKEY", "sandbox-secret-key"

ENVIRONMENT = {
    "DARKROOM_INPUTS__UPLOAD": "s3",
    "DARKROOM_INPUTS__S3__BUCKET": BUCKET,
    "DARKROOM_INPUTS__S3__ENDPOINT": "https://bucket.sandbox.test",
    "DARKROOM_S3_ACCESS_KEY_ID": ACCESS_KEY,
    "DARKROOM_S3_SECRET_ACCESS_KEY": SECRET_KEY,
}
"""What makes a server hand local files on through this bucket."""
LONGEST_SECONDS = 604_800
"""A signature is valid for at most seven days."""

Stored = tuple[bytes, str]


@dataclass(frozen=True, slots=True)
class Asked:
    """One request as it came."""

    method: str
    key: str
    bytes: int


class Bucket:
    """The objects, and a record of what was asked.

    ``fault(method, key)`` returns a status to refuse a request with, ``"lost"`` to act on it and
    then close the connection, ``"away"`` to close it before that, or None.
    """

    def __init__(self, clock: Callable[[], float] = time.time) -> None:
        self._clock = clock
        self.objects: dict[str, Stored] = {}
        self.requests: list[Asked] = []
        self.fault: Callable[[str, str], int | Literal["lost", "away"] | None] = _nothing
        self.app = Starlette(
            routes=[
                Route(f"/{BUCKET}/{{key:path}}", self._object, methods=["GET", "PUT", "DELETE"])
            ]
        )

    async def _object(self, request: Request) -> Response:
        key, body = request.path_params["key"], await request.body()
        self.requests.append(Asked(request.method, key, len(body)))
        planned = self.fault(request.method, key)
        if isinstance(planned, int):
            return _refused(planned, "Planned")
        if planned == "away":
            request.scope["state"]["abort"](True)
            return Response()
        if (problem := self._problem(request)) is not None:
            return _refused(403, problem)
        if request.method == "PUT" and "content-length" not in request.headers:
            return _refused(411, "MissingContentLength")
        response = self._done(request, key, body)
        if planned == "lost":
            raise ConnectionResetError
        return response

    def _done(self, request: Request, key: str, body: bytes) -> Response:
        match request.method:
            case "PUT":
                self.objects[key] = body, request.headers.get("content-type", "")
                return Response(headers={"etag": f'"{hashlib.md5(body).hexdigest()}"'})  # noqa: S324 -- as S3 has it
            case "DELETE":
                self.objects.pop(key, None)
                return Response(status_code=204)
            case _:
                if key not in self.objects:
                    return _refused(404, "NoSuchKey")
                data, media_type = self.objects[key]
                return Response(data, media_type=media_type)

    def _problem(self, request: Request) -> str | None:
        """Return why the signature in the query is not accepted."""
        query = dict(request.query_params)
        signature = query.pop("X-Amz-Signature", None)
        if signature is None:
            return "AccessDenied"
        stamp, seconds = query.get("X-Amz-Date", ""), int(query.get("X-Amz-Expires", "0"))
        signed_at = datetime.strptime(stamp, "%Y%m%dT%H%M%SZ").replace(tzinfo=UTC).timestamp()
        if not 0 < seconds <= LONGEST_SECONDS or self._clock() > signed_at + seconds:
            return "AccessDenied"
        scope = f"{stamp[:8]}/{REGION}/s3/aws4_request"
        if query.get("X-Amz-Credential") != f"{ACCESS_KEY}/{scope}":
            return "InvalidAccessKeyId"
        names = query.get("X-Amz-SignedHeaders", "").split(";")
        canonical = "\n".join(
            [
                request.method,
                quote(request.url.path, safe="/-_.~"),
                "&".join(f"{quote(k, safe='-_.~')}={quote(query[k], safe='-_.~')}" for k in sorted(query)),
                *(f"{name}:{request.headers[name].strip()}" for name in names),
                "",
                ";".join(names),
                "UNSIGNED-PAYLOAD",
            ]
        )  # fmt: skip
        to_sign = "\n".join(
            ["AWS4-HMAC-SHA256", stamp, scope, hashlib.sha256(canonical.encode()).hexdigest()]
        )
        key = f"AWS4{SECRET_KEY}".encode()
        for part in (stamp[:8], REGION, "s3", "aws4_request"):
            key = hmac.digest(key, part.encode(), "sha256")
        expected = hmac.new(key, to_sign.encode(), "sha256").hexdigest()
        return None if hmac.compare_digest(expected, signature) else "SignatureDoesNotMatch"


def _nothing(method: str, key: str) -> None:
    """Plan no fault."""
    del method, key


def _refused(status: int, code: str) -> Response:
    body = f'<?xml version="1.0" encoding="UTF-8"?><Error><Code>{code}</Code></Error>'
    return Response(body, status_code=status, media_type="application/xml")
