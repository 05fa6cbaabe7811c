"""The declaration of a provider: address, credentials, limits and operations."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from darkroom.core.errors import Code, ErrorBody
from darkroom.providers.values import Unit

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from pydantic import SecretStr

    from darkroom.core.json_types import JsonObject
    from darkroom.providers.messages import (
        Response,
    )
    from darkroom.providers.operations import Operation
    from darkroom.providers.settings import ProviderSettings


@dataclass(frozen=True, slots=True, kw_only=True)
class Credential:
    """Where a credential comes from and how it is sent.

    ``variable`` is read from the environment, or from the file that ``variable_FILE`` names.
    ``modes`` maps the prefix of a key to its mode (``live``, ``test``). In a mode of
    ``free_modes`` nothing costs anything, as the provider's page says.
    """

    variable: str
    header: str = "Authorization"
    scheme: str = "Bearer"
    modes: Mapping[str, str] = field(default_factory=dict[str, str])
    free_modes: frozenset[str] = frozenset()

    def headers(self, secret: SecretStr) -> dict[str, str]:
        """Return the header that authorises a request."""
        value = secret.get_secret_value()
        return {self.header: f"{self.scheme} {value}" if self.scheme else value}


MINUTE_SECONDS = 60.0


@dataclass(frozen=True, slots=True)
class Rate:
    """At most ``requests`` in any window of ``seconds``."""

    requests: int
    seconds: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """What a provider allows for one credential; requests beyond these limits wait here."""

    rates: tuple[Rate, ...] = ()
    concurrent_jobs: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Allowance:
    """Tells an exhausted allowance from too many requests, if one status means both.

    ``exhausted(response, operation)`` reads the response to ``GET path``.
    """

    path: str
    exhausted: Callable[[Response, str], bool]
    left: Callable[[Response, str], int] | None = None
    """``(response, operation)`` -> how many more jobs the allowance covers."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Suspension:
    """When a provider suspends a key: too many of the last attempts were rejected.

    That is, of the attempts in the last ``window_seconds`` at least ``least`` were made and more than
    ``share`` of them rejected. The key is dead for ``suspended_seconds`` then.
    """

    share: float
    least: int
    window_seconds: float
    suspended_seconds: float


@dataclass(frozen=True, slots=True, kw_only=True)
class PolicyVerdict:
    """What a policy decides about a text.

    ``text`` is sent instead of the original; ``note`` is the warning about that.
    """

    allowed: bool
    text: str | None = None
    rules: tuple[str, ...] = ()
    note: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Policy:
    """How a provider checks a text before it is sent elsewhere: the call, and how to read it."""

    operation: str
    arguments: Callable[[str], JsonObject]
    verdict: Callable[[JsonObject], PolicyVerdict]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Provider:
    """One provider: address, credentials, limits and operations.

    ``refusals`` are the statuses that, by the provider's page, certainly mean that a request was
    refused. 429 is always one of them; a 5xx is one only if it is listed here, with its source.
    ``codes`` maps the provider's error codes to ours; ``statuses`` maps statuses to our codes if
    they differ from `errors.STATUS_CODES`. ``limits`` may depend on the settings (a tier). If there
    are several credentials, ``credentials`` begins with the least powerful.
    """

    name: str
    title: str
    documentation: str
    base_url: str
    base_url_variable: str
    credentials: tuple[Credential, ...]
    operations: tuple[Operation, ...]
    settings: type[ProviderSettings]
    limits: Callable[[Any], Limits]
    refusals: frozenset[int]
    codes: Mapping[str, Code] = field(default_factory=dict[str, Code])
    statuses: Mapping[int, Code] = field(default_factory=dict[int, Code])
    allowance: Allowance | None = None
    suspension: Suspension | None = None
    units: tuple[Unit, ...] = ()
    """What the provider counts, for caps and prices."""

    prices: Mapping[Unit, float] = field(default_factory=dict[Unit, float])
    """Documented price of one unit, in US dollars."""

    enums: Callable[[Any], Mapping[str, Mapping[str, Sequence[str]]]] | None = None
    """Values of arguments that come from the settings: operation -> argument -> values."""

    base_url_suffix: str | None = None
    """Removed from the end of a base address, if it is there."""

    path_prefix: Callable[[Any], str] | None = None
    """The prefix of every path, from the settings, for example ``/v1-beta1``."""

    variables: Mapping[str, str] = field(default_factory=dict[str, str])
    """Further environment variables, which hold no secrets -> the setting that each sets."""

    policy: Policy | None = None
    """How this provider checks texts, if it can be named in `[guard] provider`."""

    hosts: tuple[str, ...] = ()
    """Hosts beside the base address that an answer may name for the next request, which carries the
    credential; ``*.example.com`` stands for all below. A base address that is loopback, or of the
    sandbox, stands for all of them."""

    read_error: Callable[[Response], ErrorBody] | None = None
    """Reads an error that `read_error_body` does not understand."""

    probe: str | None = None
    """Name of the cheapest read-only operation; `darkroom doctor` tries the key with it."""

    def limits_with(self, settings: ProviderSettings) -> Limits:
        """Return what the account allows: the documented limits, and what the settings say instead.

        A window shorter than a minute grows with the minute, never shrinks.
        """
        documented, rpm = self.limits(settings), settings.requests_per_minute
        rates, concurrent = documented.rates, documented.concurrent_jobs
        if rpm is not None:
            shorter = (
                Rate(
                    max(rate.requests, math.ceil(rpm * rate.seconds / MINUTE_SECONDS)), rate.seconds
                )
                for rate in rates
                if rate.seconds < MINUTE_SECONDS
            )
            rates = (Rate(rpm, MINUTE_SECONDS), *shorter)
        if settings.concurrent_jobs is not None:
            concurrent = settings.concurrent_jobs
        return Limits(rates=rates, concurrent_jobs=concurrent)

    def operation(self, name: str) -> Operation:
        """Return the operation with this name."""
        return next(operation for operation in self.operations if operation.name == name)
