"""`darkroom install`: put this server into a host's configuration."""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from darkroom.catalogues import load_catalogues
from darkroom.credentials import process_environment
from darkroom.errors import ConfigurationError
from darkroom.hosts import tomltext
from darkroom.hosts.files import change
from darkroom.hosts.known import HOSTS
from darkroom.settings import CONFIG_VARIABLE, PREFIX

if TYPE_CHECKING:
    import argparse
    from collections.abc import Iterable, Mapping

    from darkroom.hosts.files import Change
    from darkroom.hosts.known import Host
    from darkroom.operation import Provider


def run(options: argparse.Namespace) -> int:
    """Show the change, ask, and write it.

    Raises
    ------
    ConfigurationError: it cannot be done; nothing was written.
    """
    host = HOSTS[options.host]
    environment = process_environment()
    providers = [p for catalogue in load_catalogues() for p in catalogue.providers]
    secrets = {c.variable for p in providers for c in p.credentials}
    found = {name for name in secrets if environment.get(name)}
    if options.with_keys and options.project:
        raise ConfigurationError(
            "--with-keys: a project's file is read by others too; use NAME_FILE"
        )
    written = plain_variables(environment, providers)
    if options.with_keys:
        written |= {name: environment[name] for name in found}
    handed = () if options.with_keys else found
    entry = host.entry([*this_program(), "serve", *_filters(options)], written, handed)
    path = file_of(host, environment, project=options.project)
    if options.print:
        where = (host.section, options.name)
        sys.stdout.write(
            tomltext.put("", where, entry)
            if host.toml
            else json.dumps({host.section: {options.name: entry}}, indent=2) + "\n"
        )
        return 0
    if host.handing == "none" and handed:
        _say(
            f"{host.title} hands on no variables, so it will not see {', '.join(sorted(handed))}. "
            "Put each key into a file and set NAME_FILE to its path, or use --with-keys."
        )
    if options.with_keys and found:
        _say(f"Keys will stand in {path}, readable: {', '.join(sorted(found))}")
    planned = change(path, (host.section, options.name), entry, toml=host.toml)
    return apply(planned, secrets, yes=options.yes, done=f"Start {host.title} again to use it.")


def apply(planned: Change, secrets: Iterable[str], *, yes: bool, done: str) -> int:
    """Show a change, ask the person, and write it; 1 after a no."""
    if not planned.needed:
        _say(f"{planned.path}: nothing to change")
        return 0
    _say(f"{planned.path}:\n{planned.shown(secrets)}")
    if not yes:
        if not sys.stdin.isatty():
            raise ConfigurationError("nobody can be asked here: look at --print, then use --yes")
        sys.stderr.write("Write this? [y/N] ")
        sys.stderr.flush()
        if sys.stdin.readline().strip().lower() not in {"y", "yes"}:
            _say("Nothing was written.")
            return 1
    copy = planned.write()
    _say(f"Written. {done}" + (f" What was there before: {copy}" if copy is not None else ""))
    return 0


def file_of(host: Host, environment: Mapping[str, str], *, project: bool) -> Path:
    """Return the file to change.

    Raises
    ------
    ConfigurationError: the host reads none in projects.
    """
    if not project:
        return host.file(environment)
    if host.project_file is None:
        raise ConfigurationError(f"{host.title} reads no file in a project")
    return Path.cwd() / host.project_file


def this_program() -> list[str]:
    """Return the command that starts this very program, whatever folder a host starts it in."""
    beside = shutil.which("darkroom", path=str(Path(sys.executable).parent))
    return [beside] if beside else [sys.executable, "-P", "-m", "darkroom"]


def plain_variables(
    environment: Mapping[str, str], providers: Iterable[Provider]
) -> dict[str, str]:
    """Return what configures us here and is no secret; paths are made absolute."""
    names: set[str] = set()
    paths = {CONFIG_VARIABLE}
    for provider in providers:
        names |= {provider.base_url_variable, *provider.variables}
        paths |= {f"{credential.variable}_FILE" for credential in provider.credentials}
    names |= {name for name in environment if name.startswith(PREFIX) and name not in paths}
    found = {name: environment[name] for name in names if environment.get(name)}
    return found | {
        name: str(Path(environment[name]).expanduser().absolute())
        for name in paths
        if environment.get(name)
    }


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
