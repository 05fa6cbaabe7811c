"""The parts of the documents that are made from the code, so that they cannot drift from it.

Such a part stands between ``<!-- made: NAME -->`` and ``<!-- end -->``. ``python -m
tests.project.documents --write`` rewrites them all; without ``--write`` it names the outdated files.
"""

from __future__ import annotations

import ast
import json
import re
import sys
import textwrap
import tomllib
from functools import cache
from itertools import pairwise
from pathlib import Path
from types import NoneType, UnionType
from typing import TYPE_CHECKING, Annotated, Any, Literal, Union, cast, get_args, get_origin

from benchmarks.plots import plots
from benchmarks.report import Report
from pydantic import BaseModel

from darkroom.cli.command_line import parser
from darkroom.cli.token_count import tool_tokens
from darkroom.config.settings import model
from darkroom.providers.operations import CallOperation, JobOperation
from tests.project import limits
from tests.project.requirements import PROMISES
from tests.snapshots import EVERYTHING, every_tool

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from pydantic.fields import FieldInfo

    from darkroom.providers.provider import Provider

ROOT = Path(__file__).parents[2]
README = ROOT / "README.md"
DOCUMENTS = (README, ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md")))
NOTHING = "–"  # noqa: RUF001 -- a dash, as tables have it
EXAMPLE = ROOT / "config.example.toml"
RESULTS = ROOT / "benchmarks" / "RESULTS.json"
PAGE = RESULTS.with_suffix(".md")
PLOTS = ROOT / "docs" / "plots"
PART = re.compile(r"<!-- made: (?P<name>[^>]+?) -->\n.*?<!-- end -->", re.DOTALL)
SETTINGS = model(EVERYTHING.providers)


def table(head: tuple[str, ...], rows: list[tuple[str, ...]]) -> str:
    """Return a table in Markdown."""
    lines = [head, ("---",) * len(head), *rows]
    return "\n".join(
        "| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in lines
    )


# --- tools ---


def tools() -> str:
    """Return a table of the tools for each provider, and one of those that belong to none."""
    groups = {
        provider.title: [o.name for o in provider.operations] for provider in EVERYTHING.providers
    }
    groups["Any provider"] = [tool.name for tool in EVERYTHING.tools]
    return "\n\n".join(f"**{title}**\n\n{tool_table(names)}" for title, names in groups.items())


def tool_table(names: list[str]) -> str:
    """Return the table of some tools."""
    rows: list[tuple[str, ...]] = []
    for name in names:
        tool = every()[name]
        tokens = tool_tokens(name, tool.description or "", tool.input_schema)
        rows.append(
            (f"`{name}`", tool.description or "", arguments(tool.input_schema), str(tokens))
        )
    return table(("tool", "what it does", "arguments", "tokens"), rows)


@cache
def every() -> Mapping[str, Any]:
    """Return every tool as hosts are told of it."""
    return every_tool()


def arguments(schema: Mapping[str, Any]) -> str:
    """Name the arguments; a question mark stands after one that may be left out."""
    required = schema.get("required", [])
    names = sorted(schema["properties"], key=lambda name: name not in required)
    return ", ".join(f"`{name}{'' if name in required else '?'}`" for name in names) or NOTHING


def asking() -> str:
    """Name the tools that ask the person first."""
    operations = [o for provider in EVERYTHING.providers for o in provider.operations]
    names = [o.name for o in operations if isinstance(o, CallOperation) and o.asks]
    return ", ".join(f"`{name}`" for name in names)


def costing() -> str:
    """Name the tools that cost something."""
    operations = [o for provider in EVERYTHING.providers for o in provider.operations]
    return ", ".join(f"`{o.name}`" for o in operations if isinstance(o, JobOperation))


# --- configuration ---


def credentials() -> str:
    """Return the table of the variables by which a provider is reached."""
    rows = [
        (
            f"[{provider.title}]({provider.documentation})",
            "<br>".join(f"`{credential.variable}`" for credential in provider.credentials),
            "<br>".join(f"`{name}`" for name in provider.variables) or NOTHING,
            f"`{provider.base_url_variable}` = {provider.base_url}",
        )
        for provider in EVERYTHING.providers
    ]
    return table(("provider", "credential", "optional", "base address"), rows)


def settings() -> str:
    """Return the table of all settings; those that each unit of each provider has stand once."""
    rows: dict[tuple[str, ...], None] = {}
    for path, field in keys():
        key, meaning = path, field.description or ""
        for provider, unit in units():
            key = key.replace(f".{provider.name}_{unit}_", ".<provider>_<unit>_")
            meaning = meaning.replace(f"{unit} of {provider.title}", "units of a provider")
            meaning = re.sub(r"(?<=of a provider\.) Without it: .*", "", meaning)
        rows[f"`{key}`", kind_of(field.annotation), shown_default(field), meaning] = None
    return table(("setting", "kind", "default", "meaning"), list(rows))


def units() -> list[tuple[Provider, str]]:
    """Return the units that providers charge in."""
    return [(provider, unit) for provider in EVERYTHING.providers for unit in provider.units]


def unit_names() -> str:
    """Name the units as the settings do."""
    return ", ".join(f"`{provider.name}_{unit}`" for provider, unit in units())


def keys(kind: type[BaseModel] = SETTINGS, above: str = "") -> Iterator[tuple[str, FieldInfo]]:
    """Yield every key with its path; a table that the person names stands as ``<name>``."""
    for name, field in kind.model_fields.items():
        inner = section_in(field.annotation)
        if inner is None:
            yield f"{above}{name}", field
        else:
            named = ".<name>" if get_origin(field.annotation) is not None else ""
            yield from keys(inner, f"{above}{name}{named}.")


def section_in(annotation: object) -> type[BaseModel] | None:
    """Return the section that a key stands for, if it does."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    found = [section_in(inner) for inner in cast("tuple[object, ...]", get_args(annotation))]
    return next((section for section in found if section is not None), None)


def kind_of(annotation: object) -> str:
    """Say what kind of value a key takes."""
    origin, inner = get_origin(annotation), cast("tuple[object, ...]", get_args(annotation))
    if origin is Literal:
        return ", ".join(f"`{json.dumps(value)}`" for value in inner)
    if origin is Annotated:
        return kind_of(inner[0])
    if origin in (Union, UnionType):
        return " or ".join(kind_of(each) for each in inner if each is not NoneType)
    if origin in (tuple, list, frozenset):
        return f"list of {kind_of(inner[0])}"
    names = {str: "text", bool: "`true` or `false`", int: "number", float: "number", Path: "path"}
    return names.get(cast("type", annotation), "table")


def default_of(field: FieldInfo) -> object:
    """Return a default as JSON has it; None where there is none."""
    if field.is_required():
        return None
    default: object = field.get_default(call_default_factory=True)
    if isinstance(default, (tuple, frozenset)):
        return list(cast("tuple[object, ...]", default))
    return str(default) if isinstance(default, Path) else default


def shown_default(field: FieldInfo) -> str:
    """Return a default for a table."""
    default = default_of(field)
    return NOTHING if default is None else f"`{json.dumps(default)}`"


EXAMPLE_VALUES: dict[str, object] = {
    "inputs.roots": ["~/Pictures/shop"],
    "inputs.upload": "s3",
    "inputs.s3.bucket": "my-darkroom-inputs",
    "inputs.s3.endpoint": "https://s3.example.com",
    "jobs.state_dir": "~/darkroom-state",
    "results.folder": "~/Pictures/Darkroom",
    "credentials.dir": "~/.config/darkroom/keys",
    "files.roots": ["~/projects"],
    "znyx.org_id": "my-organisation",
    "znyx.project_id": "my-project",
    "zyng.workflows.<name>.workflow_details": {"steps": ["upscale"]},
    "zyng.workflows.<name>.output_details": {"format": "webp"},
    "approval.above": {"money": 1, "zsky_videos": 2},
    "approval.above_per_day": {"money": 5, "zsky_videos": 4},
    "approval.never_ask": ["zsky_delete_result"],
    "guard.provider": "znyx",
    "http.token_file": "~/.config/darkroom/http-token",
    "http.public_url": "https://pictures.example.com",
    "team.issuer": "https://login.example.com/",
    "team.admin_claim": "roles",
    "team.admin_values": ["darkroom-admins"],
    "team.scopes": ["pictures"],
}
"""What stands in the example file for settings whose default is nothing."""

EXAMPLE_HEAD = """\
# Every setting of Darkroom, with its default, or with an example where there is none. Copy what
# you want to change into a file of your own, and let DARKROOM_CONFIG name it. Each can also be given as a variable,
# DARKROOM_<SECTION>__<KEY>, which then wins. Keys and tokens do not belong here: docs/settings.md
# says which variables they are read from.
"""


def example() -> str:
    """Return ``config.example.toml``: every key, as a comment, with what it means."""
    lines = [EXAMPLE_HEAD.rstrip()]
    above = ""
    for path, field in keys():
        section, _, key = path.rpartition(".")
        if section != above:
            lines += [
                "",
                f"[{section}]"
                if "<name>" not in section
                else f"# [{section.replace('<name>', 'my-name')}]",
            ]
            above = section
        default = default_of(field)
        value = default if default or default in (0, False) else example_value(path, field)
        note = field.description or ""
        if default is None and not re.search(r"Default:|Without it:", note):
            note += " Needed." if field.is_required() else " Not set if left out."
        lines += textwrap.wrap(note, 96, initial_indent="# ", subsequent_indent="# ")
        lines.append(f"# {key} = {toml(value)}")
    return "\n".join(lines) + "\n"


def example_value(path: str, field: FieldInfo) -> object:
    """Return a value for a key whose default is nothing."""
    if path in EXAMPLE_VALUES or default_of(field) is not None:
        return EXAMPLE_VALUES.get(path, default_of(field))
    if path.endswith("_price"):
        return 0.05
    return {"number": 100}[kind_of(field.annotation)]  # a text or path has to be thought of


def toml(value: object) -> str:
    """Write a value as TOML."""
    if isinstance(value, dict):
        inside = cast("dict[str, object]", value).items()
        return "{ " + ", ".join(f"{key} = {toml(inner)}" for key, inner in inside) + " }"
    return json.dumps(value)


# --- commands ---


def commands() -> str:
    """Return the table of the commands, from the command line's own grammar."""
    rows: list[tuple[str, ...]] = []
    for name, (summary, options) in command_line().items():
        rows.append(
            (f"`darkroom {name}`", summary, ", ".join(f"`{o}`" for o in options) or NOTHING)
        )
    return table(("command", "what it does", "options"), rows)


def command_line() -> dict[str, tuple[str, list[str]]]:
    """Return what each command does, and its options; argparse has no public way to ask."""
    found: dict[str, tuple[str, list[str]]] = {}
    grammar = cast("Any", parser())
    (subparsers,) = (a for a in grammar._actions if isinstance(a.choices, dict))  # noqa: SLF001 -- see above
    for choice in subparsers._choices_actions:  # noqa: SLF001 -- see above
        actions = subparsers.choices[choice.dest]._actions  # noqa: SLF001 -- see above
        options = [option for action in actions for option in action.option_strings]
        found[choice.dest] = (choice.help, [o for o in options if o not in {"-h", "--help"}])
    return found


# --- what was measured ---


@cache
def report() -> Report:
    """Return what the last run of all benchmarks found."""
    return Report.read(RESULTS)


def in_numbers() -> str:
    """Return what was measured as plots, each with what it means."""
    return "\n\n".join(
        f"![{plot.title}](docs/plots/{name}.svg)\n\n{plot.meaning}"
        for name, plot in plots(report()).items()
    )


# --- packages ---


def layers() -> list[str]:
    """Return the packages of `darkroom` from top to bottom, as import-linter checks them."""
    contracts = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["tool"]["importlinter"]
    (found,) = (c for c in contracts["contracts"] if c.get("containers") == ["darkroom"])
    return found["layers"]


def packages() -> str:
    """Return a diagram of the packages: each imports only what is below it."""
    lines = ["```mermaid", "flowchart TD"]
    for name in layers():
        text = (ROOT / "server" / "darkroom" / name / "__init__.py").read_text("utf-8")
        summary = (ast.get_docstring(ast.parse(text)) or "").partition("\n")[0].replace("`", "")
        lines.append(f'    {name}["<b>{name}</b><br>{summary}"]')
    lines += [f"    {above} --> {below}" for above, below in pairwise(layers())]
    lines += [
        f'    darkroom_tools["<b>darkroom_tools</b><br>{TOOLS_SUMMARY}"] --> catalogue',
        "```",
    ]
    return "\n".join(lines)


TOOLS_SUMMARY = "Providers, neutral tools, gallery, sandbox, demo."


# --- promises and files ---


def promises() -> str:
    """Return the table of what is promised, and which tests hold us to it."""
    rows = [
        (f"`{name}`", promise.text, "<br>".join(f"`{test}`" for test in promise.tests))
        for name, promise in PROMISES.items()
    ]
    return table(("id", "promise", "tests"), rows)


def protections() -> str:
    """Return the table of what is promised against somebody, and which tests hold it."""
    rows = [
        (promise.against, promise.text, "<br>".join(f"`{test}`" for test in promise.tests))
        for promise in PROMISES.values()
        if promise.against is not None
    ]
    return table(("against", "promise", "tests"), sorted(rows))


def incoming_limits() -> str:
    """Return the table of the limits on what comes in."""
    return table(("what", "limit", "beyond it"), list(limits.rows()))


def file(name: str) -> str:
    """Return a file, or a section of it (``path § limits``), as a block of code."""
    path, _, section = name.partition(" § ")
    text = (ROOT / path).read_text("utf-8")
    if section:
        parts = re.split(r"^(?=# --- )", text, flags=re.MULTILINE)
        text = next(part for part in parts if part.startswith(f"# --- {section}"))
    language = {"py": "python"}.get(Path(path).suffix[1:], Path(path).suffix[1:])
    return f"```{language}\n{text.strip()}\n```"


# --- providers ---

GUESS = re.compile(r'(?:"""|# )guessed: (?P<text>.*?)(?:"""|\n(?!\s*#))', re.DOTALL)


def providers() -> str:
    """Return a chapter for each provider: what its module declares."""
    return "\n\n".join(map(chapter, EVERYTHING.providers))


def chapter(provider: Provider) -> str:
    """Return what a provider's module declares: access, limits, costs, tools, and what it guesses."""
    limits = provider.limits(provider.settings())
    windows = [f"{rate.requests} requests in {rate.seconds:g} s" for rate in limits.rates]
    if limits.concurrent_jobs is not None:
        windows.append(f"{limits.concurrent_jobs} jobs at once")
    costs = [
        f"{unit} ({provider.prices[unit]:g} US dollars each)"
        if unit in provider.prices and unit != "usd"
        else unit
        for unit in provider.units
    ]
    facts = [
        f"- Page: {provider.documentation}",
        f"- Key: {', '.join(f'`{each.variable}`' for each in provider.credentials)}",
        f"- Base address: `{provider.base_url}` (`{provider.base_url_variable}`)",
        f"- Hosts that an answer may name to ask next: {named(provider.hosts)}",
        f"- Limits: {', '.join(windows) or 'none that a page names'}",
        f"- Counted in: {', '.join(costs) or 'nothing'}",
        f"- Certain refusals: {', '.join(map(str, sorted(provider.refusals)))}",
    ]
    rows: list[tuple[str, ...]] = []
    for operation in provider.operations:
        where = NOTHING
        if isinstance(operation, CallOperation | JobOperation):
            where = f"`{operation.method} {operation.path}`"
        rows.append((f"`{operation.name}`", where, arguments(every()[operation.name].input_schema)))
    guesses = guessed(provider)
    told = [f"- {guess}" for guess in guesses] or ["- nothing that the module marks"]
    tools = table(("tool", "request", "arguments"), rows)
    lines = [f"## {provider.title}", "\n".join(facts), tools, "What is guessed:", "\n".join(told)]
    return "\n\n".join(lines)


def named(hosts: tuple[str, ...]) -> str:
    """Name hosts; a dash if there are none."""
    return ", ".join(f"`{host}`" for host in hosts) or NOTHING


def guessed(provider: Provider) -> list[str]:
    """Return what a provider's module, or the modules beside it, mark as guessed."""
    folder = ROOT / "tools" / "darkroom_tools" / "providers"
    inside = folder / provider.name
    files = sorted(inside.glob("*.py")) if inside.is_dir() else [folder / f"{provider.name}.py"]
    found = (match["text"] for path in files for match in GUESS.finditer(path.read_text("utf-8")))
    return [" ".join(text.replace("#", " ").split()) for text in found]


MAKERS: dict[str, Callable[[], str]] = {
    "tools": tools,
    "asking": asking,
    "costing": costing,
    "credentials": credentials,
    "settings": settings,
    "units": unit_names,
    "commands": commands,
    "providers": providers,
    "packages": packages,
    "promises": promises,
    "protections": protections,
    "limits": incoming_limits,
    "plots": in_numbers,
    "shortfalls": lambda: report().shortfalls(),
}
MAKERS_OF: dict[str, Callable[[str], str]] = {
    "file": file,
    "found": lambda name: report().table(name),
}
"""Makers that are told of what: ``<!-- made: file PATH -->``."""


def made(text: str) -> str:
    """Return a document with its made parts as they should be."""

    def remake(match: re.Match[str]) -> str:
        name = match["name"]
        kind, _, of = name.partition(" ")
        content = MAKERS_OF[kind](of) if of else MAKERS[name]()
        return f"<!-- made: {name} -->\n{content}\n<!-- end -->"

    return PART.sub(remake, text)


def outdated() -> dict[Path, str]:
    """Return the files that are not as they should be, with what they should be."""
    right = {path: made(path.read_text("utf-8")) for path in DOCUMENTS}
    right |= {EXAMPLE: example(), PAGE: report().page()}
    right |= {PLOTS / f"{name}.svg": plot.svg for name, plot in plots(report()).items()}
    return {
        path: new
        for path, new in right.items()
        if not path.exists() or path.read_text("utf-8") != new
    }


def write() -> list[Path]:
    """Rewrite what is outdated; return what was."""
    report.cache_clear()
    found = outdated()
    for path, new in found.items():
        path.parent.mkdir(exist_ok=True)
        path.write_text(new, "utf-8")
    return list(found)


if __name__ == "__main__":
    writing = "--write" in sys.argv[1:]
    changed = write() if writing else list(outdated())
    sys.stdout.writelines(f"{path.relative_to(ROOT)}\n" for path in changed)
    sys.exit(0 if writing or not changed else 1)
