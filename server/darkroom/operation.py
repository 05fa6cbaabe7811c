"""What a provider module is written in.

A provider module declares a `Provider` with its operations and does nothing else. There are three
kinds, and one way to look at what two of them start:

    Call      answers at once                          zsky_get_usage
    Job       submits, then has a state to read        zsky_start_image
    FanOut    a Job of many requests                   zyng_start_images
    Check     reads the state of a Job                 zsky_check_job

and `Tool`, for what belongs to no provider (``list_jobs``). Pacing, repeating, waiting, journaling
and redaction are not declared: they exist once, in the machine.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from string import Formatter
from typing import TYPE_CHECKING, Annotated, Any, Literal, Protocol, TypeAlias, cast
from urllib.parse import quote

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, SecretStr, ValidationInfo
from pydantic_core import PydanticCustomError

from darkroom.addresses import Origin, check_public_address
from darkroom.errors import Code, Failure, JsonObject, JsonValue
from darkroom.jobs.model import Unit

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
    from pathlib import Path

    import httpx2

    from darkroom.approval import Person
    from darkroom.jobs.model import Cost, Output, Progress, Status
    from darkroom.machine import Machine
    from darkroom.prompts import Prompt
    from darkroom.settings import ProviderSettings

Method = Literal["GET", "POST", "DELETE"]

LONGEST_STRING = 20_000
"""Characters of an argument that states no limit of its own."""


# --- arguments ---------------------------------------------------------------------------------


class Params(BaseModel):
    """Base of all argument models: closed, strict, built when first used.

    An optional argument is written ``name: type | None = None``; ``None`` stands for "left out",
    and a caller's ``null`` is refused.
    """

    model_config = ConfigDict(
        extra="forbid",
        strict=True,
        frozen=True,
        defer_build=True,
        allow_inf_nan=False,
        str_max_length=LONGEST_STRING,
    )


class StartParams(Params):
    """Base of the arguments of every start tool."""

    idempotency_key: Annotated[str, Field(min_length=1, max_length=200)] | None = None


def _check_job_id(value: str) -> str:
    if not value.strip("."):  # as a segment of a path it would name another one
        raise PydanticCustomError("job_id", "expected a job_id, of this server or the provider")
    return value


JobId = Annotated[str, Field(min_length=1, max_length=200), AfterValidator(_check_job_id)]

MAX_WAIT_SECONDS = 40
DEFAULT_WAIT_SECONDS = 25


class JobParams(Params):
    """Arguments of a tool that acts on one job: ours or the provider's id."""

    job_id: JobId


class CheckParams(JobParams):
    """Arguments of a check tool."""

    wait_seconds: Annotated[int, Field(ge=0, le=MAX_WAIT_SECONDS)] = DEFAULT_WAIT_SECONDS
    include_url: bool = False


@dataclass(frozen=True, slots=True)
class AddressMark:
    """Marks an argument that takes an address a provider will fetch."""


REFERENCE = re.compile(r"job:([A-Za-z0-9_]{1,64})(?:#([0-9]{1,4}))?")
"""An output of an earlier job, in place of an address."""


@dataclass(slots=True)
class References:
    """The references met while arguments are validated, and the addresses that replace them."""

    seen: set[str] = field(default_factory=set[str])
    addresses: dict[str, str] = field(default_factory=dict[str, str])


def check_address(value: str, info: ValidationInfo) -> str:
    """Return an address that a provider may fetch, or a reference to one; see `Address`."""
    context = cast("Mapping[str, Any]", info.context or {})
    if value.startswith("job:"):
        if REFERENCE.fullmatch(value) is None:
            raise PydanticCustomError(
                "address", "expected job:<job_id> or job:<job_id>#<index of the output>"
            )
        references = cast("References", context.get("references", References()))
        references.seen.add(value)
        return references.addresses.get(value, value)
    admitted = cast("Admitted", context.get("admitted", Admitted()))
    mistake = check_public_address(
        value, admitted=admitted.origins, admitted_suffixes=admitted.suffixes
    )
    if mistake is not None:
        raise PydanticCustomError("address", "{mistake}", {"mistake": mistake})
    return value


@dataclass(frozen=True, slots=True)
class Admitted:
    """Addresses that are let through though they are not public: the operator's emulators."""

    origins: tuple[Origin, ...] = ()
    suffixes: tuple[str, ...] = ()


Address = Annotated[
    str, Field(min_length=1, max_length=4096), AfterValidator(check_address), AddressMark()
]
"""A public http(s) address of a picture that the provider fetches, or an output of a job."""


# --- what goes out and what comes back ---------------------------------------------------------


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
    """A reader raises this for an answer that it cannot understand; the text says what was wrong."""


UNREADABLE = (UnreadableError, KeyError, TypeError, ValueError, AttributeError)
"""What readers raise for an answer that they do not understand."""


# --- a provider --------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class Credential:
    """Where a credential comes from and how it is sent.

    ``variable`` is read from the environment, or from the file that ``variable_FILE`` names.
    ``modes`` maps a key's prefix to what it is (``live``, ``test``).
    """

    variable: str
    header: str = "Authorization"
    scheme: str = "Bearer"
    modes: Mapping[str, str] = field(default_factory=dict[str, str])

    def headers(self, secret: SecretStr) -> dict[str, str]:
        """Return the header that authorises a request."""
        value = secret.get_secret_value()
        return {self.header: f"{self.scheme} {value}" if self.scheme else value}


@dataclass(frozen=True, slots=True)
class Rate:
    """At most ``requests`` in any window of ``seconds``."""

    requests: int
    seconds: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """What a provider allows for one credential; requests beyond it wait here."""

    rates: tuple[Rate, ...] = ()
    concurrent_jobs: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Allowance:
    """Tells an exhausted allowance from too many requests where one status means both.

    ``exhausted(answer, operation)`` reads the answer to ``GET path``.
    """

    path: str
    exhausted: Callable[[Answer, str], bool]
    left: Callable[[Answer, str, Any], int | None] | None = None
    """``(answer, operation, settings)`` -> how many more the allowance covers; None: no end."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """What a policy says of a text. ``text`` is to be sent in its place; ``note`` tells of it."""

    allowed: bool
    text: str | None = None
    rules: tuple[str, ...] = ()
    note: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Policy:
    """How a provider judges a text before it is sent elsewhere: a call of its own, and its result."""

    operation: str
    arguments: Callable[[str], JsonObject]
    verdict: Callable[[JsonObject], Verdict]


@dataclass(frozen=True, slots=True, kw_only=True)
class Provider:
    """One provider: where it is, who we are there, what it allows, what it can do.

    ``refusals`` are the statuses that the provider's page lists as certain refusals of a request
    that changes something; 429 is always one, a 5xx never unless it stands here with its source.
    ``codes`` maps the provider's own error codes to ours, ``statuses`` its statuses where they
    differ from `errors.STATUS_CODES`. ``limits`` may depend on the settings (a tier). Where
    there are several credentials, ``credentials`` begins with the least powerful.
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
    units: tuple[Unit, ...] = ()
    """What the provider counts, for caps and prices."""

    prices: Mapping[Unit, float] = field(default_factory=dict[Unit, float])
    """Documented price of one unit, in US dollars."""

    enums: Callable[[Any], Mapping[str, Mapping[str, Sequence[str]]]] | None = None
    """Values that settings give to arguments: operation -> argument -> values."""

    base_url_suffix: str | None = None
    """Tolerated at the end of a base address, and removed."""

    path_prefix: Callable[[Any], str] | None = None
    """What settings put before every path: ``/v1-beta1``."""

    variables: Mapping[str, str] = field(default_factory=dict[str, str])
    """Environment variables of the provider's own that are no secrets -> the setting they give."""

    policy: Policy | None = None
    """For `[guard] provider`: how this provider judges texts."""

    probe: str | None = None
    """Name of the cheapest read-only operation, by which `darkroom doctor` tries the key."""

    def operation(self, name: str) -> Operation:
        """Return the operation with this name."""
        return next(operation for operation in self.operations if operation.name == name)


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
requests. ``remembered`` is what an earlier call left (see `Call.remembers`), mostly nothing.
"""

CredentialChoice: TypeAlias = "str | tuple[str, ...] | None"
"""The variable of the credential to use, or several: the first that is there. None: the only one."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Declared:
    """What every tool states about itself."""

    name: str
    title: str
    description: str
    params: type[Params]
    hints: Hints
    meta: JsonObject | None = None
    """What hosts read of it beside the protocol (the interface that shows its results)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Secret:
    """A key that an answer holds: it goes into a file, and nowhere else.

    ``find`` returns it from the answer; None where it is not understood, and the answer is kept
    whole. ``replaces``: it takes the place of the credential in use, in the file that one came
    from; otherwise it gets a new file in ``[credentials] dir``.
    """

    find: Callable[[Answer], str | None]
    replaces: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Call(Declared):
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

    result: Callable[[Answer, Any], JsonObject] | None = None
    state: Callable[[Answer], State] | None = None
    remembers: Callable[[Answer, Any], tuple[str, JsonObject]] | None = None
    """What a later job builds upon: the provider's id of it, and what is kept in the journal."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Listing:
    """One request that answers for many jobs: ``GET path``, newest first, ``size`` at most."""

    path: str
    size: int
    read: Callable[[Answer], Mapping[str, State]]
    """The states by the provider's id; a job that cannot be read is left out."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StateSource:
    """How to ask for a job's state (``GET path``, ``{id}`` is the provider's id), and to read it."""

    path: str
    read: Callable[[Answer], State]
    listing: Listing | None = None
    """How to ask for many jobs at once, where the provider has a list."""

    def request(self, provider_job_id: str) -> Request:
        """Build the request for one job."""
        return Request(method="GET", path=self.path.format(id=quote(provider_job_id, safe="")))


@dataclass(frozen=True, slots=True, kw_only=True)
class Lookback:
    """What to ask when the fate of a submission is unknown: evidence for the person, no verdict.

    ``evidence(answer, sent_at)`` reads the answer to ``GET path``. What it returns under
    ``candidates`` are the provider's ids of jobs that may be this one; those that are known here
    as other jobs are taken away.
    """

    path: str
    evidence: Callable[[Answer, float], JsonObject]


@dataclass(frozen=True, slots=True, kw_only=True)
class Job(Declared):
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
    accepted: Callable[[Answer], str | None]
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

    daily: Callable[[Any], int | None] | None = None
    """How many of these jobs the provider takes in one UTC day, read from the settings."""

    poll_interval_seconds: float = 2.0


@dataclass(frozen=True, slots=True, kw_only=True)
class FanOut(Job):
    """A job of many requests: one that opens it (as a `Job`), then one for each item.

    ``opened(params)`` is the provider's id where the arguments already name an open request, so
    that none is opened; what is remembered of it goes to ``bind``. ``items(params)`` are the names
    of the requests that follow, unique in the job; ``item_request(params, settings, id, item)``
    builds one. ``matches(item, output)`` tells whether an output belongs to an item: that is also
    how an item whose answer was lost is adopted. ``expected(arguments)`` is how many outputs make a job complete that was started
    elsewhere; ``deadline_seconds(settings)`` after its last request a job ends with what has come.
    """

    opened: Callable[[Any], str | None]
    items: Callable[[Any], Sequence[str]]
    item_request: Callable[[Any, Any, str, str], Request]
    expected: Callable[[JsonObject], int | None]
    matches: Callable[[str, Output], bool]
    deadline_seconds: Callable[[Any], float]


@dataclass(frozen=True, slots=True, kw_only=True)
class Check(Declared):
    """A tool that reads jobs started by any of ``operations``.

    ``adopts`` is the operation under which a job is kept that was started elsewhere, when the
    caller gives the provider's own id.
    """

    operations: tuple[str, ...]
    adopts: str
    adopted: Callable[[Any], JsonObject] | None = None
    """Arguments to keep for a job that was started elsewhere, from those of the check."""


Operation: TypeAlias = Call | Job | Check


# --- tools that belong to no provider ----------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class Picture:
    """A picture in a result, whole and small."""

    data: bytes
    media_type: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """What a tool returns: one object for the model and a line or two of text for the person.

    Hosts that see an object show the model nothing else: a result with ``pictures`` has none.
    ``meta`` is for the host's interfaces and is not shown to the model.
    """

    structured: JsonObject | None
    text: str
    pictures: tuple[Picture, ...] = ()
    meta: JsonObject | None = None


class Run(Protocol):
    """What a neutral tool does."""

    def __call__(self, machine: Machine, params: Any, person: Person, /) -> Awaitable[Result]:
        """Run with valid arguments; raise `errors.CallError` for what the model should read."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Tool(Declared):
    """A tool that belongs to no provider. ``always``: listed even when no credential is there."""

    run: Run
    listed: Callable[[bool], bool] = bool
    """Whether it is listed, given whether any provider has a credential."""


class Sandbox(Protocol):
    """Emulators of a catalogue's providers, in this process."""

    def transport(self) -> httpx2.AsyncBaseTransport:
        """Return the way to them; it never touches the network."""
        ...

    def environment(self) -> dict[str, str]:
        """Return the variables that point a server to them, credentials included."""
        ...


class OpenSandbox(Protocol):
    """Build the emulators."""

    def __call__(self, *, time_scale: float) -> Sandbox:
        """``time_scale`` is a factor on how long jobs take."""
        ...


class ServeSandbox(Protocol):
    """Serve the emulators on a loopback port until told to end by a signal."""

    def __call__(
        self,
        *,
        port: int,
        time_scale: float,
        control: bool,
        ready: Callable[[str, Mapping[str, str]], None],
    ) -> Awaitable[None]:
        """Call ``ready`` with the address of the index and the variables once it answers."""
        ...


# --- resources ---------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class Content:
    """What a resource holds: text, or bytes."""

    data: str | bytes
    media_type: str


class Read(Protocol):
    """Reads a resource; ``variables`` are those of its address."""

    def __call__(self, machine: Machine, variables: Mapping[str, str], /) -> Awaitable[Content]:
        """Return the content; raise `errors.CallError` (``not_found``: no such resource)."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Resource:
    """Something to read under an address: fixed, or an RFC 6570 template with variables.

    ``complete`` returns values of a variable that begin with what was typed. Every resource has a
    tool that does the same: several hosts read none.
    """

    uri: str
    name: str
    title: str
    description: str
    media_type: str
    read: Read
    complete: Mapping[str, Callable[[Machine, str], Awaitable[Sequence[str]]]] = field(
        default_factory=dict[str, "Callable[[Machine, str], Awaitable[Sequence[str]]]"]
    )
    meta: JsonObject | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Catalogue:
    """What one package contributes: providers, neutral tools and, for ours, the sandbox."""

    providers: tuple[Provider, ...] = ()
    tools: tuple[Tool, ...] = ()
    resources: tuple[Resource, ...] = ()
    prompts: tuple[Prompt, ...] = ()
    sandbox: OpenSandbox | None = None
    serve_sandbox: ServeSandbox | None = None
    demo: Callable[[Path], int] | None = None
    """Shows, in the folder given, what it all can do; returns the exit status."""


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
