"""`darkroom sandbox`: the emulators on a loopback port."""

from __future__ import annotations

import os
import shlex
import signal
import sys
from typing import TYPE_CHECKING

import anyio

from darkroom.catalogue.loading import load_catalogues
from darkroom.cli.context import log_to_stderr

if TYPE_CHECKING:
    import argparse
    from collections.abc import Mapping

    from darkroom.catalogue.declarations import ServeSandbox


def run(options: argparse.Namespace) -> int:
    """Serve until Ctrl-C or SIGTERM."""
    log_to_stderr()
    serve = next((c.serve_sandbox for c in load_catalogues() if c.serve_sandbox is not None), None)
    if serve is None:
        sys.stderr.write("darkroom: no catalogue that is installed has a sandbox\n")
        return 1
    # At a signal the web server shuts down in order, and then raises the signal again.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        anyio.run(_serve, serve, options)
    except KeyboardInterrupt:
        return 0
    except OSError as error:
        reason = error.strerror or type(error).__name__
        sys.stderr.write(f"darkroom: port {options.port} cannot be used: {reason}\n")
        return 1
    return 0


async def _serve(serve: ServeSandbox, options: argparse.Namespace) -> None:
    await serve(
        port=options.port,
        time_scale=options.time_scale,
        control=options.control,
        ready=lambda index, variables: _announce(index, variables, control=options.control),
    )


def _announce(index: str, variables: Mapping[str, str], *, control: bool) -> None:
    """Print the variables for the shell in which a client runs."""
    set_ = "set " if os.name == "nt" else "export "
    comment = "rem" if os.name == "nt" else "#"
    lines = [f"{comment} The sandbox answers at {index} (Ctrl-C ends it). For any client:"]
    lines += [f"{set_}{name}={shlex.quote(value)}" for name, value in variables.items()]
    if control:
        lines.append(f"{comment} Faults: POST {index}_control/faults")
    sys.stdout.write("\n".join(lines) + "\n")
    sys.stdout.flush()
