"""The command `darkroom`: parses the arguments, then imports the module of the subcommand.

Exit status: 0 success, 1 failure, 2 the command line or the configuration is wrong.
"""

from __future__ import annotations

import argparse
import io
import os
import sys
from contextlib import suppress
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING

from darkroom import __version__

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

SANDBOX = "use the providers' emulators inside this process: no key, no network, no cost"
USAGE_ERROR = 2
LAST_PORT = 65_535
HOST_NAMES = (
    "claude-desktop",
    "claude-code",
    "cursor",
    "vscode",
    "codex",
    "gemini-cli",
    "opencode",
    "windsurf",
    "zed",
    "lm-studio",
    "goose",
    "continue",
)


def parser() -> argparse.ArgumentParser:
    """Return the grammar of the command line."""
    top = argparse.ArgumentParser(
        prog="darkroom",
        description="An MCP server for hosted image, video, try-on and policy services.",
        epilog="Credentials and settings come from the environment; `darkroom doctor` says which "
        "are found. `darkroom COMMAND --help` explains a command.",
    )
    top.add_argument("--version", action="version", version=f"darkroom {__version__}")
    commands = top.add_subparsers(dest="command", metavar="COMMAND", required=True)

    def command(name: str, summary: str, more: str = "") -> argparse.ArgumentParser:
        description = f"{summary[0].upper()}{summary[1:]}. {more}".rstrip()
        return commands.add_parser(name, help=summary, description=description)

    serve = command(
        "serve",
        "serve MCP over standard input and output, for a host's configuration, or over HTTP",
        "Lists the tools of the providers whose credentials are set in the environment.",
    )
    serve.add_argument("--sandbox", action="store_true", help=SANDBOX)
    _add_filters(serve)
    serve.add_argument(
        "--http",
        action="store_true",
        help="serve Streamable HTTP at /mcp instead; clients need the token, whose file "
        "`darkroom doctor` names",
    )
    serve.add_argument(
        "--host", help="address to listen at with --http (default: 127.0.0.1, this machine only)"
    )
    serve.add_argument(
        "--port", type=_port, help="port with --http; 0 takes a free one (default: 8811)"
    )

    serve.add_argument(
        "--root",
        action="append",
        type=_folder,
        metavar="FOLDER",
        help="folder in which save_results may write, instead of [files] roots; may be given "
        "several times; relative targets go into the first one",
    )

    demo = command(
        "demo",
        "run a server and a client on the sandbox and show results",
        "Takes less than a minute and needs no key and no network.",
    )
    demo.add_argument(
        "--out",
        metavar="FOLDER",
        default="demo-output",
        help="where pictures and the contact sheet go (default: %(default)s)",
    )

    doctor = command(
        "doctor",
        "check credentials, addresses, folders and settings",
        "Sends one free request to each provider that is configured. Exit status 0 only if "
        "everything that is configured works.",
    )
    doctor.add_argument("--sandbox", action="store_true", help=SANDBOX)
    doctor.add_argument("--json", action="store_true", help="print the findings as JSON")

    tools = command("tools", "list the tools and how many tokens each costs a model")
    tools.add_argument(
        "--all", action="store_true", help="also list tools of providers without a credential"
    )
    tools.add_argument("--sandbox", action="store_true", help=SANDBOX)
    tools.add_argument("--json", action="store_true", help="print names, texts and schemas as JSON")

    call = command(
        "call",
        "call one tool, and print the same result that a chat would get",
        "The result goes to standard output as JSON, an error to standard error. "
        "Exit status: 0 success, 1 error of the tool, 2 wrong command line.",
    )
    call.add_argument("tool", metavar="TOOL", help="a name that `darkroom tools` lists")
    call.add_argument(
        "arguments",
        metavar="JSON",
        nargs="?",
        help="the arguments as a JSON object, or - to read it from standard input (default: {})",
    )
    call.add_argument("--wait", action="store_true", help="wait until the started job has ended")
    call.add_argument("--yes", action="store_true", help="answer yes if the tool asks for approval")
    call.add_argument("--sandbox", action="store_true", help=SANDBOX)

    opens = command(
        "open",
        "show results with the viewer of the system",
        "Opens a job's picture, or the folder of several; sends and downloads nothing.",
    )
    opens.add_argument(
        "what",
        metavar="JOB|BATCH|today",
        nargs="?",
        help="an id that list_jobs shows, or today (default: today's folder, or that of all)",
    )
    opens.add_argument("--print", action="store_true", help="print the path and open nothing")

    for name, summary, more in (
        (
            "install",
            "put this server into a host's configuration",
            "Shows the change and asks before writing it; the rest of the file is not changed.",
        ),
        ("uninstall", "take this server out of a host's configuration", ""),
    ):
        changing = command(name, summary, more)
        changing.add_argument(
            "host", metavar="HOST", choices=HOST_NAMES, help=", ".join(HOST_NAMES)
        )
        changing.add_argument(
            "--name",
            type=_server_name,
            default="darkroom",
            help="name of the entry (default: darkroom)",
        )
        changing.add_argument(
            "--project", action="store_true", help="change the file of the project in this folder"
        )
        changing.add_argument("--yes", action="store_true", help="do not ask")
        if name == "install":
            changing.add_argument(
                "--print", action="store_true", help="print the entry and write nothing"
            )
            changing.add_argument(
                "--with-keys",
                action="store_true",
                help="write the keys into the file, where everybody who can read it sees them",
            )
            changing.add_argument(
                "--ask-keys",
                action="store_true",
                help="ask for each missing key, without showing it, and keep it in a file for you "
                "alone that the entry names",
            )
            changing.add_argument(
                "--http",
                nargs="?",
                const="http://127.0.0.1:8811/mcp",
                metavar="URL",
                help="an entry for a server that runs over HTTP, with the token from the variable "
                "DARKROOM_TOKEN (default: %(const)s)",
            )
            changing.add_argument("--sandbox", action="store_true", help=SANDBOX)
            _add_filters(changing)

    sandbox = command(
        "sandbox",
        "serve the emulators on a loopback port, for any client",
        "Prints the variables that point a client to it. Ctrl-C ends it.",
    )
    sandbox.add_argument(
        "--port", type=_port, default=8765, help="0 takes a free one (default: %(default)s)"
    )
    sandbox.add_argument(
        "--time-scale",
        type=_positive,
        default=1.0,
        metavar="FACTOR",
        help="factor on the duration of jobs; 1 is the documented duration (default)",
    )
    sandbox.add_argument(
        "--control",
        action="store_true",
        help="allow faults to be planned with POST /_control/faults, and /_control/requests and "
        "/_control/charges to be read",
    )
    return top


def _add_filters(command: argparse.ArgumentParser) -> None:
    for name, what in (
        ("providers", "only the tools of these providers, and tools that belong to no provider"),
        ("tools", "only these tools"),
        ("exclude", "not these tools"),
    ):
        command.add_argument(
            f"--{name}", type=_names, metavar="NAME,...", help=f"{what}; * is a wildcard"
        )
    command.add_argument(
        "--read-only", action="store_true", help="only tools that change nothing and cost nothing"
    )


def _folder(text: str) -> str:
    if not Path(text.strip()).expanduser().is_dir() or not text.strip():
        raise argparse.ArgumentTypeError(f"expected a folder that exists, got {text!r}")
    return text


def _names(text: str) -> tuple[str, ...]:
    names = tuple(name.strip() for name in text.split(",") if name.strip())
    if not names:  # an empty filter would list the tools that somebody wanted to exclude
        raise argparse.ArgumentTypeError("expected names, got none")
    return names


def _server_name(text: str) -> str:
    if not text.isascii() or not text.replace("-", "").replace("_", "").isalnum():
        raise argparse.ArgumentTypeError(f"expected letters, digits, - and _, got {text!r}")
    return text


def _port(text: str) -> int:
    if not text.isdecimal() or int(text) > LAST_PORT:
        raise argparse.ArgumentTypeError(f"expected a number from 0 to {LAST_PORT}, got {text!r}")
    return int(text)


def _positive(text: str) -> float:
    with suppress(ValueError):
        number = float(text)
        if 0 < number < float("inf"):
            return number
    raise argparse.ArgumentTypeError(f"expected a number above 0, got {text!r}")


def parse(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """Read a command line; options may stand before the JSON of a call, too.

    Before Python 3.13 argparse takes an optional argument for left out as soon as an option stands
    before it, and then does not know what to do with it.
    """
    whole = parser()
    options, rest = whole.parse_known_args(arguments)
    if options.command == "call" and options.arguments is None:
        late = rest and (rest[0] == "-" or not rest[0].startswith("-"))
        options.arguments = rest.pop(0) if late else "{}"
    if rest:
        whole.error(f"unrecognized arguments: {' '.join(rest)}")
    return options


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; return its exit status."""
    # pydantic looks for plugins in every installed package, which takes 15 ms; none is used here.
    os.environ.setdefault("PYDANTIC_DISABLE_PLUGINS", "1")
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # an old console must not end what was paid for
            stream.reconfigure(errors="backslashreplace")
    try:
        options = parse(arguments)
    except SystemExit as ended:
        return ended.code if isinstance(ended.code, int) else USAGE_ERROR
    from darkroom.core.errors import ConfigurationError  # noqa: PLC0415 -- --help needs nothing

    run: Callable[[argparse.Namespace], int]
    run = import_module(f"darkroom.cli.{options.command}").run
    try:
        return run(options)
    except ConfigurationError as error:
        for line in str(error).splitlines():
            print(f"darkroom: {line}", file=sys.stderr)
        return USAGE_ERROR
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:  # whoever read the output has gone: `darkroom tools | head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        return 1
