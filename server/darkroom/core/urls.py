"""Which addresses are public, judged by their text only.

`darkroom.providers.client.fetch` checks what they resolve to.

Different parsers read unusual addresses differently: a check could see one host while the client
connects to another. Therefore unusual spellings are refused. A host is an ASCII name, a dotted
IPv4 address or an IPv6 address in brackets.
"""

from __future__ import annotations

import ipaddress
import re
import unicodedata
from dataclasses import dataclass
from typing import TYPE_CHECKING
from urllib.parse import quote, urljoin, urlsplit

if TYPE_CHECKING:
    from collections.abc import Collection

    from darkroom.core.json_types import JsonValue

MAX_ADDRESS_CHARACTERS = 4096
SANDBOX_SUFFIX = ".sandbox.test"
"""Hosts of the embedded sandbox end in this; ``.test`` is reserved and exists in no network."""

_AROUND = "".join(map(chr, range(0x21)))
_LINE_BREAKS = re.compile(r"[\t\n\r]")
_DEFAULT_PORTS = {"http": 80, "https": 443}
_MAX_PORT = 65535

_LOCAL_PATH = re.compile(r"[/\\.~]|[a-z]:[/\\]|file:", re.IGNORECASE)
_SCHEME = re.compile(r"([a-z][a-z0-9+.-]*):", re.IGNORECASE)
_AUTHORITY = re.compile(r"//([^/?#]*)")
_HOST_AND_PORT = re.compile(r"(\[[^\]]*\]|[^:\[\]]*)(?::([0-9]{1,5}))?")
_LABEL = r"[a-z0-9_](?:[a-z0-9_-]{0,61}[a-z0-9_])?"
_NAME = re.compile(rf"(?=.{{1,253}}$){_LABEL}(?:\.{_LABEL})*")
_NUMERIC_LABEL = re.compile(r"(?:.*\.)?(?:[0-9]+|0x[0-9a-f]*)")

_PRIVATE_NAME = re.compile(
    r"[^.]*|.*\.(?:localhost|localdomain|local|internal|intranet|lan|home\.arpa|test|onion)"
)
"""Names that exist only in a local network or not at all, including every name without a dot."""

_NETWORKS_BESIDES_IS_GLOBAL = tuple(
    ipaddress.ip_network(network)
    for network in (
        "192.0.0.0/24",  # protocol assignments
        "192.88.99.0/24",  # relays of 6to4
        "2001::/23",  # protocol assignments, Teredo among them
        "2002::/16",  # 6to4, which carries an IPv4 address
        "3fff::/20",  # documentation; older Pythons do not know it
    )
)
_GLOBAL_UNICAST = ipaddress.IPv6Network("2000::/3")
_NAT64 = ipaddress.IPv6Network("64:ff9b::/96")
_LOW_32_BITS = 0xFFFF_FFFF


@dataclass(frozen=True, slots=True)
class Origin:
    """Scheme, host (lower case, without brackets) and port of an address."""

    scheme: str
    host: str
    port: int

    @classmethod
    def of(cls, address: str) -> Origin:
        """Read the origin of ``address``; ValueError completes the sentence "the address ..."."""
        if len(address) > MAX_ADDRESS_CHARACTERS:
            raise ValueError(f"is longer than {MAX_ADDRESS_CHARACTERS} characters")
        if _LOCAL_PATH.match(address):
            raise ValueError("is the path of a local file")
        if any(unicodedata.category(character)[0] in "CZ" for character in address):
            raise ValueError("contains white space or control characters")
        if "\\" in address:
            raise ValueError("contains a backslash")
        scheme = _SCHEME.match(address)
        if scheme is None or (name := scheme[1].lower()) not in _DEFAULT_PORTS:
            raise ValueError("does not begin with https://")
        authority = _AUTHORITY.match(address, scheme.end())
        if authority is None or not authority[1]:
            raise ValueError("has no host")
        if "@" in authority[1]:
            raise ValueError("contains a user name or password")
        parts = _HOST_AND_PORT.fullmatch(authority[1])
        if parts is None:
            raise ValueError("has a host or port that cannot be read")
        port = int(parts[2] or _DEFAULT_PORTS[name])
        if not 0 < port <= _MAX_PORT:
            raise ValueError("has no valid port")
        return cls(name, _host(parts[1].lower()), port)


def mended(address: str, base: str) -> str:
    """Return an address in the form in which a browser would use it.

    White space around it is removed, spaces and unprintable characters are percent-encoded, the
    scheme becomes lower case, and an address without scheme or host is relative to ``base``.

    Raises
    ------
    ValueError: it cannot be used; the text completes the sentence "the address ...".
    """
    text = _LINE_BREAKS.sub("", address.strip(_AROUND))
    text = "".join(
        character
        if character != " " and character.isprintable()
        else quote(character, safe="", errors="replace")
        for character in text
    )
    scheme = _SCHEME.match(text)
    if scheme is not None:
        text = scheme[0].lower() + text[scheme.end() :]
    elif not text:
        raise ValueError("is empty")
    else:
        text = urljoin(f"{base.rstrip('/')}/", text)
    Origin.of(text)
    return text


def check_public_address(
    address: str,
    *,
    https_only: bool = False,
    admitted: Collection[Origin] = (),
    admitted_suffixes: Collection[str] = (),
) -> str | None:
    """Return what is wrong with an address that a provider is to fetch, and what to do; or None.

    Nothing is resolved. ``admitted`` origins, and hosts that end in one of ``admitted_suffixes``
    (each begins with a dot), are always accepted.
    """
    fault = address_fault(
        address, https_only=https_only, admitted=admitted, admitted_suffixes=admitted_suffixes
    )
    if fault is None:
        return None
    return (
        f"the address {fault}; providers fetch public addresses only: "
        "upload the file somewhere public and give its https address"
    )


def address_fault(
    address: str,
    *,
    https_only: bool = False,
    admitted: Collection[Origin] = (),
    admitted_suffixes: Collection[str] = (),
) -> str | None:
    """Return the fault that `check_public_address` finds, as the end of "the address ..."."""
    try:
        origin = Origin.of(address)
    except ValueError as error:
        return str(error)
    if origin in admitted or origin.host.endswith(tuple(admitted_suffixes)):
        return None
    if https_only and origin.scheme != "https":
        return "is not https"
    if ":" in origin.host or _NUMERIC_LABEL.fullmatch(origin.host):
        return None if is_public_ip(origin.host) else "is not public"
    return "is not public" if _PRIVATE_NAME.fullmatch(origin.host) else None


def is_public_ip(ip: str) -> bool:
    """Tell whether ``ip`` is a public unicast address; False if it is not an IP address."""
    try:
        parsed = ipaddress.ip_address(ip)
    except ValueError:
        return False
    if isinstance(parsed, ipaddress.IPv6Address):
        if parsed.ipv4_mapped is not None or parsed in _NAT64:
            return is_public_ip(str(ipaddress.IPv4Address(int(parsed) & _LOW_32_BITS)))
        if parsed not in _GLOBAL_UNICAST:
            return False
    return (
        parsed.is_global
        and not parsed.is_multicast
        and not any(parsed in network for network in _NETWORKS_BESIDES_IS_GLOBAL)
    )


def is_loopback_ip(ip: str) -> bool:
    """Tell whether ``ip`` is a loopback address."""
    try:
        return ipaddress.ip_address(ip).is_loopback
    except ValueError:
        return False


def is_loopback_host(host: str) -> bool:
    """Tell whether a host name or address is loopback."""
    return host == "localhost" or is_loopback_ip(host)


def _host(host: str) -> str:
    if host.startswith("["):
        try:
            parsed = ipaddress.IPv6Address(host[1:-1])
        except ValueError:
            raise ValueError("has a host that is no IPv6 address") from None
        if parsed.scope_id is not None:
            raise ValueError("names a network interface of this machine")
        return host[1:-1]
    if _NUMERIC_LABEL.fullmatch(host):
        try:
            return str(ipaddress.IPv4Address(host))
        except ValueError:
            raise ValueError(
                "spells an IPv4 address unusually: write four decimal numbers"
            ) from None
    if not _NAME.fullmatch(host):
        raise ValueError(
            "has a host that is not plain ASCII letters, digits, dots and hyphens "
            "(international names are written xn--...)"
        )
    return host


_ADDRESS = re.compile(r"\bhttps?://\S+", re.IGNORECASE)


def unsigned(value: JsonValue) -> JsonValue:
    """Return a value whose addresses have no user, query or fragment: nothing that may be secret."""
    if isinstance(value, str):
        return _ADDRESS.sub(lambda match: _bare(match[0]), value)
    if isinstance(value, list):
        return [unsigned(inner) for inner in value]
    if isinstance(value, dict):
        return {key: unsigned(inner) for key, inner in value.items()}
    return value


def _bare(address: str) -> str:
    try:
        parts = urlsplit(address)
    except ValueError:
        return "[address]"
    host = parts.netloc.rpartition("@")[2]
    return f"{parts.scheme}://{host}{parts.path}"
