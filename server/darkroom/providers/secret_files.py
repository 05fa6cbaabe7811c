"""Writing new keys from providers to files; they appear nowhere else."""

from __future__ import annotations

import json
import os
import re
import secrets
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, cast

from darkroom.core.errors import call_error
from darkroom.core.files import OWNER_ONLY, sync_folder, write_new
from darkroom.providers.credentials import ANSWER_SUFFIX, NEW_SUFFIX

if TYPE_CHECKING:
    from collections.abc import Iterator

    from darkroom.core.json_types import JsonValue
    from darkroom.providers.credentials import Key
    from darkroom.providers.messages import Response
    from darkroom.providers.operations import CallOperation, Secret
    from darkroom.providers.provider import Provider


def place(
    call: CallOperation,
    provider: Provider,
    key: Key,
    folder: Path | None,
    path: str | None,
    name: str,
) -> Path:
    """Return the file that a call's new key will be written to, after checking that it is writable.

    ``path`` is the file that the key in use was read from, if any; ``folder`` is where new keys go.
    This is called before the request is sent.

    Raises
    ------
    CallError: ``not_configured``.
    """
    if call.secret is not None and call.secret.replaces:
        variable = key.credential.variable
        if path is None:
            raise call_error(
                "not_configured",
                f"{call.name} needs the key to be in a file: {provider.title}'s came from "
                f"{key.source}, where the next start would find the dead one",
                f"ask the person to put the key into a file and its path into {variable}_FILE",
            )
        target = Path(path).expanduser().resolve()
    elif folder is None:
        raise call_error(
            "not_configured",
            f"{call.name} returns a key, and there is no folder for keys",
            "ask the person to set [credentials] dir in the configuration",
        )
    else:
        target = folder / f"{call.name}-{name}.key"
    try:
        target.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        probe = target.with_name(f".{target.name}.{secrets.token_hex(4)}")
        os.close(os.open(probe, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600))
        probe.unlink()
        if target.exists() and not os.access(target, os.W_OK):
            raise PermissionError(13, "Permission denied")
    except OSError as error:
        raise call_error(
            "not_configured",
            f"{call.name} returns a key, and {target} cannot be written "
            f"({os.strerror(error.errno or 0)}); nothing was sent",
            "ask the person to make that file and its folder writable for this server",
        ) from None
    return target


def find(secret: Secret, response: Response, in_use: str) -> str | None:
    """Return the new key in a response, at any depth; None if it is not clear which text it is.

    Two kinds of text begin like a new key but are none: the key ``in_use``, and the beginning of a
    key that providers show (``key_prefix``, ``zsky_live_ab***``).
    """
    texts = list(_texts(response.body, None))
    found = {text for name, text in texts if name is not None and name == secret.field}
    if not found:
        found = {text for _, text in texts if text.startswith(secret.prefix)}
    whole = [
        text
        for text in found
        if not _SHORTENED.search(text)
        and not any(other != text and other.startswith(text) for other in found | {in_use})
        and text != in_use
    ]
    return whole[0] if len(whole) == 1 else None


_SHORTENED = re.compile(r"[*…]|\.\.\.|\s")
"""Characters that show that a text is not a whole key: it is masked, or a sentence."""


def _texts(value: JsonValue, name: str | None) -> Iterator[tuple[str | None, str]]:
    """Yield every non-empty text with its name."""
    if isinstance(value, str):
        if value:
            yield name, value
    elif isinstance(value, dict):
        for key, inner in value.items():
            yield from _texts(inner, key)
    elif isinstance(value, list):
        for inner in value:
            yield from _texts(inner, name)


def save(target: Path, text: str) -> Path:
    """Write a secret into the target's place: whole or not at all, and for the owner's eyes only.

    Until it is there it lies beside it, under a name that is looked for: `credentials.beside`.
    """
    target.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    new = target.with_name(target.name + NEW_SUFFIX)
    with suppress(FileNotFoundError):  # of a rotation that was not finished: kept, not overwritten
        new.replace(new.with_name(f"{new.name}-{secrets.token_hex(4)}"))
    try:
        write_new(new, text.encode(), mode=OWNER_ONLY, durable=True)
        new.replace(target)
    except FileNotFoundError:
        if target.read_text() != text:  # otherwise somebody has put it in its place already
            raise
    sync_folder(target.parent)
    return target


def keep(target: Path, response: Response) -> Path:
    """Save a whole response beside the target, because it may contain a key that was not found."""
    beside = target.with_name(f"{target.name}{ANSWER_SUFFIX}{secrets.token_hex(4)}")
    return save(beside, json.dumps(response.body, ensure_ascii=False))


def without(response: Response, secret: str) -> Response:
    """Return the response without the members that contain the secret."""
    return replace(response, body=_without(response.body, secret), headers={})


def _without(value: JsonValue, secret: str) -> JsonValue:
    if isinstance(value, dict):
        return {
            name: _without(inner, secret)
            for name, inner in value.items()
            if not (secret in name or (isinstance(inner, str) and secret in inner))
        }
    if isinstance(value, list):
        return [
            _without(inner, secret)
            for inner in value
            if not (isinstance(inner, str) and secret in inner)
        ]
    return cast("JsonValue", None) if isinstance(value, str) and secret in value else value
