"""What every command needs: catalogues, environment, settings, and the sandbox if requested."""

from __future__ import annotations

import logging
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from darkroom.catalogue.loading import completed, load_catalogues
from darkroom.config.settings import CONFIG_VARIABLE, Settings, load
from darkroom.core.environment import process_environment
from darkroom.core.errors import ConfigurationError
from darkroom.core.text_files import read_text
from darkroom.engine.dependencies import Dependencies
from darkroom.providers.credentials import Credentials, left_behind, templates

if TYPE_CHECKING:
    import argparse
    from collections.abc import Mapping

    import anyio

    from darkroom.catalogue.declarations import Catalogue
    from darkroom.providers.provider import Provider

SANDBOX_TIME_SCALE = 0.2
"""Factor on the duration of the sandbox's jobs: a video takes about twelve seconds."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CommandContext:
    """The catalogues, settings and dependencies of a command."""

    catalogues: tuple[Catalogue, ...]
    environment: Mapping[str, str] = field(repr=False)
    settings: Settings
    dependencies: Dependencies
    sandbox: bool

    @property
    def providers(self) -> tuple[Provider, ...]:
        """The providers of all catalogues."""
        return tuple(p for catalogue in self.catalogues for p in catalogue.providers)

    @property
    def credentials(self) -> Credentials:
        """The credentials from the environment."""
        return Credentials(self.environment, self.settings)


def log_to_stderr() -> None:
    """Log warnings to standard error, because standard output may be used by the protocol."""
    logging.basicConfig(
        stream=sys.stderr, level=logging.WARNING, format="darkroom: %(levelname)s: %(message)s"
    )


def prepare(
    *,
    sandbox: bool,
    environment: Mapping[str, str] | None = None,
    catalogues: tuple[Catalogue, ...] | None = None,
    stopping: anyio.Event | None = None,
    report_templates: bool = True,
    given: Mapping[str, object] | None = None,
    everything: bool = False,
) -> CommandContext:
    """Read everything that a command needs. ``given``: settings from the command line.

    ``everything``: with every provider, also those that nothing here uses.

    Raises
    ------
    ConfigurationError: naming every mistake.
    """
    log_to_stderr()
    found = load_catalogues() if catalogues is None else catalogues
    variables = process_environment() if environment is None else environment
    dependencies = Dependencies(environment=variables, stopping=stopping)
    overrides = dict(given or {})
    if sandbox:
        opened = next((c.sandbox for c in found if c.sandbox is not None), None)
        if opened is None:
            raise ConfigurationError("no catalogue that is installed has a sandbox")
        emulators = opened(time_scale=SANDBOX_TIME_SCALE)
        transport = emulators.transport()
        variables = {**variables, **emulators.environment()}
        dependencies = Dependencies(
            environment=variables,
            transport=transport,
            sandbox=transport,
            stopping=stopping,
            time_scale=SANDBOX_TIME_SCALE,
        )
        overrides["jobs"] = {"store": "memory"}
    named = "" if everything else f"{_configuration(variables)} {overrides}"
    found = tuple(completed(each, None if everything else variables, named) for each in found)
    providers = tuple(p for catalogue in found for p in catalogue.providers)
    context = CommandContext(
        catalogues=found,
        environment=variables,
        settings=load(
            providers,
            variables,
            tools=[tool.name for catalogue in found for tool in catalogue.tools],
            overrides=overrides,
        ),
        dependencies=dependencies,
        sandbox=sandbox,
    )
    _check_addresses(context)
    for variable in templates(variables, providers) if report_templates else ():
        logging.getLogger("darkroom").warning(
            "%s holds a template that was not filled in; it counts as not set", variable
        )
    for said in left_behind(variables, providers) if report_templates else ():
        logging.getLogger("darkroom").warning("%s", said)
    return context


def _configuration(environment: Mapping[str, str]) -> str:
    """Return the text of the configuration file; `load` says what is wrong with it."""
    path = environment.get(CONFIG_VARIABLE)
    try:
        return read_text(Path(path).expanduser()) if path else ""
    except (OSError, ValueError, RuntimeError):
        return ""


def given_settings(options: argparse.Namespace) -> dict[str, object]:
    """Return the settings that the filters on the command line set."""
    roots: list[str] | None = getattr(options, "root", None)
    return {
        "serve": _given_filters(options),
        **(
            {
                "files": {
                    "roots": [str(Path(root.strip()).expanduser().absolute()) for root in roots]
                }
            }
            if roots
            else {}
        ),
    }


def _given_filters(options: argparse.Namespace) -> dict[str, object]:
    given: dict[str, object] = {
        name: getattr(options, name)
        for name in ("providers", "tools", "exclude")
        if getattr(options, name) is not None
    }
    return given | {"read_only": True} if options.read_only else given


def _check_addresses(context: CommandContext) -> None:
    mistakes: list[str] = []
    for provider in context.providers:
        try:
            context.credentials.base_url(provider)
        except ConfigurationError as error:
            mistakes.append(str(error))
    if mistakes:
        raise ConfigurationError("\n".join(mistakes))
