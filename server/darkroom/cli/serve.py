"""`darkroom serve`: MCP over standard input and output, or over HTTP."""

from __future__ import annotations

import gc
import os
import sys
from typing import TYPE_CHECKING

from darkroom.core.errors import ConfigurationError

if TYPE_CHECKING:
    import argparse
    from typing import NoReturn


def run(options: argparse.Namespace) -> NoReturn:
    """Serve until the host closes the input or a signal comes, then end the process.

    Raises
    ------
    ConfigurationError: the server was not started.
    """
    if not options.http and not (options.host is None and options.port is None):
        raise ConfigurationError("--host and --port belong to --http")
    gc.disable()  # garbage collection while a thousand modules are imported takes a fifth of the start
    import anyio  # noqa: PLC0415 -- after gc.disable()
    from pydantic import BaseModel  # noqa: PLC0415 -- after gc.disable()

    # The SDK has 500 models, of which a host needs a few: build each when it is first used.
    BaseModel.model_config["defer_build"] = True

    from darkroom.cli.context import given_settings, prepare  # noqa: PLC0415 -- after gc.disable()
    from darkroom.mcp.build import build_server  # noqa: PLC0415 -- after gc.disable()

    stopping = anyio.Event()
    context = prepare(sandbox=options.sandbox, stopping=stopping, given=given_settings(options))
    server = build_server(context.settings, context.catalogues, context.dependencies)
    gc.enable()
    gc.freeze()
    if options.http:
        from darkroom.mcp.http import connections  # noqa: PLC0415 -- as below
        from darkroom.mcp.http import server as web  # noqa: PLC0415 -- only where it is asked for

        host = options.host or web.DEFAULT_HOST
        port = web.DEFAULT_PORT if options.port is None else options.port
        anyio.run(
            *(web.serve_http, server, context.settings, host, port, stopping),
            backend_options=connections.event_loop(),
        )
    else:
        from darkroom.mcp.stdio import serve  # noqa: PLC0415 -- only where it is asked for

        anyio.run(serve, server, stopping)
    # A thread may still wait for input, or for a host that does not read: do not wait for it.
    sys.stderr.flush()
    os._exit(0)
