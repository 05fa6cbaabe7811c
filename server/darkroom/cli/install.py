"""`darkroom install`: put this server into a host's configuration."""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path
from typing import TYPE_CHECKING, cast
from urllib.parse import urlsplit

from darkroom.catalogue.selection import selected
from darkroom.cli.context import given_settings, prepare
from darkroom.cli.hosts.files import alone, change
from darkroom.cli.hosts.keys import ask_keys, keep
from darkroom.cli.hosts.keys import file_of as key_file
from darkroom.cli.hosts.known import HOSTS, TOKEN_VARIABLE
from darkroom.config.settings import CONFIG_VARIABLE, DELIMITER, PREFIX
from darkroom.core.environment import process_environment
from darkroom.core.errors import ConfigurationError
from darkroom.mcp.http.token import token as read_token
from darkroom.providers.credentials import Key

if TYPE_CHECKING:
    import argparse
    from collections.abc import Collection, Iterable, Mapping

    from pydantic import SecretStr

    from darkroom.cli.context import CommandContext
    from darkroom.cli.hosts.files import Change, Entry
    from darkroom.cli.hosts.known import Host
    from darkroom.config.settings import Settings
    from darkroom.providers.provider import Provider

FOREIGN_VARIABLES = ("LD_", "DYLD_", "PYTHON", PREFIX)
"""Beginnings of variables that decide what code runs, or how it is configured."""

FOREIGN_KEYS = frozenset({"envfile", "cwd"})
"""Keys of an entry that bring variables or modules from elsewhere."""


def run(options: argparse.Namespace) -> int:
    """Show the change, ask, and write it.

    Raises
    ------
    ConfigurationError: it is not possible, or the server would not start; nothing was written.
    """
    host = HOSTS[options.host]
    if options.http is not None and (options.ask_keys or _filters(options)):
        raise ConfigurationError("--http: filters and keys belong to the server that runs")
    if options.with_keys and options.project:
        raise ConfigurationError(
            "--with-keys: a project's file is read by others too; use NAME_FILE"
        )
    environment = process_environment()
    path = file_of(host, environment, project=options.project)
    # Hosts do not show why a server does not start, so that errors must be reported here.
    context = prepare(sandbox=False, given=given_settings(options), everything=True)
    selected(context.catalogues, context.settings)
    secrets = {c.variable: c for p in context.providers for c in p.credentials}
    found = {
        name
        for name, credential in secrets.items()
        if isinstance(key := context.credentials.look(credential), Key) and key.source == name
    }
    written = plain_variables(environment, context.providers, context.settings)
    handed = set[str]() if options.with_keys else found
    asked: dict[str, SecretStr] = {}
    if options.http is not None:
        entry = _remote_entry(host, options, context.settings)
        handed = set[str]()
    else:
        if options.with_keys:
            written |= {name: environment[name] for name in found}
        if options.ask_keys:
            asked = ask_keys(context)
            written |= {f"{name}_FILE": str(key_file(name)) for name in asked}
        entry = host.entry([*this_program(), "serve", *_filters(options)], written, handed)
        _warn(host, path, found, with_keys=options.with_keys, project=options.project)
        if not options.sandbox and not any_key(context, written):
            _say(where_keys_go(host, path, options.name))
    where = (host.section, options.name)
    if options.print:
        sys.stdout.write(alone(where, entry, form=host.form))
        keep(asked)
        return 0

    names = plain_names(context.providers)

    def joined(old: Entry) -> Entry:
        return host.joined(_trusted(old, names) if options.project else old, entry, handed)

    planned = change(path, where, joined, form=host.form)
    private = bool(options.with_keys and (found or options.http is not None))
    status = apply(planned, context.providers, yes=options.yes, host=host, private=private)
    if status == 0:
        keep(asked)
    return status


def _remote_entry(host: Host, options: argparse.Namespace, settings: Settings) -> Entry:
    """Return the entry for a server that runs over HTTP.

    Raises
    ------
    ConfigurationError: the host knows no such servers, or the token cannot be read.
    """
    url: str = options.http
    if urlsplit(url).scheme not in {"http", "https"} or not urlsplit(url).hostname:
        raise ConfigurationError(f"--http: expected an http or https address, got {url!r}")
    token = read_token(settings).decode() if options.with_keys else None
    entry = host.remote_entry(url, token)
    if entry is None:
        raise ConfigurationError(f"{host.title} reads no servers over HTTP from its file")
    if token is not None:
        _say("The token stands in the entry, readable.")
    elif host.handing == "none":
        _say(
            f"{host.title} may not fill in variables: write the token in place of the reference, "
            f"or use --with-keys. `darkroom doctor` names the file that holds it."
        )
    else:
        _say(f"{host.title} reads the token from the variable {TOKEN_VARIABLE}.")
    return entry


def any_key(context: CommandContext, written: Collection[str]) -> bool:
    """Tell whether any credential is set, here or in the entry."""
    names = {c.variable for p in context.providers for c in p.credentials}
    set_here = any(
        isinstance(context.credentials.look(c), Key)
        for p in context.providers
        for c in p.credentials
    )
    return set_here or any(name.removesuffix("_FILE") in names for name in written)


def where_keys_go(host: Host, path: Path, name: str) -> str:
    """Return where in a host's file a key belongs."""
    at = f"{host.section} > {name} > {host.env}"
    return (
        f"No key is set, so the server will only list get_setup. A key belongs into {path}, at "
        f"{at}: NAME_FILE with the path of a file that holds it, as in ZSKY_API_KEY_FILE. "
        "--ask-keys asks for keys and writes both."
    )


def _warn(
    host: Host, path: Path, found: Collection[str], *, with_keys: bool, project: bool
) -> None:
    """Print notes about the entry to standard error."""
    names = ", ".join(sorted(found))
    if with_keys and found:
        _say(f"Keys will stand in {path}, readable: {names}")
    elif host.handing == "none" and found:
        _say(
            f"{host.title} may hand on no variables, so that the server does not see {names}. "
            "Put each key into a file and set NAME_FILE to its path, or use --with-keys."
        )
    if project:
        _say(f"{path} may be shared with others: the entry contains paths of this computer.")


def _trusted(old: Entry, names: Collection[str]) -> Entry:
    """Return a project's entry without what decides which program runs or whom it asks.

    Whoever wrote the project's file would read the person's keys with a library, a folder of
    modules, a configuration or a base address of their own.
    """
    kept = {key: value for key, value in old.items() if key.lower() not in FOREIGN_KEYS}
    env = old.get("env")
    if isinstance(env, dict):
        kept["env"] = {
            name: value
            for name, value in cast("Entry", env).items()
            if not name.upper().startswith(FOREIGN_VARIABLES) and name.upper() not in names
        }
    return kept


def apply(
    planned: Change,
    providers: Collection[Provider],
    *,
    yes: bool,
    host: Host,
    private: bool = False,
) -> int:
    """Show a change, ask the person, and write it; 1 after a no."""
    if not planned.needed:
        _say(f"{planned.path}: nothing to change")
        return 0
    names = plain_names(providers)
    shown = planned.shown(lambda name: name in names or name.startswith(PREFIX))
    _say(f"{planned.path}:\n{shown}")
    if not yes:
        if not sys.stdin.isatty():
            raise ConfigurationError("nobody can be asked here: look at --print, then use --yes")
        sys.stderr.write("Write this? [y/N] ")
        sys.stderr.flush()
        if sys.stdin.readline().strip().lower() not in {"y", "yes"}:
            _say("Nothing was written.")
            return 1
    copy = planned.write(private=private)
    _say(f"Written. Start {host.title} again.")
    if copy is not None:
        keys = planned.holds([c.variable for p in providers for c in p.credentials])
        _say(
            f"The old file is kept as {copy}" + (f", with {', '.join(keys)} in it" if keys else "")
        )
    return 0


def file_of(host: Host, environment: Mapping[str, str], *, project: bool) -> Path:
    """Return the file to change.

    Raises
    ------
    ConfigurationError: the host reads none in projects, or a link leads out of this one.
    """
    if not project:
        return host.file(environment)
    if host.project_file is None:
        raise ConfigurationError(f"{host.title} reads no file in a project")
    root = Path.cwd().resolve()
    path = root / host.project_file
    if path.is_symlink() or not path.resolve().is_relative_to(root):
        raise ConfigurationError(
            f"{path} leads out of the project, or is a link: nothing was written"
        )
    return path


def this_program() -> list[str]:
    """Return the command that starts this program from any folder, also next month.

    What `uvx`, `uv run --with` and `pipx run` start lies in a cache, from which it is removed.
    """
    if in_a_cache(Path(sys.prefix)):
        by_pipx = "pipx" in _lowered(Path(sys.prefix)) and shutil.which("uvx") is None
        return ["pipx", "run", "darkroom-mcp"] if by_pipx else ["uvx", "darkroom-mcp"]
    beside = shutil.which("darkroom", path=str(Path(sys.executable).parent))
    return [beside] if beside else [sys.executable, "-P", "-m", "darkroom"]


def in_a_cache(prefix: Path) -> bool:
    """Tell whether an environment was made by ``uvx``, ``uv run --with`` or ``pipx run``."""
    parts = _lowered(prefix)
    return any(part.startswith(("archive-v", "builds-v", "environments-v")) for part in parts) or (
        "pipx" in parts and not {"cache", ".cache"}.isdisjoint(parts)
    )


def _lowered(path: Path) -> list[str]:
    return [part.lower() for part in path.parts]


def plain_names(providers: Iterable[Provider]) -> set[str]:
    """Return the variables without secrets, other than those of settings."""
    names = {CONFIG_VARIABLE}
    for provider in providers:
        names |= {provider.base_url_variable, *provider.variables}
        names |= {f"{credential.variable}_FILE" for credential in provider.credentials}
        names |= {f"{variable}_FILE" for variable in provider.variables}
    return names


def plain_variables(
    environment: Mapping[str, str], providers: Collection[Provider], settings: Settings
) -> dict[str, str]:
    """Return the variables that configure this server, without secrets, with absolute paths."""
    names = plain_names(providers)
    names |= {name for name in environment if name.startswith(PREFIX) and DELIMITER in name}
    written: dict[str, str] = {}
    for name in names:
        text = environment.get(name, "")
        if not text.strip():
            continue
        if name == CONFIG_VARIABLE or name.endswith("_FILE"):
            written[name] = str(_absolute(Path(text)))
        elif DELIMITER in name:
            written[name] = _setting(settings, name, text)
        else:
            written[name] = text
    return written


def _setting(settings: Settings, name: str, text: str) -> str:
    """Return a setting's variable, with absolute paths."""
    value: object = settings
    for part in name.removeprefix(PREFIX).lower().split(DELIMITER):
        value = getattr(value, part, None)
    if isinstance(value, Path):
        return str(_absolute(value))
    each = cast("tuple[object, ...]", value) if isinstance(value, tuple) else ()
    paths = [path for path in each if isinstance(path, Path)]
    return json.dumps([str(_absolute(path)) for path in paths]) if paths else text


def _absolute(path: Path) -> Path:
    return path.expanduser().absolute()


def _filters(options: argparse.Namespace) -> list[str]:
    given = [
        f"--{name}={','.join(getattr(options, name))}"
        for name in ("providers", "tools", "exclude")
        if getattr(options, name)
    ]
    flags = ("sandbox", "read_only")
    return given + [f"--{name.replace('_', '-')}" for name in flags if getattr(options, name)]


def _say(text: str) -> None:
    sys.stderr.write(f"{text}\n")
