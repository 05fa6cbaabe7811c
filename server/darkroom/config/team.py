"""Settings of a server that a team shares."""

from __future__ import annotations

from typing import Annotated
from urllib.parse import urlsplit

from pydantic import AfterValidator, Field
from pydantic_core import PydanticCustomError

from darkroom.providers.settings import Section

LOOPBACK = frozenset({"localhost", "127.0.0.1", "::1"})


def _address(text: str) -> str:
    """Check an address that people or their clients are sent to: https, or http on loopback."""
    try:
        parts = urlsplit(text)
        host, _ = parts.hostname, parts.port
    except ValueError:
        host = None
    else:
        secure = parts.scheme == "https" or (parts.scheme == "http" and host in LOOPBACK)
        plain = not (parts.query or parts.fragment or parts.username or parts.password)
        if host and secure and plain and text.isascii() and text.isprintable():
            return text
    raise PydanticCustomError("address", "expected an address that begins with https://")


def _without_path(text: str) -> str:
    if urlsplit(text).path not in {"", "/"}:
        raise PydanticCustomError("address", "expected an address without a path")
    return text.rstrip("/")


IssuerAddress = Annotated[str, AfterValidator(_address)]
PublicAddress = Annotated[str, AfterValidator(_address), AfterValidator(_without_path)]


class TeamSection(Section):
    """Several people on one server over HTTP, who sign in at an OpenID issuer."""

    issuer: IssuerAddress | None = Field(
        default=None,
        description="Address of the OpenID issuer whose tokens are taken, as it calls itself. "
        "Without it: one person, and the token of [http] token_file.",
    )
    audiences: tuple[str, ...] = Field(
        default=(),
        description="What a token's audience may be. Default: [http] public_url with /mcp.",
    )
    scopes: tuple[str, ...] = Field(default=(), description="Scopes that a token must have.")
    admin_claim: str | None = Field(
        default=None,
        description="Claim that makes somebody an administrator; a dot leads into an object "
        "(realm_access.roles). Without it: nobody is.",
    )
    admin_values: tuple[str, ...] = Field(
        default=(), description="Values of that claim that mean an administrator."
    )
