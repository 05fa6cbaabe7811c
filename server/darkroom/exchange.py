"""What goes out to a provider and what comes back, in shapes that no transport knows."""

from __future__ import annotations

from dataclasses import dataclass, field
from string import Formatter
from typing import TYPE_CHECKING, Literal
from urllib.parse import quote

if TYPE_CHECKING:
    from collections.abc import Mapping

    from darkroom.errors import Failure, JsonObject, JsonValue
    from darkroom.jobs.model import Cost, Output, Progress, Status
    from darkroom.operation import Call, Job
    from darkroom.params import Params
    from darkroom.settings import ProviderSettings

Method = Literal["GET", "POST", "DELETE"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """One request to a provider, without credentials: path relative to the base address."""

    method: Method
    path: str
    query: Mapping[str, str] = field(default_factory=dict[str, str])
    body: JsonValue = None
    headers: Mapping[str, str] = field(default_factory=dict[str, str])


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """A provider's answer, read to its end.

    ``body`` is the JSON value; text that is not JSON is a plain string, no body is None.
    Header names are lower case.
    """

    status: int
    body: JsonValue
    headers: Mapping[str, str] = field(default_factory=dict[str, str])
    received_at: float = 0.0
    """Seconds since the epoch."""

    @property
    def ok(self) -> bool:
        """Tell whether the status is 2xx."""
        return 200 <= self.status < 300  # noqa: PLR2004 -- the class of statuses

    @property
    def object(self) -> JsonObject:
        """The body as an object; an empty one where it is anything else."""
        return self.body if isinstance(self.body, dict) else {}


@dataclass(frozen=True, slots=True, kw_only=True)
class State:
    """What a provider says of a job, in our words; the same from a poll, a list or a webhook."""

    status: Status
    provider_status: str | None = None
    outputs: tuple[Output, ...] = ()
    cost: Cost | None = None
    failure: Failure | None = None
    progress: Progress | None = None
    warnings: tuple[str, ...] = ()


class UnreadableError(Exception):
    """A reader raises this for an answer that it cannot understand; the text says what was wrong.

    ``ended`` is what the answer says if nothing better comes: the job is over, its result is
    missing. It is taken in once the provider has said so several times.
    """

    def __init__(self, text: str, *, ended: State | None = None) -> None:
        super().__init__(text)
        self.ended = ended


UNREADABLE = (UnreadableError, KeyError, TypeError, ValueError, AttributeError)
"""What readers raise for an answer that they do not understand."""


def build_request(operation: Call | Job, params: Params, settings: ProviderSettings) -> Request:
    """Build the request that an operation sends for valid arguments.

    Arguments named in the path go there; the others into the query of a GET or DELETE and into
    the JSON body of a POST, which has none only where nothing was given. ``idempotency_key`` is
    ours and never leaves.
    """
    if operation.prepare is not None:
        return operation.prepare(params, settings)
    given = params.model_dump(mode="json", exclude_none=True, exclude={"idempotency_key"})
    inside = {name for _, name, _, _ in Formatter().parse(operation.path) if name}
    path = operation.path.format(
        **{name: quote(str(given[name]), safe="") for name in inside if name in given}
    )
    rest: JsonObject = {name: value for name, value in given.items() if name not in inside}
    if operation.method == "POST":
        return Request(method="POST", path=path, body=rest if given else None)
    query = {name: _query(value) for name, value in rest.items()}
    return Request(method=operation.method, path=path, query=query)


def _query(value: JsonValue) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)
