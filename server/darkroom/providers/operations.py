"""What a provider module is written in.

A provider module declares a `Provider` with its operations and does nothing else. There are three
kinds, and one way to look at what two of them start:

    Call      answers at once                          zsky_get_usage
    Job       submits, then has a state to read        zsky_start_image
    FanOut    a Job of many requests                   zyng_start_images
    Check     reads the state of a Job                 zsky_check_job

Arguments are models of `darkroom.providers.params`, requests and answers shapes of `darkroom.providers.messages`; both
are named here too, so that a provider module needs one import. Pacing, repeating, waiting, journaling
and redaction are not declared: they exist once, in the machine.

A declaration is equal only to itself (``eq=False``): there is one of each, and every start pays for
the methods that a dataclass generates.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypeAlias
from urllib.parse import quote

from darkroom.core.errors import Code
from darkroom.core.foreign import MOST_CHARACTERS
from darkroom.providers.messages import (
    Method,
    Request,
    Response,
    State,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from darkroom.core.json_types import JsonObject
    from darkroom.providers.params import (
        Params,
    )
    from darkroom.providers.values import Cost, Output


@dataclass(frozen=True, slots=True, kw_only=True)
class Quota:
    """How many jobs of an operation a provider takes; None: as many as there are.

    Beyond ``daily`` they wait for the next UTC day. Beyond ``monthly`` they are refused, or, with
    ``overage``, charged for.
    """

    daily: int | None = None
    monthly: int | None = None
    overage: bool = False


# --- a provider --------------------------------------------------------------------------------


# --- operations --------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class Hints:
    """The four annotation hints of MCP; all are stated on every tool."""

    read_only: bool
    destructive: bool
    idempotent: bool
    open_world: bool


READS = Hints(read_only=True, destructive=False, idempotent=True, open_world=True)
STARTS = Hints(read_only=False, destructive=False, idempotent=False, open_world=True)
CHANGES = Hints(read_only=False, destructive=False, idempotent=False, open_world=True)
DESTROYS = Hints(read_only=False, destructive=True, idempotent=True, open_world=True)
LOCAL_READS = Hints(read_only=True, destructive=False, idempotent=True, open_world=False)

Prepare: TypeAlias = "Callable[[Any, Any], Request]"
"""``(params, provider settings) -> Request``."""

Check_: TypeAlias = "Callable[[Any, Any], Iterable[str]]"
"""``(params, provider settings) -> mistakes`` that no schema can express."""

Bind: TypeAlias = "Callable[[Any, Any, JsonObject], Params]"
"""``(params, provider settings, remembered) -> params`` with all that they only name.

A job keeps its arguments bound: a configuration that changes meanwhile changes none of its
requests. ``remembered`` is what an earlier call left (see `CallOperation.remembers`), mostly nothing.
"""

CredentialChoice: TypeAlias = "str | tuple[str, ...] | None"
"""The variable of the credential to use, or several: the first that is there. None: the only one."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Declared:
    """What every tool states about itself."""

    name: str
    title: str
    description: str
    params: type[Params]
    hints: Hints
    meta: JsonObject | None = None
    """What hosts read of it beside the protocol (the interface that shows its results)."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Secret:
    """A key that an answer holds: it goes into a file, and nowhere else.

    It is the text under ``field``, if the provider's page names one, or else the text that begins
    with ``prefix``, at whatever depth. Where neither is there, or several could be meant, the
    answer is kept whole. ``replaces``: it takes the place of the credential in use, in the file
    that one came from; otherwise it gets a new file in ``[credentials] dir``.
    """

    prefix: str
    field: str | None = None
    replaces: bool = False


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class CallOperation(Declared):
    """An operation that answers at once.

    ``path`` may name arguments in braces; the others go into the query of a GET and into the JSON
    body of a POST, unless ``prepare`` builds the request. ``repeatable``: sending it twice changes
    and costs nothing more. Anything else is an attempt in the journal and leaves at most once.
    ``asks`` is what the person is asked before it is sent. ``result`` shapes the answer for the
    model; ``state`` reads what the answer says of the job named by the argument ``job_id``.
    """

    method: Method = "GET"
    path: str
    credential: CredentialChoice = None
    prepare: Prepare | None = None
    check: Check_ | None = None
    bind: Bind | None = None
    repeatable: bool = True
    asks: str | None = None
    summary: Callable[[Any], str] | None = None
    """What the question adds about arguments that are no names (``params -> text``), in our words."""

    cost: Cost | None = None
    secret: Secret | None = None
    if_lost: str | None = None
    """What to do next when nobody can tell whether it was done; in our words."""

    withdraws: bool = False
    """A job that still waits here is cancelled here; the provider is not asked."""

    drops_outputs: bool = False
    """Afterwards the addresses of the job's outputs are dead."""

    accepts: frozenset[int] = frozenset()
    statuses: Mapping[int, Code] = field(default_factory=dict[int, Code])
    """Statuses that mean something else here than elsewhere at this provider."""

    conditional: bool = False
    """The answer's ETag is remembered and sent next time (``accepts`` has 304), unless the request
    says ``cache-control: no-cache``."""

    result: Callable[[Response, Any], JsonObject] | None = None
    state: Callable[[Response], State] | None = None
    most_characters: int = MOST_CHARACTERS
    """Of JSON that the model gets of the answer; what does not fit is left out, and named."""

    remembers: Callable[[Response, Any], tuple[str, JsonObject]] | None = None
    """What a later job builds upon: the provider's id of it, and what is kept in the journal."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Listing:
    """One request that answers for many jobs: ``GET path``, newest first, ``size`` at most."""

    path: str
    size: int
    rows: Callable[[Response], Mapping[str, JsonObject]]
    """What is listed by the provider's id; each is read as the answer about that job alone."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class StateSource:
    """How to ask for a job's state (``GET path``, ``{id}`` is the provider's id), and to read it."""

    path: str
    read: Callable[[Response], State]
    listing: Listing | None = None
    """How to ask for many jobs at once, where the provider has a list."""

    def request(self, provider_job_id: str) -> Request:
        """Build the request for one job."""
        return Request(method="GET", path=self.path.format(id=quote(provider_job_id, safe="")))


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Lookback:
    """What to ask when the fate of a submission is unknown: evidence for the person, no verdict.

    ``evidence(answer, sent_at)`` reads the answer to ``GET path``. What it returns under
    ``candidates`` are the provider's ids of jobs that may be this one; those that are known here
    as other jobs are taken away.
    """

    path: str
    evidence: Callable[[Response, float], JsonObject]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class JobOperation(Declared):
    """An operation that starts a job.

    ``accepted`` returns the provider's id of the job that an answer says was made, or None;
    ``also_accepts`` are statuses beyond 2xx in which such an id means acceptance.
    ``typical_seconds`` is the first guess of how long it takes; ``longest_seconds`` is how long a
    job of unknown fate keeps its slot. ``cost`` is what it will cost, before it is known exactly.
    ``output_seconds`` is how long an output's address lives from the moment it was given out.
    """

    method: Method = "POST"
    path: str
    credential: CredentialChoice = None
    prepare: Prepare | None = None
    check: Check_ | None = None
    bind: Bind | None = None
    accepted: Callable[[Response], str | None]
    also_accepts: frozenset[int] = frozenset()
    state: StateSource
    check_tool: str
    typical_seconds: float
    longest_seconds: float
    cost: Callable[[Any, Any], Cost | None]
    texts: tuple[str, ...] = ()
    """Arguments that a policy is asked about before they are sent; dotted paths."""

    lookback: Lookback | None = None
    cancel: str | None = None
    """Name of the call that cancels such a job at the provider."""

    label: Callable[[Any], str] | None = None
    """What a file of the result is called after, given the arguments; a person reads it."""

    quota: Callable[[Any], Quota] | None = None
    """How many of these jobs the provider takes in a UTC day and covers in a month, by settings."""

    poll_interval_seconds: float = 2.0


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class FanOutOperation(JobOperation):
    """A job of many requests: one that opens it (as a `JobOperation`), then one for each item.

    ``opened(params)`` is the provider's id where the arguments already name an open request, so
    that none is opened; what is remembered of it goes to ``bind``. ``items(params)`` are the names
    of the requests that follow, unique in the job; ``item_request(params, settings, id, item)``
    builds one. ``item_names(item)`` and ``output_names(output)`` are as many names, the most exact
    first: an output belongs to the item whose name of the same rank it bears, and an item whose
    answer was lost is adopted by it. The last one is the barest. ``expected(arguments)`` is how many outputs make a job complete that was started
    elsewhere; ``deadline_seconds(settings)`` after its last request a job ends with what has come.
    """

    opened: Callable[[Any], str | None]
    items: Callable[[Any], Sequence[str]]
    item_request: Callable[[Any, Any, str, str], Request]
    expected: Callable[[JsonObject], int | None]
    item_names: Callable[[str], Sequence[str]]
    output_names: Callable[[Output], Sequence[str]]
    deadline_seconds: Callable[[Any], float]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class CheckOperation(Declared):
    """A tool that reads jobs started by any of ``operations``.

    ``adopts`` is the operation under which a job is kept that was started elsewhere, when the
    caller gives the provider's own id.
    """

    operations: tuple[str, ...]
    adopts: str
    adopted: Callable[[Any], JsonObject] | None = None
    """Arguments to keep for a job that was started elsewhere, from those of the check."""


Operation: TypeAlias = CallOperation | JobOperation | CheckOperation
