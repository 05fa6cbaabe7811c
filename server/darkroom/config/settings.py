"""Settings: defaults, then the TOML file, then the environment, then the command line.

`load` returns one frozen object, or raises a `ConfigurationError` that names the file or variable,
the key, and what was expected. Credentials are not settings: see `darkroom.providers.credentials`.
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Optional, cast, get_args

from pydantic import Field, ValidationError, create_model

from darkroom.config.input_settings import InputsSection
from darkroom.config.sections import (
    ApprovalSection,
    CredentialsSection,
    FilesSection,
    GuardSection,
    HttpSection,
    JobsSection,
    ResultsSection,
    ServeSection,
    SpendingSection,
)
from darkroom.config.team import TeamSection
from darkroom.core.environment import Missing, read_variable
from darkroom.core.errors import ConfigurationError
from darkroom.core.names import nearest
from darkroom.core.nested import leaves, merge, texts
from darkroom.core.templates import unfilled
from darkroom.core.text_files import read_text
from darkroom.providers.setting_values import (
    Kind,
    Reading,
)
from darkroom.providers.settings import ProviderSettings, Section

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence

    from darkroom.providers.provider import Provider


def names_of(providers: Sequence[Provider], tools: Iterable[str]) -> dict[Kind, Collection[str]]:
    """Return the names of the catalogue that a setting may contain."""
    operations = (o.name for provider in providers for o in provider.operations)
    return {
        "unit": {"money", *(f"{p.name}_{unit}" for p in providers for unit in p.units)},
        "tool": {*operations, *tools},
        "policy": {p.name for p in providers if p.policy is not None},
    }


CONFIG_VARIABLE = "DARKROOM_CONFIG"
PREFIX = "DARKROOM_"
DELIMITER = "__"

_SECRET_NAME = re.compile(
    r"(api_?key|secret|password|passwd|bearer|(?<!file_)token)s?$", re.IGNORECASE
)
_SECRET_VALUE = re.compile(r"^(zt_(live|test)_sk_|zsky_(live|test)_|gr_|sk_live_|sk-)\w{6,}")


_PERIODS = {
    "process": "that one run of this server may spend",
    "day": "per UTC day",
    "month": "per UTC month",
}


class Settings(Section):
    """All settings; the sections of the providers are reached by `provider`."""

    jobs: JobsSection = JobsSection()
    results: ResultsSection = ResultsSection()
    files: FilesSection = FilesSection()
    inputs: InputsSection = InputsSection()
    approval: ApprovalSection = ApprovalSection()
    spending: SpendingSection = SpendingSection()
    credentials: CredentialsSection = CredentialsSection()
    guard: GuardSection = GuardSection()
    http: HttpSection = HttpSection()
    serve: ServeSection = ServeSection()
    team: TeamSection = TeamSection()

    def provider(self, name: str) -> ProviderSettings:
        """Return a provider's section."""
        return cast("ProviderSettings", getattr(self, name))

    @property
    def state_dir(self) -> Path:
        """The folder of the journal."""
        if self.jobs.state_dir is not None:
            return self.jobs.state_dir
        import platformdirs  # noqa: PLC0415 -- start-up pays for it only where it is needed

        return platformdirs.user_state_path("darkroom", appauthor=False)

    @property
    def results_folder(self) -> Path:
        """The folder of the results."""
        if self.results.folder is not None:
            return self.results.folder
        import platformdirs  # noqa: PLC0415 -- start-up pays for it only where it is needed

        return platformdirs.user_pictures_path() / "Darkroom"

    @property
    def file_roots(self) -> tuple[Path, ...]:
        """The folders that results may be copied into, resolved; the first is the default."""
        if self.files.roots:
            return tuple(root.resolve() for root in self.files.roots)
        started_in, results = Path.cwd().resolve(), self.results_folder.resolve()
        too_wide = started_in in {Path(started_in.anchor), Path.home().resolve()}
        return (results,) if too_wide else (started_in, results)


def model(providers: Iterable[Provider]) -> type[Settings]:
    """Return the settings model with a section for each provider."""
    providers = tuple(providers)
    sections: dict[str, Any] = {
        provider.name: (provider.settings, provider.settings()) for provider in providers
    }
    caps = _spending(providers)
    person = create_model(
        "PersonSpending",
        __base__=SpendingSection,
        **{name: field for name, field in caps.items() if not name.endswith("_price")},
    )
    each = Field(default=person(), description="Caps for each person of a team.")
    spending = create_model("Spending", __base__=SpendingSection, **caps, person=(person, each))
    sections["spending"] = (spending, spending())
    return create_model("Settings", __base__=Settings, **sections)


def _spending(providers: Iterable[Provider]) -> dict[str, Any]:
    """Return the caps and the price for each unit of each provider."""
    amount: Any = Optional[Annotated[float, Field(ge=0)]]  # noqa: UP045 -- a value, not a hint
    fields: dict[str, Any] = {}
    for provider in providers:
        for unit in provider.units:
            name = f"{provider.name}_{unit}"
            what = f"{unit} of {provider.title}"
            for period, words in _PERIODS.items():
                fields[f"{name}_per_{period}"] = (
                    amount,
                    Field(default=None, description=f"Most {what} {words}."),
                )
            price = provider.prices.get(unit)
            known = f" Without it: {price:g}, as documented." if price is not None else ""
            fields[f"{name}_price"] = (
                amount,
                Field(default=None, description=f"Price of one of the {what}.{known}"),
            )
    return fields


def load(
    providers: Sequence[Provider],
    environment: Mapping[str, str],
    *,
    tools: Iterable[str] = (),
    overrides: Mapping[str, object] | None = None,
) -> Settings:
    """Read the settings.

    ``tools`` are the names of the tools that belong to no provider. ``overrides`` are sections as
    nested mappings, from the command line.

    Raises
    ------
    ConfigurationError: naming every mistake.
    """
    path_text = environment.get(CONFIG_VARIABLE)
    if path_text and (mistake := unfilled(CONFIG_VARIABLE, path_text)):
        raise ConfigurationError(mistake)
    path = Path(path_text).expanduser() if path_text else None
    from_file = _read_file(path, providers) if path is not None else {}
    kind = model(providers)
    values = merge(from_file, _read_variables(environment, providers))
    values = merge(values, _read_environment(environment, kind))
    values = merge(values, dict(overrides or {}))
    mistakes = list(_unfilled(from_file, environment, overrides or {}, providers, path))
    reading = Reading(path.parent if path else Path(), names_of(providers, tools))
    try:
        settings = kind.model_validate(values, context=reading)
    except ValidationError as error:
        mistakes += [
            _describe(cast("Mapping[str, Any]", entry), path, environment, kind)
            for entry in error.errors(include_url=False)
        ]
    else:
        if not mistakes:
            return settings
    raise ConfigurationError("\n".join(dict.fromkeys(mistakes)))


def _unfilled(
    from_file: Mapping[str, object],
    environment: Mapping[str, str],
    overrides: Mapping[str, object],
    providers: Sequence[Provider],
    path: Path | None,
) -> Iterator[str]:
    """Yield an error for every setting whose value contains a template, wherever it was set.

    A provider's own variable that is nothing but a template counts as not set: this is how hosts
    pass on an optional field that was left empty.
    """
    given = [(f"{path}: {key}", text) for key, text in texts(from_file)]
    given += [(v, t) for v, t in environment.items() if v.startswith(PREFIX) and DELIMITER in v]
    for provider in providers:
        for variable in provider.variables:
            found = read_variable(environment, variable)
            if not isinstance(found, Missing):
                given.append((found[1], found[0]))
    given += texts(overrides)
    yield from (mistake for where, text in given if (mistake := unfilled(where, text)))


def _read_file(path: Path, providers: Sequence[Provider]) -> dict[str, object]:
    import tomllib  # noqa: PLC0415 -- start-up pays for it only where there is a file

    try:
        values: dict[str, object] = tomllib.loads(read_text(path))
    except OSError as error:
        reason = error.strerror or type(error).__name__
        raise ConfigurationError(
            f"{path}: cannot be read ({reason}); {CONFIG_VARIABLE} names it"
        ) from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigurationError(f"{path}: not valid TOML: {error}") from None
    variables = [c.variable for provider in providers for c in provider.credentials]
    for key, value in leaves(values):
        name = key.rpartition(".")[2]
        looks_secret = (
            name.upper() in variables
            or _SECRET_NAME.search(name)
            or (isinstance(value, str) and _SECRET_VALUE.match(value))
        )
        if looks_secret:
            section = key.partition(".")[0]
            belongs = next((v for v in variables if v.lower().startswith(section)), "its variable")
            raise ConfigurationError(
                f"{path}: {key} looks like a secret, and secrets do not belong in this file; "
                f"set {belongs} in the environment, or {belongs}_FILE to a file that holds it"
            )
    return values


def _read_environment(environment: Mapping[str, str], kind: type[Settings]) -> dict[str, object]:
    values: dict[str, object] = {}
    for variable, text in environment.items():
        if not variable.startswith(PREFIX) or DELIMITER not in variable or not text.strip():
            continue
        path = variable.removeprefix(PREFIX).lower().split(DELIMITER)
        if path[0] not in kind.model_fields:
            near = nearest(path[0], kind.model_fields)
            hint = f"; did you mean {PREFIX}{near.upper()}{DELIMITER}…?" if near else ""
            raise ConfigurationError(f"{variable}: there is no section [{path[0]}]{hint}")
        target = values
        for part in path[:-1]:
            target = cast("dict[str, object]", target.setdefault(part, {}))
        target[path[-1]] = _parse(text)
    return values


def _read_variables(
    environment: Mapping[str, str], providers: Sequence[Provider]
) -> dict[str, object]:
    """Read the providers' own variables; one that cannot be read counts as not set."""
    values: dict[str, object] = {}
    for provider in providers:
        found = {
            setting: read_variable(environment, variable)
            for variable, setting in provider.variables.items()
        }
        given = {name: read[0] for name, read in found.items() if not isinstance(read, Missing)}
        if given:
            values[provider.name] = given
    return values


def _parse(text: str) -> object:
    """Return the value of a variable: JSON for lists and tables, otherwise the text itself."""
    if text[:1] in "[{":
        try:
            return cast("object", json.loads(text))
        except ValueError:
            return text
    return text


def _describe(
    entry: Mapping[str, Any],
    path: Path | None,
    environment: Mapping[str, str],
    kind: type[Settings],
) -> str:
    location = [str(part) for part in entry["loc"] if part != "[key]"]
    key = ".".join(location)
    # A variable may hold the whole list or table that the mistake is in.
    own, *holders = (
        PREFIX + DELIMITER.join(location[:length]).upper() for length in range(len(location), 0, -1)
    )
    variable = next((each for each in holders if each in environment), None)
    if own in environment:
        where = own
    elif variable is not None:
        where = f"{variable}: {key}"
    elif path is not None:
        where = f"{path}: {key}"
    else:
        where = key
    if entry["type"] == "unknown_name":
        return f"{where}: {entry['msg']}"
    if entry["type"] != "extra_forbidden":
        got = repr(entry.get("input"))
        shown = got if len(got) <= 60 else got[:57] + "..."  # noqa: PLR2004 -- one line
        return f"{where}: {str(entry['msg']).lower()}, got {shown}"
    section: object = kind
    for part in location[:-1]:
        fields = getattr(section, "model_fields", {})
        named = get_args(section)  # a table of sections, by names of the person's own
        section = named[-1] if named else getattr(fields.get(part), "annotation", None)
    fields = getattr(section, "model_fields", {})
    near = nearest(location[-1], fields)
    known = f"did you mean '{near}'?" if near else f"known here: {', '.join(sorted(fields))}"
    return f"{where}: there is no such key; {known}"
