"""The token that every request over HTTP must have: the user's own, or one that is made once."""

from __future__ import annotations

import hashlib
import hmac
import os
import secrets
from codecs import BOM_UTF8
from contextlib import suppress
from typing import TYPE_CHECKING

from darkroom.core.errors import ConfigurationError

if TYPE_CHECKING:
    from pathlib import Path

    from darkroom.config.settings import Settings

FILE = "http-token"
TOKEN_BYTES = 32
FEWEST_CHARACTERS = 16
"""Minimum length of a token; a shorter one could be guessed."""


def path_of(settings: Settings) -> Path:
    """Return the file with the token: the configured one, or ours in the state folder."""
    if settings.http.token_file is not None:
        return settings.http.token_file
    return settings.state_dir / FILE


def token(settings: Settings) -> bytes:
    """Return the token; make one if none is configured and there is none yet.

    Raises
    ------
    ConfigurationError: the file cannot be read or made, or does not contain a valid token.
    """
    path = path_of(settings)
    try:
        if settings.http.token_file is None and not path.exists():
            _make(path)
        found = path.read_bytes().removeprefix(BOM_UTF8).strip()
    except OSError as error:
        reason = error.strerror or type(error).__name__
        raise ConfigurationError(f"{path}: no token for HTTP can be had ({reason})") from None
    if len(found) < FEWEST_CHARACTERS or any(not 0x21 <= byte <= 0x7E for byte in found):  # noqa: PLR2004 -- what a header takes
        raise ConfigurationError(
            f"{path}: a token has {FEWEST_CHARACTERS} or more printable characters, and no spaces"
        )
    return found


def _make(path: Path) -> None:
    """Write a new token atomically; if another process was first, its token is kept."""
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    new = path.with_name(f"{FILE}.{secrets.token_hex(8)}")
    try:
        descriptor = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "w") as file:
            file.write(secrets.token_urlsafe(TOKEN_BYTES) + "\n")
            file.flush()
            os.fsync(file.fileno())
        with suppress(FileExistsError):
            os.link(new, path)
    finally:
        new.unlink(missing_ok=True)


def bears(authorization: bytes, expected: bytes) -> bool:
    """Tell whether an ``Authorization`` header has the token, comparing in constant time."""
    scheme, _, given = authorization.partition(b" ")
    same = hmac.compare_digest(
        hashlib.sha256(given.strip()).digest(), hashlib.sha256(expected).digest()
    )
    return scheme.lower() == b"bearer" and same
