"""The shipped command with an eye inside: at SIGUSR1 it writes down what its process holds.

``python -m tests.soak.inside serve ...`` is ``darkroom serve ...``. The figures go to the pipe that
``SOAK_FIGURES`` names, a line of JSON each time.
"""

from __future__ import annotations

import asyncio
import ctypes
import gc
import json
import os
import re
import signal
import sys
import threading
from collections import Counter
from pathlib import Path

from darkroom.cli.command_line import main

FIGURES = "SOAK_FIGURES"
NUMBERED = re.compile(r"[-_\d]+$")


def tell(loop: asyncio.AbstractEventLoop) -> None:
    """Throw away what is garbage, give free memory back, and write down what is left."""
    gc.collect()
    if sys.platform == "linux":
        ctypes.CDLL(None).malloc_trim(0)
    tasks = asyncio.all_tasks(loop)
    figures = {
        "tasks": Counter(NUMBERED.sub("", task.get_name()) for task in tasks),
        "threads": Counter(NUMBERED.sub("", thread.name) for thread in threading.enumerate()),
        "blocks": sys.getallocatedblocks(),
    }
    with Path(os.environ[FIGURES]).open("w", encoding="utf-8") as pipe:
        pipe.write(json.dumps(figures) + "\n")


def asked(number: int, frame: object) -> None:
    """Let the event loop answer, between two of its steps."""
    del number, frame
    loop = asyncio.get_running_loop()
    loop.call_soon_threadsafe(tell, loop)


if __name__ == "__main__":
    signal.signal(signal.SIGUSR1, asked)
    sys.exit(main())
