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
from darkroom.core.files import OWNER_ONLY, make_private_folder, trusted, write_new

if TYPE_CHECKING:
    from pathlib import Path

    from darkroom.config.settings import Settings

FILE = "http-token"
WHAT = "the file of the token for HTTP,"
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
    ConfigurationError: the file cannot be read or made, others decide what it holds, or that is no
        token.
    """
    path = path_of(settings)
    try:
        if settings.http.token_file is None and not path.exists():
            _make(path)
        trusted(path, WHAT)
        found = path.read_bytes().removeprefix(BOM_UTF8).strip()
    except OSError as error:
        reason = error.strerror or type(error).__name__
        raise ConfigurationError(
            f"{path}: the token for HTTP cannot be read or made ({reason})"
        ) from None
    if len(found) < FEWEST_CHARACTERS or any(not 0x21 <= byte <= 0x7E for byte in found):  # noqa: PLR2004 -- what a header takes
        raise ConfigurationError(
            f"{path}: a token has {FEWEST_CHARACTERS} or more printable characters, and no spaces"
        )
    return found


def _make(path: Path) -> None:
    """Put a new token there, whole or not at all; another process may be first."""
    make_private_folder(path.parent)
    new = path.with_name(f"{FILE}.{secrets.token_hex(8)}")
    try:
        token = secrets.token_urlsafe(TOKEN_BYTES) + "\n"
        write_new(new, token.encode(), mode=OWNER_ONLY, durable=True)
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
