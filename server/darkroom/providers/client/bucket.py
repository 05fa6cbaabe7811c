"""A bucket of the person's own: files are put into it, read by providers, and deleted.

Addresses are signed here (`obstore`, an extra) and are valid for a time; the requests are sent as
all others are. The bucket needs no public access.
"""

from __future__ import annotations

import importlib
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import anyio
import httpx2

from darkroom.core.environment import Missing, read_variable
from darkroom.core.errors import CallError, call_error

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Mapping
    from pathlib import Path

    from darkroom.core.executor import Executor

ACCESS_KEY, SECRET_KEY = "DARKROOM_S3_ACCESS_KEY_ID", "DARKROOM_S3_SECRET_ACCESS_KEY"
EXTRA = "darkroom-mcp[s3]"
READ_SECONDS = 86_400.0
"""How long an address is valid that a provider gets: a job may wait there for long."""

WRITE_SECONDS = 900.0
BLOCK_BYTES = 256 * 1024
TIMEOUT_SECONDS = 20.0
SLOWEST_BYTES_PER_SECOND = 50_000
TRIES = 3
PAUSE_SECONDS = 1.0
_FULL = frozenset({413, 507})
_PASSING = frozenset({408, 429, 500, 502, 503, 504})
_GONE = frozenset({200, 204, 404})
SETTINGS_WRONG = "ask the person to correct [inputs.s3]"


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """Where the bucket is; ``prefix`` is a folder in it."""

    bucket: str
    endpoint: str | None
    region: str
    prefix: str


class Bucket:
    """Puts files into the bucket; its keys are read from the environment for every request."""

    def __init__(
        self,
        place: Place,
        environment: Mapping[str, str],
        run: Executor,
        transport: httpx2.AsyncBaseTransport | None,
    ) -> None:
        self._place = place
        self._environment = environment
        self._run = run
        self._transport = transport
        self._client: httpx2.AsyncClient | None = None

    def __repr__(self) -> str:
        return "Bucket()"

    def key_for(self, name: str) -> str:
        """Return the key of an object."""
        return self._place.prefix + name

    def trouble(self) -> CallError | None:
        """Return why nothing can be put into the bucket; nothing is asked of it."""
        try:
            self._store()
        except CallError as error:
            return error
        return None

    def address(self, key: str) -> str:
        """Return an address from which an object can be read for `READ_SECONDS`.

        Raises
        ------
        CallError: ``not_configured``.
        """
        return self._signed("GET", key, READ_SECONDS)

    async def put(
        self, key: str, path: Path, media_type: str, size: int, tell: Callable[[int], None]
    ) -> None:
        """Put a file into the bucket; ``tell`` is called with the bytes that have left.

        It is tried again where that may help: the same object is written then.

        Raises
        ------
        CallError: ``input_failed`` or ``not_configured``. Something may have been written only if
            the error is retryable.
        """
        headers = {"content-type": media_type, "content-length": str(size)}
        tried = 0
        while True:
            tried += 1
            try:
                with anyio.fail_after(TIMEOUT_SECONDS + size / SLOWEST_BYTES_PER_SECOND):
                    response = await self._open().put(
                        self._signed("PUT", key, WRITE_SECONDS),
                        content=self._blocks(path, tell),
                        headers=headers,
                    )
            except (httpx2.HTTPError, TimeoutError, OSError):
                error = _away("did not answer")
            else:
                if response.is_success:
                    return
                error = _refused(response.status_code, may_be_there=tried > 1)
                if response.status_code not in _PASSING:
                    raise error
            if tried == TRIES:
                raise error
            await anyio.sleep(PAUSE_SECONDS * tried)

    async def delete(self, key: str) -> None:
        """Delete an object; one that is not there is deleted.

        Raises
        ------
        CallError: it may still be there.
        """
        try:
            with anyio.fail_after(TIMEOUT_SECONDS):
                response = await self._open().delete(self._signed("DELETE", key, WRITE_SECONDS))
        except (httpx2.HTTPError, TimeoutError, OSError):
            raise _away("did not answer") from None
        if response.status_code not in _GONE:
            raise _refused(response.status_code)

    async def aclose(self) -> None:
        """Close all connections."""
        if self._client is not None:
            await self._client.aclose()

    async def _blocks(self, path: Path, tell: Callable[[int], None]) -> AsyncIterator[bytes]:
        sent = 0
        file = await self._run(lambda: path.open("rb"))
        try:
            while block := await self._run(lambda: file.read(BLOCK_BYTES)):
                yield block
                sent += len(block)
                tell(sent)
        finally:
            file.close()

    def _open(self) -> httpx2.AsyncClient:
        if self._client is None:
            self._client = httpx2.AsyncClient(
                transport=self._transport,
                timeout=TIMEOUT_SECONDS,
                follow_redirects=False,
                trust_env=False,
            )
        return self._client

    def _signed(self, method: str, key: str, seconds: float) -> str:
        return _library("obstore").sign(self._store(), method, key, timedelta(seconds=seconds))

    def _store(self) -> Any:
        values: list[str] = []
        for variable in (ACCESS_KEY, SECRET_KEY):
            found = read_variable(self._environment, variable)
            if isinstance(found, Missing):
                raise call_error(
                    "not_configured",
                    f"the bucket cannot be used: {found.reason}; nothing was sent",
                    f"ask the person to set {variable} (or {variable}_FILE) in the environment of "
                    "this server",
                )
            values.append(found[0])
        place = self._place
        config: dict[str, object] = {
            "region": place.region,
            "access_key_id": values[0],
            "secret_access_key": values[1],
            "virtual_hosted_style_request": False,
        }
        if place.endpoint is not None:
            config["endpoint"] = place.endpoint
        return _library("obstore.store").S3Store(
            place.bucket, config=config, client_options={"allow_http": True}
        )


def _library(name: str) -> Any:
    """Return a module of the extra.

    Raises
    ------
    CallError: ``not_configured``; it is not installed.
    """
    try:
        return importlib.import_module(name)
    except ImportError:
        raise call_error(
            "not_configured",
            '[inputs] upload = "s3" needs a library that is not installed; nothing was sent',
            f"ask the person to install {EXTRA}",
        ) from None


def _away(what: str) -> CallError:
    return call_error(
        "input_failed",
        f"the bucket {what}; nothing was sent to the provider",
        "call again in a minute; if it happens again, tell the person",
        retryable=True,
    )


def _refused(status: int, *, may_be_there: bool = False) -> CallError:
    if status in _PASSING:
        return _away(f"answered {status}")
    if status in _FULL:
        said, then = f"takes nothing more (status {status})", "ask the person to make room in it"
    elif status == 404:  # noqa: PLR2004 -- the status
        said, then = "is not there (status 404)", SETTINGS_WRONG
    elif status in {401, 403}:
        said = f"refused the file (status {status})"
        then = f"ask the person to check {ACCESS_KEY}, {SECRET_KEY} and the bucket's policy"
    else:
        said, then = f"refused the file (status {status})", SETTINGS_WRONG
    said = f"the bucket {said}; nothing was sent to the provider"
    return call_error("input_failed", said, then, retryable=may_be_there)
