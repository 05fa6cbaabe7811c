"""The checks of `darkroom doctor`; `darkroom.cli.doctor` prints their findings.

Nothing is changed: the probes use an engine without a journal, and folders are only tested.
"""

from __future__ import annotations

import sys
import tempfile
import traceback
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Literal, cast
from urllib.parse import urlsplit

import anyio

from darkroom import __version__
from darkroom.catalogue.dispatch import desks
from darkroom.catalogue.selection import NO_TOOLS
from darkroom.config.settings import CONFIG_VARIABLE
from darkroom.core.environment import Missing
from darkroom.core.errors import CallError, ConfigurationError, Failure, JournalError
from darkroom.core.files import trusted
from darkroom.engine import lost_calls
from darkroom.engine.engine import running
from darkroom.jobs.storage.lease import others
from darkroom.mcp.http import token as bearer
from darkroom.providers.client.outcomes import describe
from darkroom.providers.client.proxies import ProxyVariableError, proxy_for
from darkroom.providers.credentials import Key, left_behind, templates
from darkroom.providers.operations import CallOperation
from darkroom.providers.requests import build_request

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pydantic import BaseModel

    from darkroom.cli.context import CommandContext
    from darkroom.config.settings import Settings
    from darkroom.engine.engine import Engine
    from darkroom.providers.client.proxies import Proxy
    from darkroom.providers.provider import Limits, Provider

PROBE_SECONDS = 20.0
CONNECT_SECONDS = 5.0

ProbeResult = Literal["yes", "no", "not tried"]


@dataclass(kw_only=True)
class CredentialFinding:
    """One credential of a provider."""

    variable: str
    found: bool
    source: str | None = None
    file: str | None = None
    masked: str | None = None
    mode: str | None = None
    problem: str | None = None
    accepted: ProbeResult = "not tried"


@dataclass(kw_only=True)
class ProviderFinding:
    """One provider: its credentials, its address, and whether it accepts them."""

    name: str
    title: str
    documentation: str
    base_url: str
    base_url_from: str
    limits: list[str]
    probe: str | None
    configured: bool
    reachable: ProbeResult = "not tried"
    credentials: list[CredentialFinding] = field(default_factory=list[CredentialFinding])
    problems: list[str] = field(default_factory=list[str])
    notes: list[str] = field(default_factory=list[str])


@dataclass(kw_only=True)
class FolderFinding:
    """A folder that the server writes to."""

    purpose: str
    path: str
    exists: bool
    writable: bool
    problem: str | None = None


@dataclass(kw_only=True)
class Findings:
    """All findings. ``problems`` are those that belong to no single part."""

    version: str = __version__
    python: str = sys.version.split()[0]
    sandbox: bool
    configuration_file: str | None
    changed_settings: dict[str, object]
    folders: list[FolderFinding]
    other_servers: int
    http_token_file: str
    problems: list[str]
    providers: list[ProviderFinding]

    @property
    def ok(self) -> bool:
        """Tell whether everything that is configured works."""
        return not (
            self.problems
            or any(folder.problem for folder in self.folders)
            or any(provider.problems for provider in self.providers)
        )


async def examine(context: CommandContext) -> Findings:
    """Check everything, and send a request to each provider that has a credential."""
    settings = context.settings
    folders = _folders(context)
    has_state = settings.jobs.store == "sqlite" and not folders[0].problem
    findings = Findings(
        sandbox=context.sandbox,
        configuration_file=context.environment.get(CONFIG_VARIABLE) or None,
        changed_settings=changed(settings),
        folders=folders,
        other_servers=len(others(settings.state_dir)) if has_state else 0,
        http_token_file=str(bearer.path_of(settings)),
        problems=[
            f"{name} holds a template that was not filled in"
            for name in templates(context.environment, context.providers)
        ]
        + left_behind(context.environment, context.providers),
        providers=[_provider(context, provider) for provider in context.providers],
    )
    try:
        if not desks(context.catalogues, context.credentials.available, settings):
            findings.problems.append(NO_TOOLS)
    except ConfigurationError as error:
        findings.problems.append(str(error))
    if settings.http.token_file is not None:
        try:
            bearer.token(settings)
        except ConfigurationError as error:
            findings.problems.append(str(error))
    if has_state:
        findings.problems += await _journal(settings.state_dir / "journal.sqlite", context)
    findings.problems += _token(settings)
    try:
        broken = await _ask_all(context, findings)
    except Exception as error:  # noqa: BLE001 -- a server that cannot start is what is looked for
        broken = in_words(error)
    if broken is not None:
        findings.problems.append(f"the server cannot start: {broken}")
    return findings


async def _ask_all(context: CommandContext, findings: Findings) -> str | None:
    """Probe the providers with an engine without a journal; return why it cannot start, if so."""
    jobs = context.settings.jobs.model_copy(update={"store": "memory"})
    without_journal = context.settings.model_copy(update={"jobs": jobs})
    dependencies = replace(context.dependencies, open_storage=None)
    async with running(context.providers, without_journal, dependencies) as engine:
        broken = await engine.broken()
        if broken is not None:
            return str(broken)
        async with anyio.create_task_group() as tasks:
            for provider, finding in zip(context.providers, findings.providers, strict=True):
                if finding.configured:
                    tasks.start_soon(_ask, context, engine, provider, finding)
    return None


def in_words(error: BaseException) -> str:
    """Describe an unexpected error by its type and place, without its text, which may be secret."""
    while isinstance(error, BaseExceptionGroup):
        error = cast("BaseExceptionGroup[BaseException]", error).exceptions[0]
    frames = traceback.extract_tb(error.__traceback__)
    where = f" in {Path(frames[-1].filename).name}, line {frames[-1].lineno}" if frames else ""
    what = error.strerror if isinstance(error, OSError) and error.strerror else "not expected"
    return f"{type(error).__name__}{where} ({what})"


def changed(section: BaseModel, prefix: str = "") -> dict[str, object]:
    """Return every setting that differs from its default: dotted key -> value."""
    found: dict[str, object] = {}
    for name, info in type(section).model_fields.items():
        value = getattr(section, name)
        default = info.get_default(call_default_factory=True)
        if hasattr(value, "model_fields_set"):
            found |= changed(value, f"{prefix}{name}.")
        elif value != default:
            found[f"{prefix}{name}"] = section.model_dump(mode="json", include={name})[name]
    return found


def limits_in_words(limits: Limits) -> list[str]:
    """Return the limits of a provider as text."""
    words = [f"{rate.requests} requests in {rate.seconds:g} s" for rate in limits.rates]
    if limits.concurrent_jobs is not None:
        words.append(f"{limits.concurrent_jobs} jobs at once")
    return words


# --- folders and journal ---


def _folders(context: CommandContext) -> list[FolderFinding]:
    settings = context.settings
    wanted = [("results", settings.results_folder)]
    if settings.jobs.store == "sqlite":
        wanted.insert(0, ("state", settings.state_dir))
    if settings.credentials.dir is not None:
        wanted.append(("credentials", settings.credentials.dir))
    return [_folder(purpose, path) for purpose, path in wanted]


def _token(settings: Settings) -> list[str]:
    """Return what is wrong with the file that holds the token for HTTP, if there is one."""
    try:
        trusted(bearer.path_of(settings), bearer.WHAT)
    except ConfigurationError as error:
        return [str(error)]
    return []


def _folder(purpose: str, path: Path) -> FolderFinding:
    """Test a folder with an unnamed temporary file; for a missing folder, test the one above it."""
    exists, nearest, problem = False, path, None
    try:
        exists = path.exists()
        nearest = next(each for each in (path, *path.parents) if each.exists())
        with tempfile.TemporaryFile(dir=nearest):
            pass
        if purpose == "state":
            trusted(path, "the state folder")
    except ConfigurationError as error:
        problem = str(error)
    except OSError as error:
        problem = f"{nearest} cannot be written to ({error.strerror or type(error).__name__})"
    return FolderFinding(
        purpose=purpose,
        path=str(path),
        exists=exists,
        writable=problem is None,
        problem=problem,
    )


async def _journal(path: Path, context: CommandContext) -> list[str]:
    """Open an existing journal as a server would; return what is wrong with it, if anything.

    Calls of unknown fate count: nothing else shows them.
    """
    from darkroom.jobs.storage.sqlite import SqliteStore  # noqa: PLC0415 -- only where there is a journal

    if not await anyio.Path(path).exists():
        return []
    try:
        store = await SqliteStore.open(path)
        try:
            attempts = await store.lost_calls()
        finally:
            await store.close()
    except (ConfigurationError, JournalError) as error:
        return [str(error)]
    found = lost_calls.lost(context.providers, attempts, context.dependencies.clock())
    return [lost_calls.in_words(call, attempt) for _, call, attempt in found]


# --- providers ---


def _provider(context: CommandContext, provider: Provider) -> ProviderFinding:
    credentials = [_credential(context, c.variable, provider) for c in provider.credentials]
    proxy, trouble = _proxy(context, provider)
    notes: list[str] = []
    if proxy is not None:
        through = context.settings.results.through_proxy
        outputs = "downloads, too" if through else "downloads do not ([results] through_proxy)"
        notes.append(f"requests go through {proxy.shown} ({proxy.variable}); {outputs}")
    return ProviderFinding(
        name=provider.name,
        title=provider.title,
        documentation=provider.documentation,
        base_url=context.credentials.base_url(provider),
        base_url_from=provider.base_url_variable
        if context.environment.get(provider.base_url_variable)
        else "default",
        limits=limits_in_words(provider.limits_with(context.settings.provider(provider.name))),
        probe=provider.probe,
        configured=any(credential.found for credential in credentials),
        credentials=credentials,
        problems=[*(c.problem for c in credentials if c.problem), *trouble],
        notes=notes,
    )


def _proxy(context: CommandContext, provider: Provider) -> tuple[Proxy | None, list[str]]:
    """Return the proxy between this computer and a provider, and what is wrong with it."""
    if context.sandbox:
        return None, []
    try:
        return proxy_for(context.credentials.base_url(provider), context.environment), []
    except ProxyVariableError as error:
        return None, [f"{error}; nothing is sent"]


def _credential(context: CommandContext, variable: str, provider: Provider) -> CredentialFinding:
    credential = next(c for c in provider.credentials if c.variable == variable)
    found = context.credentials.look(credential)
    if isinstance(found, Missing):
        given = any(context.environment.get(name) for name in (variable, f"{variable}_FILE"))
        return CredentialFinding(
            variable=variable, found=False, problem=found.reason if given else None
        )
    named = found.source.endswith("_FILE")
    return CredentialFinding(
        variable=variable,
        found=True,
        source=found.source,
        file=context.environment.get(found.source) if named else None,
        masked=found.masked,
        mode=found.mode,
    )


async def _ask(
    context: CommandContext, engine: Engine, provider: Provider, finding: ProviderFinding
) -> None:
    """Send the provider's cheapest request with each credential that it accepts."""
    if provider.probe is None:
        finding.notes.append("no free question is documented, so the key was not tried")
        if not context.sandbox:
            await _connect(finding, _proxy(context, provider)[0])
        return
    operation = provider.operation(provider.probe)
    if not isinstance(operation, CallOperation):
        raise TypeError(operation.name)
    for variable in _choices(provider, operation.credential):
        credential = next(c for c in provider.credentials if c.variable == variable)
        key = context.credentials.look(credential)
        shown = next(c for c in finding.credentials if c.variable == variable)
        if isinstance(key, Key):
            problem = await _probe(engine, provider, operation, key)
            _note(finding, shown, problem)


def _choices(provider: Provider, choice: str | tuple[str, ...] | None) -> Sequence[str]:
    if choice is None:
        return (provider.credentials[0].variable,)
    return (choice,) if isinstance(choice, str) else choice


async def _probe(
    engine: Engine, provider: Provider, operation: CallOperation, key: Key
) -> Failure | None:
    runtime = await engine.runtime()
    client = runtime.context.clients[provider.name]
    request = build_request(operation, operation.params(), client.settings)
    try:
        with anyio.fail_after(PROBE_SECONDS):
            response = await client.read(request, key)
    except CallError as error:
        return error.failure
    except TimeoutError:
        return Failure(code="timeout", message="no answer in time", next_step="try again later")
    if response.ok or response.status in operation.accepts:
        return None
    return describe(provider, response)


def _note(finding: ProviderFinding, credential: CredentialFinding, problem: Failure | None) -> None:
    if problem is None:
        finding.reachable = credential.accepted = "yes"
        return
    said = f" ({problem.provider_message})" if problem.provider_message else ""
    finding.problems.append(f"{credential.variable}: [{problem.code}] {problem.message}{said}")
    if problem.code in {"provider_unavailable", "timeout"}:
        finding.reachable = "no"
        return
    finding.reachable = "yes"
    if problem.code in {"auth_failed", "forbidden", "suspended"}:
        credential.accepted = "no"


async def _connect(finding: ProviderFinding, proxy: Proxy | None) -> None:
    """Check whether a connection to the base address, or its proxy, is possible; nothing is sent."""
    asked = finding.base_url if proxy is None else proxy.shown
    parts = urlsplit(asked)
    port = parts.port or (443 if parts.scheme == "https" else 80)
    try:
        with anyio.fail_after(CONNECT_SECONDS):
            stream = await anyio.connect_tcp(parts.hostname or "", port)
            await stream.aclose()
    except (OSError, TimeoutError):
        finding.reachable = "no"
        finding.problems.append(f"nothing answers at {asked}")
    else:
        finding.reachable = "yes"
