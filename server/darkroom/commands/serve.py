"""`darkroom serve`: MCP over standard input and output."""

from __future__ import annotations

import gc
import os
import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import argparse
    from typing import NoReturn


def run(options: argparse.Namespace) -> NoReturn:
    """Serve until the host closes our input or a signal comes; ends the process."""
    gc.disable()  # collecting while a thousand modules are imported costs a fifth of the start
    import anyio  # noqa: PLC0415 -- after gc.disable()

    from darkroom.app import build_server  # noqa: PLC0415 -- after gc.disable()
    from darkroom.commands.setting import prepare  # noqa: PLC0415 -- after gc.disable()
    from darkroom.stdio import serve  # noqa: PLC0415 -- after gc.disable()

    stopping = anyio.Event()
    setting = prepare(sandbox=options.sandbox, stopping=stopping)
    server = build_server(setting.settings, setting.catalogues, setting.world)
    gc.enable()
    gc.freeze()
    anyio.run(serve, server, stopping)
    # A thread may still wait for input or for a host that does not read: it would hold us for ever.
    sys.stderr.flush()
    os._exit(0)
