"""The outcome of a request that changes or costs something.

`judge` is the only rule about what may be sent again: only a request that certainly never arrived
or was certainly refused. A 5xx or a broken connection after sending means that the outcome is
unknown, unless the provider's module declares that status a refusal.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import TYPE_CHECKING, TypeAlias

from darkroom.core.errors import (
    STATUS_CODES,
    Code,
    ErrorBody,
    Failure,
    clean,
    failure,
    read_error_body,
)
from darkroom.core.foreign import identifier
from darkroom.providers.client.http import (
    LONGEST_RETRY_AFTER_SECONDS,
    LostError,
    NotSentError,
    retry_after,
)
from darkroom.providers.messages import UNREADABLE

if TYPE_CHECKING:
    from collections.abc import Mapping

    from darkroom.core.json_types import JsonObject
    from darkroom.providers.messages import Acceptance, Response
    from darkroom.providers.provider import Provider

TOO_MANY_REQUESTS = 429
RATE_WORDS = "too many requests"
"""What a message about a rate begins with."""

LONGEST_ID = 200
"""Maximum length of a provider's job id, the same as for the ``job_id`` of a check."""

REQUEST_ID_HEADERS = ("x-request-id", "request-id", "x-amzn-requestid", "cf-ray")

NOTHING_ELSE: Mapping[int, Code] = MappingProxyType({})

BLOCKED: frozenset[Code] = frozenset({"blocked_by_safety", "blocked_by_policy"})


@dataclass(frozen=True, slots=True)
class Accepted:
    """The provider accepted it; ``provider_id`` is the provider's id (None: it gives none)."""

    provider_id: str | None
    response: Response
    acceptance: Acceptance | None = None
    """What the response says more, if a job was accepted."""


@dataclass(frozen=True, slots=True)
class Refused:
    """The provider certainly refused it."""

    failure: Failure


@dataclass(frozen=True, slots=True)
class Later:
    """The provider certainly refused it for now; the same request may succeed later."""

    failure: Failure
    seconds: float | None
    """Seconds to wait as the provider asked; None if it did not say."""

    key_replaced: bool = False
    """The key that it was sent with has been replaced; with the new one this is no further try."""


@dataclass(frozen=True, slots=True)
class NeverLeft:
    """The request certainly did not arrive."""

    failure: Failure


@dataclass(frozen=True, slots=True)
class Unknown:
    """It is not known whether it was accepted; ``evidence`` is what is known."""

    failure: Failure
    evidence: JsonObject


Outcome: TypeAlias = Accepted | Refused | Later | NeverLeft | Unknown


def describe(
    provider: Provider, response: Response, statuses: Mapping[int, Code] = NOTHING_ELSE
) -> Failure:
    """Return the failure for a response that is not a success, with the provider's own text.

    ``statuses`` are those with another meaning for this operation than for the provider.
    """
    said = error_of(provider, response)
    wait = retry_after(response.headers, response.received_at)
    if wait is None and said.retry_after_seconds is not None:
        wait = min(said.retry_after_seconds, LONGEST_RETRY_AFTER_SECONDS)
    elif response.status != TOO_MANY_REQUESTS and "retry-after" not in response.headers:
        wait = None  # Claid says when its window ends in every answer
    code = statuses.get(response.status) or code_of(provider, response, said)
    if code == "quota_exhausted" and is_rate(response, said):
        code = "rate_limited"
    return failure(
        code,
        provider.title,
        retry_after_seconds=wait,
        provider_code=said.code,
        provider_message=said.message,
        request_id=request_id(response),
    )


def error_of(provider: Provider, response: Response) -> ErrorBody:
    """Return what an error says, as the provider's module reads it, else as most providers say it."""
    if provider.read_error is not None:
        try:
            return provider.read_error(response)
        except UNREADABLE:
            pass
    return read_error_body(response.body)


def is_rate(response: Response, said: ErrorBody) -> bool:
    """Tell whether a 429 is about requests in a time, and no quota: it says when to come again."""
    if response.status != TOO_MANY_REQUESTS:
        return False
    return (
        "retry-after" in response.headers
        or any(name.startswith("x-ratelimit-") for name in response.headers)
        or (said.message or "").lower().startswith(RATE_WORDS)
    )


def code_of(provider: Provider, response: Response, said: ErrorBody) -> Code:
    """Return our code: from the provider's code, else from its statuses, else from the status."""
    if said.means is not None:
        return said.means
    if said.code is not None and said.code in provider.codes:
        return provider.codes[said.code]
    if response.status in provider.statuses:
        return provider.statuses[response.status]
    if response.status in STATUS_CODES:
        return STATUS_CODES[response.status]
    return "provider_error" if response.status >= 500 else "bad_response"  # noqa: PLR2004 -- 5xx


def request_id(response: Response) -> str | None:
    """Return the id by which the provider's support finds the request."""
    said = (identifier(response.headers.get(header)) for header in REQUEST_ID_HEADERS)
    return next(filter(None, said), None)


def unknown(provider: Provider, what: str, response: Response | None = None) -> Unknown:
    """Return the outcome of a request of which it is not known whether it was accepted."""
    evidence: JsonObject = {"what_happened": what}
    if response is not None:
        evidence["http_status"] = response.status
        if said := clean(error_of(provider, response).message):
            evidence["provider_message"] = said
        if found := request_id(response):
            evidence["request_id"] = found
    return Unknown(failure("outcome_unknown", provider.title), evidence)


def not_sent(provider: Provider, error: NotSentError) -> Failure:
    """Return the failure for a request that was not sent."""
    if error.code == "provider_unavailable":
        return failure(error.code, provider.title)
    return Failure(
        code=error.code,
        message=f"{provider.title}: {error.reason}; nothing was sent",
        next_step="ask the person to correct it and to start this server again; "
        f"{provider.credentials[0].variable} and {provider.base_url_variable} set key and address"
        if error.code == "not_configured"
        else "tell the person",
    )


def _came(response: Response) -> str:
    """Return what came in place of an id, for the person: short and cleaned, without addresses."""
    return clean(json.dumps(response.body, ensure_ascii=False))


def _usable(provider_id: str) -> bool:
    """Tell whether an id can be used in a path and be shown."""
    return len(provider_id) <= LONGEST_ID and provider_id.isprintable()


def judge(
    provider: Provider,
    response: Response | NotSentError | LostError,
    *,
    provider_id: str | None = None,
    needs_id: bool,
    also_accepts: frozenset[int] = frozenset(),
) -> Outcome:
    """Return the outcome of a request, from its response or from the error instead of one.

    ``provider_id`` is the id in the response, if any; ``needs_id``: a success without an id is not
    understood.
    """
    if isinstance(response, NotSentError):
        error = not_sent(provider, response)
        return NeverLeft(error) if error.retryable else Refused(error)
    if isinstance(response, LostError):
        return unknown(provider, response.reason)
    if provider_id is not None and not _usable(provider_id):
        provider_id = None
    if response.ok or response.status in also_accepts:
        if provider_id is not None or not needs_id:
            return Accepted(provider_id, response)
        if response.ok:
            nothing = unknown(provider, "bad_response: a success without a usable id", response)
            return replace(nothing, evidence={**nothing.evidence, "answer": _came(response)})
    if response.status == TOO_MANY_REQUESTS:
        error = describe(provider, response)
        if error.code == "rate_limited":
            return Later(error, error.retry_after_seconds)
        return Refused(error)
    if response.status in provider.refusals:
        return Refused(describe(provider, response))
    return unknown(provider, f"the answer was status {response.status}", response)
