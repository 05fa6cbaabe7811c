"""Asks for keys without showing them, and keeps each in a file for the person alone."""

from __future__ import annotations

import getpass
import sys
from typing import TYPE_CHECKING

from pydantic import SecretStr

from darkroom.core.environment import Missing
from darkroom.core.errors import ConfigurationError
from darkroom.core.files import OWNER_ONLY, make_private_folder, write_atomic
from darkroom.providers.credentials import is_sendable

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from darkroom.cli.context import CommandContext

FOLDER = "keys"


def keys_folder() -> Path:
    """Return the folder of the key files."""
    import platformdirs  # noqa: PLC0415 -- start-up pays for it only where it is needed

    return platformdirs.user_config_path("darkroom", appauthor=False) / FOLDER


def file_of(variable: str) -> Path:
    """Return the file in which a key that was asked for is kept."""
    return keys_folder() / variable


def ask_keys(context: CommandContext) -> dict[str, SecretStr]:
    """Ask for every credential that is not set; return those that were given, by variable.

    Raises
    ------
    ConfigurationError: nobody can be asked, or an answer is no key.
    """
    if not sys.stdin.isatty():
        raise ConfigurationError("--ask-keys: nobody can be asked here; run it at a terminal")
    sys.stderr.write("Keys are not shown while you type. Press Enter to leave one out.\n")
    sys.stderr.flush()
    given: dict[str, SecretStr] = {}
    for provider in context.providers:
        for credential in provider.credentials:
            name = credential.variable
            if not isinstance(context.credentials.look(credential), Missing):
                continue
            key = getpass.getpass(f"{provider.title}, {name}: ", stream=sys.stderr).strip()
            if key and not is_sendable(key):
                raise ConfigurationError(f"{name}: what was typed holds characters that no key has")
            if key:
                given[name] = SecretStr(key)
    return given


def keep(given: Mapping[str, SecretStr]) -> None:
    """Write each key into its file, which only the person can read.

    Raises
    ------
    ConfigurationError: a file cannot be written.
    """
    for name, key in given.items():
        path = file_of(name)
        try:
            make_private_folder(path.parent)
            text = f"{key.get_secret_value()}\n"
            write_atomic(path, text.encode(), mode=OWNER_ONLY, durable=True)
        except OSError as error:
            reason = error.strerror or type(error).__name__
            raise ConfigurationError(f"{path}: cannot be written ({reason})") from None
