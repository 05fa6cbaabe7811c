"""Which proxy a request goes through: ``HTTPS_PROXY``, ``HTTP_PROXY``, ``ALL_PROXY``, ``NO_PROXY``.

Each name may also be written in small letters, which then wins, as curl has it. Proxies never apply
to loopback addresses.
"""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from darkroom.core.errors import DarkroomError

if TYPE_CHECKING:
    from collections.abc import Mapping

SCHEMES = frozenset({"http", "https"})
_DEFAULT_PORTS = {"http": 80, "https": 443}


class ProxyVariableError(DarkroomError):
    """A variable names no proxy that can be used."""


@dataclass(frozen=True, slots=True)
class Proxy:
    """A proxy; its address may hold a password, which only `url` has."""

    url: str
    variable: str

    @property
    def shown(self) -> str:
        """The address without user and password."""
        parts = urlsplit(self.url)
        host = f"[{parts.hostname}]" if ":" in (parts.hostname or "") else parts.hostname
        return f"{parts.scheme}://{host}" + (f":{parts.port}" if parts.port else "")

    def __repr__(self) -> str:
        return f"Proxy({self.shown})"


def proxy_for(address: str, environment: Mapping[str, str]) -> Proxy | None:
    """Return the proxy for requests to an address; None: they go there directly.

    Raises
    ------
    ProxyVariableError: a proxy is named that cannot be used.
    """
    try:
        parts = urlsplit(address)
        host, scheme = (parts.hostname or "").rstrip("."), parts.scheme.lower()
        port = parts.port or _DEFAULT_PORTS.get(scheme)
    except ValueError:  # whoever sends to it says what is wrong with it
        return None
    if _is_loopback(host):
        return None
    found = _read(environment, f"{scheme}_proxy") or _read(environment, "all_proxy")
    if found is None:
        return None
    without = _read(environment, "no_proxy")
    if without is not None and any(
        _matches(host, port, each) for each in without[0].replace(",", " ").split()
    ):
        return None
    value, variable = found
    url = value if "://" in value else f"http://{value}"
    try:
        proxy = urlsplit(url)
        usable = proxy.scheme.lower() in SCHEMES and proxy.hostname and proxy.port != 0
    except ValueError:
        usable = False
    if not usable:
        raise ProxyVariableError(f"{variable} names no http or https proxy")
    return Proxy(url, variable)


def _read(environment: Mapping[str, str], name: str) -> tuple[str, str] | None:
    for variable in (name, name.upper()):
        if value := environment.get(variable, "").strip():
            return value, variable
    return None


def _is_loopback(host: str) -> bool:
    if host == "localhost" or host.endswith(".localhost"):
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _matches(host: str, port: int | None, pattern: str) -> bool:
    """Tell whether an entry of ``NO_PROXY`` is meant for a host: a name, a network, or ``*``."""
    if pattern == "*":
        return True
    try:
        network = ipaddress.ip_network(pattern.strip("[]"), strict=False)
    except ValueError:
        pass
    else:
        try:
            return ipaddress.ip_address(host) in network
        except ValueError:
            return False
    name, _, only = pattern.rpartition(":")
    if name and only.isdigit():
        if int(only) != port:
            return False
        pattern = name
    domain = pattern.lower().removeprefix("*").strip(".")
    return bool(domain) and (host == domain or host.endswith(f".{domain}"))
