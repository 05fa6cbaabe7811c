"""The errors that this program raises, their codes and their messages.

DarkroomError
├── ConfigurationError      the command cannot start: names file, key and what was expected
├── CallError               a call or a job ends with an error: a code, a message, a next step
│   ├── JournalError        the journal cannot be read or written
│   └── CapReached          jobs.spending: a cost would pass a cap
├── Stale                   a compare-and-set write found a newer version of its row
├── FetchError              an address could not be downloaded, or is not allowed
├── NotSentError            providers.client.http: a request certainly never arrived
├── LostError               providers.client.http: a request left, and no whole answer came
├── ProxyVariableError      providers.client.proxies: a variable names no proxy
├── NoKeyError              jobs.context: there is no key now; the job waits for one
├── NoShareError            jobs.store: a day or a month has no room for one more job
├── WithdrawnError          jobs.start_outcomes: a job was cancelled before its request left
├── _AnsweredError          engine.approvals: another process has answered the question
├── _FasterError            engine.batches.changes: somebody else has changed the job
├── NotKeptError            results.integrity: a file is no longer what was downloaded
├── NoPictureError          results.problems: a file is no picture that can be shown
├── RefusedFileError        results.intake: a local file may not or cannot be sent
├── InputNeededError        mcp.elicitation: the host has to ask the person first
├── TokenError              mcp.http.sign_in: a token is not good
└── IssuerUnreachableError  mcp.http.sign_in: the issuer's keys cannot be fetched

`UnreadableError` (providers.messages) is what readers of answers raise, beside the built-in errors.

Tools do not catch exceptions. The model reads `CallError.text`; every other exception becomes an
``internal_error`` in one place, `darkroom.catalogue.dispatch.ToolHandler.run`.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal, cast

from darkroom.core.foreign import hidden, identifier

if TYPE_CHECKING:
    from darkroom.core.json_types import JsonObject, JsonValue

Code = Literal[
    "invalid_argument",
    "not_configured",
    "auth_failed",
    "forbidden",
    "suspended",
    "insufficient_credits",
    "quota_exhausted",
    "rate_limited",
    "not_found",
    "conflict",
    "blocked_by_safety",
    "blocked_by_policy",
    "provider_unavailable",
    "provider_error",
    "bad_response",
    "timeout",
    "outcome_unknown",
    "spend_cap_reached",
    "declined",
    "expired",
    "input_failed",
    "internal_error",
    "journal_unavailable",
]

PROVIDER_MESSAGE_CHARACTERS = 200
"""A provider's text is shortened to this many characters before it reaches a result."""

_ADDRESS = re.compile(r"\b[a-z][a-z0-9+.-]*://\S+|\bwww\.\S+|\bdata:\S+", re.IGNORECASE)

STATUS_CODES: dict[int, Code] = {
    400: "invalid_argument",
    401: "auth_failed",
    402: "insufficient_credits",
    403: "forbidden",
    404: "not_found",
    409: "conflict",
    422: "invalid_argument",
    429: "rate_limited",
    451: "blocked_by_safety",
}
"""Our code for a status, if the provider's own error code does not decide."""

_RETRYABLE: frozenset[Code] = frozenset(
    {"rate_limited", "provider_unavailable", "provider_error", "timeout", "bad_response"}
)

_MESSAGES: dict[Code, str] = {
    "invalid_argument": "{provider} refused the arguments",
    "auth_failed": "{provider} did not accept the key",
    "forbidden": "{provider} does not allow this with the key in use",
    "suspended": "{provider} has suspended the account or key",
    "insufficient_credits": "the {provider} account has no credits left",
    "quota_exhausted": "the {provider} allowance is used up",
    "rate_limited": "{provider} is receiving too many requests with this key",
    "not_found": "{provider} does not know it, or it belongs to somebody else",
    "conflict": "{provider} says that the state does not allow this now",
    "blocked_by_safety": "{provider}'s safety check refused the request",
    "provider_unavailable": "{provider} could not be reached",
    "provider_error": "{provider} failed",
    "bad_response": "{provider} answered something that cannot be understood",
    "timeout": "{provider} did not answer in time",
    "outcome_unknown": "the request was sent, but it is not known whether {provider} accepted it",
}

_NEXT_STEPS: dict[Code, str] = {
    "invalid_argument": "correct the arguments and call again",
    "auth_failed": "ask the person to check the key in the environment; get_setup names it",
    "forbidden": "ask the person which permissions the key has",
    "suspended": "stop calling this provider and tell the person; more calls prolong it",
    "insufficient_credits": "tell the person to top up the account",
    "quota_exhausted": "tell the person; calling again will not help before the allowance renews",
    "rate_limited": "call again later",
    "not_found": "check the id; list_jobs shows the jobs known here",
    "conflict": "check the state first",
    "blocked_by_safety": "change the prompt or picture; repeating it can suspend the key",
    "provider_unavailable": "call again in a minute",
    "provider_error": "call again in a minute",
    "bad_response": "call again in a minute; if it happens again, tell the person",
    "timeout": "call again in a minute",
    "outcome_unknown": "do not start it again: ask the person to look at the provider's own page, "
    "then settle it with resolve_job",
}


class DarkroomError(Exception):
    """Base of all errors that are raised on purpose."""


class ConfigurationError(DarkroomError):
    """The configuration is wrong; the message names file, key and what was expected."""


class Stale(DarkroomError):  # noqa: N818 -- a version conflict, not a failure
    """A compare-and-set write found a newer version of its row: read the row again."""


class FetchError(DarkroomError):
    """An address could not be downloaded. ``reason`` is our own text and does not contain it."""

    def __init__(self, reason: str, *, code: Code = "provider_error", dead: bool = False) -> None:
        super().__init__(reason)
        self.reason = reason
        self.code: Code = code
        self.dead = dead
        """The address no longer works (403, 404, 410): the provider may give out a new one."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Failure:
    """Why a call or a job failed, as it stands in results and in the journal."""

    code: Code
    message: str
    next_step: str
    retryable: bool = False
    retry_after_seconds: float | None = None
    provider_code: str | None = None
    provider_message: str | None = None
    request_id: str | None = None

    def to_json(self) -> JsonObject:
        """Return the fields that are present."""
        fields: JsonObject = {
            "code": self.code,
            "message": self.message,
            "retryable": self.retryable,
            "retry_after_seconds": self.retry_after_seconds,
            "next_step": self.next_step,
            "provider_code": self.provider_code,
            "provider_message": self.provider_message,
            "request_id": self.request_id,
        }
        return {key: value for key, value in fields.items() if value is not None}

    @classmethod
    def from_json(cls, fields: JsonObject) -> Failure:
        """Read what `to_json` wrote."""
        return cls(**cast("dict[str, str]", fields))  # pyright: ignore[reportArgumentType] -- our own journal

    @property
    def text(self) -> str:
        """The whole error as text for the model, because hosts drop the structured part."""
        parts = [f"[{self.code}] {self.message}"]
        if self.retry_after_seconds is not None:
            parts.append(f"trying again helps after {self.retry_after_seconds:.0f} s")
        else:
            parts.append(
                "trying again may help" if self.retryable else "trying again does not help"
            )
        parts.append(f"next: {self.next_step}")
        # the provider's words stand last and as JSON, so that none of them can be taken for ours
        if request_id := identifier(self.request_id):
            parts.append(f"request id {request_id}")
        text = " ".join(part if part.endswith(("?", "!", ".")) else f"{part}." for part in parts)
        code = identifier(self.provider_code)
        if self.provider_message or code:
            quoted = json.dumps(self.provider_message or "", ensure_ascii=False)
            text += f" provider said: {quoted}{f' ({code})' if code else ''}"
        return text


class CallError(DarkroomError):
    """Ends a tool call; ``failure`` says why."""

    def __init__(self, failure: Failure) -> None:
        super().__init__(failure.code)
        self.failure = failure

    @property
    def text(self) -> str:
        """The text of the tool error."""
        return self.failure.text


class JournalError(CallError):
    """The journal cannot be read or written now: disk full, locked, read-only, damaged.

    The call that needed the journal ends with it. What has happened already must be recorded all
    the same: `JobContext.record` catches this error and writes later.
    """

    def __init__(self, message: str) -> None:
        super().__init__(
            Failure(
                code="journal_unavailable",
                message=message,
                next_step="call again in a minute; if it stays so, ask the person to look at the "
                "state folder of this server",
                retryable=True,
            )
        )

    def __str__(self) -> str:
        return self.failure.message


def call_error(
    code: Code, message: str, next_step: str, *, retryable: bool | None = None
) -> CallError:
    """Return a CallError with our own message."""
    return CallError(
        Failure(
            code=code,
            message=message,
            next_step=next_step,
            retryable=code in _RETRYABLE if retryable is None else retryable,
        )
    )


def failure(
    code: Code,
    provider: str,
    *,
    next_step: str | None = None,
    retry_after_seconds: float | None = None,
    provider_code: str | None = None,
    provider_message: str | None = None,
    request_id: str | None = None,
) -> Failure:
    """Return a failure with our message for ``code``; the provider's own text is kept beside it."""
    return Failure(
        code=code,
        message=_MESSAGES.get(code, "{provider}: " + code).format(provider=provider),
        next_step=next_step or _NEXT_STEPS.get(code, "tell the person"),
        retryable=code in _RETRYABLE,
        retry_after_seconds=retry_after_seconds,
        provider_code=identifier(provider_code),
        provider_message=clean(provider_message) or None,
        request_id=identifier(request_id),
    )


def with_next_step(error: Failure, next_step: str) -> Failure:
    """Return the same failure with another next step."""
    return replace(error, next_step=next_step)


def unknown_job(job_id: str) -> CallError:
    """Return the error for an id that nothing here has: another person's job is told the same."""
    return call_error(
        "not_found",
        f"there is no job {job_id}",
        "list_jobs shows the jobs known here; ended ones are forgotten after a time",
    )


def clean(text: str | None) -> str:
    """Reduce a provider's text to quoted data.

    Control, bidirectional, zero-width and surrogate characters and addresses are removed, white
    space is folded, and no more than `PROVIDER_MESSAGE_CHARACTERS` remain.
    """
    if not text:
        return ""
    text = text[: PROVIDER_MESSAGE_CHARACTERS * 20]
    text = "".join(
        " " if character.isspace() else character
        for character in text
        if character.isspace() or not hidden(character)
    )
    text = " ".join(_ADDRESS.sub("[address]", text).split())
    if len(text) > PROVIDER_MESSAGE_CHARACTERS:
        text = text[: PROVIDER_MESSAGE_CHARACTERS - 1] + "…"
    return text


@dataclass(frozen=True, slots=True)
class ErrorBody:
    """What a provider's error body says.

    ``means`` is our code, where neither its code nor the status says what it means.
    """

    code: str | None
    message: str | None
    means: Code | None = None
    retry_after_seconds: float | None = None


def read_error_body(body: JsonValue) -> ErrorBody:
    """Read the error shapes that recur among providers.

    ``{error: {code, type, message}}`` · ``{error: "..."}`` · ``{error: code, message}`` ·
    ``{error_code, error_message}`` · ``{detail: {error_code, ...}}`` · ``{detail: {error, message}}``
    · ``{detail: "...", error_type}`` · ``{detail: [{loc, msg, type}]}`` · ``{code, message}``;
    anything else, text and HTML included, is its own message. ``retry_after`` counts in each.
    A code that is a sentence is the message where there is no other.
    """
    said = _read_error_body(body)
    if said.code is not None and identifier(said.code) is None:
        said = ErrorBody(None, said.message or said.code)
    wait = body.get("retry_after") if isinstance(body, dict) else None
    if isinstance(wait, int | float) and not isinstance(wait, bool) and wait >= 0:
        return replace(said, retry_after_seconds=float(wait))
    return said


def _read_error_body(body: JsonValue) -> ErrorBody:
    if isinstance(body, str):
        return ErrorBody(None, body)
    if isinstance(body, list):
        return ErrorBody(None, _validation_messages(body))
    if not isinstance(body, dict):
        return ErrorBody(None, None)
    if "error_code" in body:
        return ErrorBody(_text(body["error_code"]), _text(body.get("error_message")))
    for key in ("detail", "error"):
        inner = body.get(key)
        if isinstance(inner, dict):
            named = (inner.get(name) for name in ("code", "error_code", "error", "type"))
            code = next((value for value in named if value is not None), None)
            return ErrorBody(_text(code), _text(inner.get("message", inner.get("error_message"))))
        if isinstance(inner, list):
            return ErrorBody(None, _validation_messages(inner))
        if isinstance(inner, str):
            beside = _text(body.get("message"))
            if key == "error" and beside is not None:
                return ErrorBody(inner, beside)
            return ErrorBody(_text(body.get("error_type")), inner)
    return ErrorBody(_text(body.get("code")), _text(body.get("message")))


def _validation_messages(entries: list[JsonValue]) -> str:
    said: list[str] = []
    for entry in entries[:10]:
        if isinstance(entry, dict):
            where = entry.get("loc")
            path = ".".join(str(part) for part in where) if isinstance(where, list) else ""
            said.append(f"{path}: {_text(entry.get('msg')) or 'invalid'}".lstrip(": "))
    return "; ".join(said)


def _text(value: JsonValue) -> str | None:
    if value is None:
        return None
    return value if isinstance(value, str) else json.dumps(value)[:PROVIDER_MESSAGE_CHARACTERS]
