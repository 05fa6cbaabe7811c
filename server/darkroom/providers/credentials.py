"""Credentials and base addresses: read from the environment when a request needs them.

A credential comes from ``NAME`` or from the file that ``NAME_FILE`` names. It is not stored;
everything else identifies it by its fingerprint.
"""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from pydantic import SecretStr

from darkroom.core.environment import Missing, read_variable
from darkroom.core.errors import ConfigurationError, call_error
from darkroom.core.log import log
from darkroom.core.templates import TEMPLATE, unfilled
from darkroom.core.text_files import read_text
from darkroom.core.urls import Origin, is_loopback_host

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from darkroom.providers.operations import CredentialChoice
    from darkroom.providers.provider import Credential, Provider
    from darkroom.providers.settings import Sections
    from darkroom.providers.values import Cost

NEW_SUFFIX, ANSWER_SUFFIX = ".new", ".answer-"
"""Names beside a key's file: the new key before it takes its place, and an answer kept whole."""

_VISIBLE = re.compile(r"[!-~]+")
"""Characters that are allowed in a header: ASCII without spaces and control characters."""


def is_sendable(key: str) -> bool:
    """Tell whether a key has only characters that a header takes."""
    return _VISIBLE.fullmatch(key) is not None


FINGERPRINT_CHARACTERS = 12
MASKED_FROM_CHARACTERS = 12
"""Of a shorter key not even the last four characters are shown."""


@dataclass(frozen=True, slots=True)
class Key:
    """A credential as it was when it was read."""

    credential: Credential
    secret: SecretStr
    fingerprint: str
    source: str
    """The variable or the file that it was read from."""

    @property
    def mode(self) -> str | None:
        """What the key's prefix means: ``live``, ``test`` or nothing."""
        value = self.secret.get_secret_value()
        return next(
            (mode for prefix, mode in self.credential.modes.items() if value.startswith(prefix)),
            None,
        )

    def charged(self, cost: Cost | None) -> Cost | None:
        """Return what a cost is for this key: with a test key nothing is charged."""
        if cost is None or self.mode not in self.credential.free_modes:
            return cost
        return replace(cost, amount=0, basis="exact")

    @property
    def masked(self) -> str:
        """The last four characters of the key, to tell it from another."""
        value = self.secret.get_secret_value()
        return "…" + (value[-4:] if len(value) >= MASKED_FROM_CHARACTERS else "")


class Credentials:
    """Resolves credentials and base addresses of providers, for an owner, at request time.

    The environment and the files are read again for every request, so that a new key is used.
    """

    def __init__(self, environment: Mapping[str, str], settings: Sections) -> None:
        self._environment = environment
        self._settings = settings
        self.doubtful: dict[str, str] = {}
        """By variable: what may have become of its key, because the answer to a call was lost."""

    def __repr__(self) -> str:
        return "Credentials()"

    def look(self, credential: Credential) -> Key | Missing:
        """Return the credential, or why there is none."""
        found = read_variable(self._environment, credential.variable)
        if isinstance(found, Missing):
            return found
        value, source = found
        if not is_sendable(value):
            return Missing(credential.variable, f"{source} holds characters that no key has")
        return Key(credential, SecretStr(value), fingerprint(value), source)

    def file_of(self, key: Key) -> str | None:
        """Return the path of the file that a key was read from; None if it came from a variable."""
        variable = f"{key.credential.variable}_FILE"
        return self._environment.get(variable) if key.source == variable else None

    def renewed(self, key: Key) -> Key | None:
        """Return the credential if it has changed since (the key was rotated), else None.

        A server that was killed between the provider's answer and the rename has left the new key
        beside the old one: it is put in its place.
        """
        found = self.look(key.credential)
        if isinstance(found, Key) and found.fingerprint == key.fingerprint:
            found = self.look(key.credential) if self._put_in_place(key) else found
        return found if isinstance(found, Key) and found.fingerprint != key.fingerprint else None

    def _put_in_place(self, key: Key) -> bool:
        path = self.file_of(key)
        if path is None:
            return False
        target = Path(path).expanduser().resolve()
        new = target.with_name(target.name + NEW_SUFFIX)
        try:
            whole = not new.is_symlink() and _VISIBLE.fullmatch(read_text(new).strip())
            if not whole or new.stat().st_mtime < target.stat().st_mtime:
                return False
            new.replace(target)
        except (OSError, UnicodeDecodeError):
            return False
        log.warning("%s was rotated and not written to its end: the new key is in its place", path)
        return True

    def said_of(self, key: Key) -> str | None:
        """Return what the person should know of a key that is not accepted: where a new one may be."""
        path = self.file_of(key)
        kept = beside(Path(path).expanduser().resolve()) if path is not None else []
        if kept:
            return f"a new key may be in {kept[0]}: tell the person to take it from there"
        return self.doubtful.get(key.credential.variable)

    def available(self, provider: Provider) -> bool:
        """Tell whether any credential of the provider is set."""
        return any(isinstance(self.look(c), Key) for c in provider.credentials)

    def key(self, provider: Provider, choice: CredentialChoice = None, *, owner: str) -> Key:
        """Return the credential for a request of ``owner``.

        ``choice`` names one or more of several credentials; the first that is set is used. None
        means the provider's first.

        Raises
        ------
        CallError: ``not_configured``, naming the variable.
        """
        del owner  # one person, one set of credentials; a server for many looks it up here
        first = provider.credentials[0].variable
        choices = choice if isinstance(choice, tuple) else (choice or first,)
        known = {credential.variable: credential for credential in provider.credentials}
        missing: list[Missing] = []
        for variable in choices:
            found = self.look(known[variable])
            if isinstance(found, Key):
                return found
            missing.append(found)
        variable = missing[0].variable
        raise call_error(
            "not_configured",
            f"{provider.title} cannot do this: {'; '.join(each.reason for each in missing)}",
            f"ask the person to set {variable} (or {variable}_FILE) in the environment of this "
            "server and to start it again",
        )

    def base_url(self, provider: Provider) -> str:
        """Return the base address with its prefix; the path of a request is appended to it.

        Raises
        ------
        ConfigurationError: the address cannot be used.
        """
        name = provider.base_url_variable
        given = self._environment.get(name, "").strip() or provider.base_url
        if mistake := unfilled(name, given):
            raise ConfigurationError(mistake)
        try:
            parts = urlsplit(given)
            parts.port  # noqa: B018 -- raises for a port that is none
            (parts.hostname or "").encode("idna")  # raises for a name that DNS cannot hold
        except ValueError:
            raise ConfigurationError(f"{name}: not an address: expected https://host") from None
        if parts.scheme not in {"http", "https"} or not parts.hostname:
            raise ConfigurationError(f"{name}: expected an address such as {provider.base_url}")
        if parts.username or parts.password or parts.query or parts.fragment:
            raise ConfigurationError(
                f"{name}: expected scheme, host and path only; credentials go into "
                f"{provider.credentials[0].variable}"
            )
        allow_http = self._settings.provider(provider.name).allow_http
        if parts.scheme == "http" and not is_loopback_host(parts.hostname) and not allow_http:
            raise ConfigurationError(
                f"{name}: expected https; http is for loopback, or set "
                f"[{provider.name}] allow_http = true for a server of your own"
            )
        base = given.rstrip("/").removesuffix(provider.base_url_suffix or "")
        if provider.path_prefix is None:
            return base
        return base + provider.path_prefix(self._settings.provider(provider.name))

    def loopback_origins(self, providers: tuple[Provider, ...]) -> tuple[Origin, ...]:
        """Return the origins of the base addresses that the operator has set to loopback."""
        bases = [self.base_url(p) for p in providers if self._environment.get(p.base_url_variable)]
        return tuple(
            Origin.of(base) for base in bases if is_loopback_host(urlsplit(base).hostname or "")
        )


def fingerprint(secret: str) -> str:
    """Return the short hash that identifies a credential without revealing it."""
    hashed = hashlib.sha256(b"darkroom-credential:" + secret.encode()).hexdigest()
    return hashed[:FINGERPRINT_CHARACTERS]


def beside(path: Path) -> list[Path]:
    """Return the files beside a key's file that may hold a newer key."""
    try:
        found = sorted(path.parent.iterdir())
    except OSError:
        return []
    held = (path.name + NEW_SUFFIX, path.name + ANSWER_SUFFIX)
    return [each for each in found if each.name.startswith(held)]


def left_behind(environment: Mapping[str, str], providers: Iterable[Provider]) -> list[str]:
    """Return what the person should know of keys that were rotated and not put in their place."""
    variables = [f"{c.variable}_FILE" for provider in providers for c in provider.credentials]
    given = {name: environment.get(name, "").strip() for name in variables}
    return [
        f"{new} may hold a newer key than {path}, which {name} names: a rotation was not finished"
        for name, path in given.items()
        if path
        for new in beside(Path(path).expanduser().resolve())
    ]


def templates(environment: Mapping[str, str], providers: Iterable[Provider]) -> Iterable[str]:
    """Return the providers' variables that hold a template that the host did not fill in.

    They count as not set. In a setting, such a template is an error: see `unfilled`.
    """
    known = [
        name
        for provider in providers
        for variable in (*(c.variable for c in provider.credentials), *provider.variables)
        for name in (variable, f"{variable}_FILE")
    ]
    return [name for name in known if TEMPLATE.match(environment.get(name, ""))]
