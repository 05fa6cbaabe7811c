"""The kinds of operations that a provider module declares.

    CallOperation     is answered at once                       zsky_get_usage
    JobOperation      starts a job whose state is then read     zsky_start_image
    FanOutOperation   a JobOperation of many requests           zyng_start_images
    CheckOperation    reads the state of a job                  zsky_check_job

The arguments are models of `darkroom.providers.params`; requests and responses are classes of
`darkroom.providers.messages`. Pacing, repeating, waiting, journaling and redaction are not
declared: the engine does them the same way for all providers.

Declarations are compared by identity (``eq=False``): there is only one of each, and generating
comparison methods would make every start of the server slower.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal, TypeAlias
from urllib.parse import quote

from darkroom.core.errors import Code
from darkroom.core.foreign import MOST_CHARACTERS
from darkroom.providers.messages import (
    Acceptance,
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
    """How many jobs of an operation a provider accepts; None: no limit.

    Jobs beyond ``daily`` wait for the next UTC day. Jobs beyond ``monthly`` are refused, or, with
    ``overage``, started and charged for.
    """

    daily: int | None = None
    monthly: int | None = None
    overage: bool = False


# --- a provider --------------------------------------------------------------------------------


# --- operations --------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class Hints:
    """The four annotation hints of MCP; every tool states all of them."""

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
"""``(params, provider settings) -> mistakes`` that a schema cannot express."""

Bind: TypeAlias = "Callable[[Any, Any, JsonObject], Params]"
"""``(params, provider settings, remembered) -> params``, with names replaced by their contents.

A job keeps the resolved arguments, so that a later change of the configuration does not change its
requests. ``remembered`` is what an earlier call stored (see `CallOperation.remembers`), if any.
"""

CredentialChoice: TypeAlias = "str | tuple[str, ...] | None"
"""The variable of the credential to use; of several, the first that is set. None: the only one."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Declared:
    """What every tool states about itself."""

    name: str
    title: str
    description: str
    params: type[Params]
    hints: Hints
    meta: JsonObject | None = None
    """Metadata for hosts (``_meta``), for example the interface that shows the results."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Secret:
    """A key in a response: it is written to a file and appears nowhere else.

    It is the text under ``field``, if the provider's page names one, otherwise the text that begins
    with ``prefix``, at any depth. If there is no such text, or more than one, the whole response is
    saved. With ``replaces`` the key replaces the credential in use, in the file that it was read
    from; otherwise it is written to a new file in ``[credentials] dir``.
    """

    prefix: str
    field: str | None = None
    replaces: bool = False


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class CallOperation(Declared):
    """An operation that is answered at once.

    ``path`` may name arguments in braces; the others go into the query of a GET and into the JSON
    body of a POST, unless ``prepare`` builds the request. ``repeatable``: sending it twice changes
    and costs nothing more. Any other call is an attempt in the journal and is sent at most once.
    ``asks`` is the question to the person before it is sent. ``result`` makes the model's result
    from the response; ``state`` reads what the response says about the job in ``job_id``.
    """

    method: Method = "GET"
    path: str
    credential: CredentialChoice = None
    prepare: Prepare | None = None
    check: Check_ | None = None
    bind: Bind | None = None
    address: str | None = None
    """Name of an address of the job in ``job_id`` that is called instead of ``path``."""

    repeatable: bool = True
    asks: str | None = None
    summary: Callable[[Any], str] | None = None
    """What the question adds about arguments that are no names (``params -> text``), in our words."""

    cost: Cost | None = None
    secret: Secret | None = None
    if_lost: str | None = None
    """The next step if it is not known whether the provider accepted the call."""

    withdraws: bool = False
    """If the job still waits here, it is cancelled here and the provider is not asked."""

    drops_outputs: bool = False
    """After this call the addresses of the job's outputs no longer work."""

    accepts: frozenset[int] = frozenset()
    statuses: Mapping[int, Code] = field(default_factory=dict[int, Code])
    """Statuses with another meaning than in the provider's other operations."""

    personal: bool = False
    """It shows and changes nothing that belongs to others who share the provider's account. In a
    team everybody may call it; what is not personal and is about no job of theirs, administrators."""

    conditional: bool = False
    """The response's ETag is remembered and sent next time (``accepts`` contains 304), unless the
    request says ``cache-control: no-cache``."""

    result: Callable[[Response, Any], JsonObject] | None = None
    state: Callable[[Response], State] | None = None
    most_characters: int = MOST_CHARACTERS
    """Of JSON that the model gets of the answer; what does not fit is left out, and named."""

    remembers: Callable[[Response, Any], tuple[str, JsonObject]] | None = None
    """What a later job needs of this call: the provider's id for it, and what the journal keeps."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Listing:
    """One request for the states of many jobs: ``GET path``, newest first, at most ``size``."""

    path: str
    size: int
    rows: Callable[[Response], Mapping[str, JsonObject]]
    """The listed jobs by the provider's id; each is read like the response for a single job."""


PathOf: TypeAlias = "str | Callable[[str, JsonObject], str]"
"""A path with ``{id}`` for the provider's id, or ``(id, arguments of the job) -> path``."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Source:
    """How to request something about a job: at the address that the provider gave, else ``path``.

    ``address`` is the address's name in `Acceptance.addresses`. A job that was started elsewhere
    has none, and neither has one whose address is not on a host of the provider.
    """

    path: PathOf
    address: str | None = None

    def request(
        self, provider_job_id: str, arguments: JsonObject, addresses: Mapping[str, str]
    ) -> Request:
        """Build the request for one job."""
        if self.address is not None and self.address in addresses:
            return Request(method="GET", address=addresses[self.address])
        if isinstance(self.path, str):
            path = self.path.format(id=quote(provider_job_id, safe=""))
        else:
            path = self.path(provider_job_id, arguments)
        return Request(method="GET", path=path)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class ResultSource(Source):
    """A second request, for the result of a job that its state says has ended well.

    ``read`` gets every 2xx, and other answers with a status in ``also_reads``: there the result
    itself may say that the job has failed.
    """

    read: Callable[[Response], State]
    also_reads: frozenset[int] = frozenset()


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class StateSource(Source):
    """How to request a job's state (``GET``) and to read it.

    ``also_reads`` are statuses other than 2xx whose body may be a state all the same; if ``read``
    does not understand it, the status counts.
    """

    read: Callable[[Response], State]
    also_reads: frozenset[int] = frozenset()
    listing: Listing | None = None
    """How to request many jobs at once, if the provider has a list."""

    result: ResultSource | None = None


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Lookback:
    """What to request if it is unknown whether a job was accepted; the person gets it as evidence.

    ``evidence(response, sent_at)`` reads the response to ``GET path``. Under ``candidates`` it
    returns the provider's ids of jobs that may be this one; ids that belong to other jobs here are
    removed.
    """

    path: str
    evidence: Callable[[Response, float], JsonObject]


Way: TypeAlias = Literal["address", "bytes"]
"""How a local file gets to a provider.

``address``: the provider fetches it from where the person's uploader (``[inputs] upload``) puts it;
``prepare`` gets the address, as if the caller had given it.
``bytes``: the request holds it; ``prepare`` gets a `LocalFile` in the place of the text, and puts
it into the request (base64 in JSON). An address that the caller gave arrives as plain
text in both cases, unless the argument's `Takes` refuses addresses.
"""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class JobOperation(Declared):
    """An operation that starts a job.

    ``accepted`` returns the provider's id of the job from a response (an `Acceptance` if the
    response says more), or None if no job was made; ``also_accepts`` are statuses other than 2xx in
    which such an id means acceptance.
    ``typical_seconds`` is the first estimate of the duration; ``longest_seconds`` is how long an
    unknown job keeps its slot. ``cost`` is the estimate, before the exact cost is known.
    """

    method: Method = "POST"
    path: str
    credential: CredentialChoice = None
    prepare: Prepare | None = None
    check: Check_ | None = None
    bind: Bind | None = None
    accepted: Callable[[Response], Acceptance | str | None]
    also_accepts: frozenset[int] = frozenset()
    state: StateSource
    check_tool: str
    typical_seconds: float
    longest_seconds: float
    cost: Callable[[Any, Any], Cost | None]
    files: Way = "address"
    texts: tuple[str, ...] = ()
    """Arguments that the policy checks before they are sent, as dotted paths."""

    texts_unchanged: tuple[str, ...] = ()
    """Arguments that the policy checks too, but that must be sent as they are: if it would change
    them, the call is refused. Texts, lists or objects; they are checked together, with the names of
    all members, as ``bind`` left them."""

    lookback: Lookback | None = None
    cancel: str | None = None
    """Name of the call that cancels a job of this operation at the provider."""

    label: Callable[[Any], str] | None = None
    """Returns, from the arguments, the text that result files are named after."""

    quota: Callable[[Any], Quota] | None = None
    """How many of these jobs the provider accepts per UTC day and covers per month."""

    poll_interval_seconds: float = 2.0


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class FanOutOperation(JobOperation):
    """A job of many requests: one that opens it (as a `JobOperation`), then one for each item.

    ``opened(params)`` is the provider's id if the arguments name an open request, so that none is
    opened; what is remembered of it is passed to ``bind``. ``items(params)`` are the names of the
    requests that follow, unique in the job; ``item_request(params, settings, id, item)`` builds one
    of them.

    ``item_names(item)`` and ``output_names(output)`` return equally many names, from the most exact
    to the least exact. An output belongs to the item with the same name at the same position; if
    the response for that item was lost, the output shows that it was accepted.

    ``expected(arguments)`` is the number of outputs that completes a job that was started elsewhere.
    ``deadline_seconds(settings)`` after its last request, a job ends with the outputs that it has.
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
    """A tool that reads the state of jobs that any of ``operations`` started.

    If the caller gives the provider's id of a job that was started elsewhere, the job is kept as
    one of the operation ``adopts``.
    """

    operations: tuple[str, ...]
    adopts: str
    adopted: Callable[[Any], JsonObject] | None = None
    """Returns, from the arguments of the check, those to keep for a job started elsewhere."""


Operation: TypeAlias = CallOperation | JobOperation | CheckOperation
