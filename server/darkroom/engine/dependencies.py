"""What is passed to the engine from outside, so that tests can replace it."""

from __future__ import annotations

import random
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from darkroom.core.ids import new_id

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping

    import anyio
    import httpx2

    from darkroom.config.settings import Settings
    from darkroom.core.executor import Executor
    from darkroom.jobs.store import Storage


@dataclass(frozen=True, kw_only=True)
class Dependencies:
    """Clocks, randomness, transports and other replaceable parts.

    ``clock``: seconds since the epoch. ``monotonic``: the system's monotonic clock, which all
    processes share. ``run``: the executor for blocking work; None: threads. ``transport``: the HTTP
    transport to the providers; None: the network. ``sandbox``: the transport for
    ``*.sandbox.test``, also for downloads. ``open_storage`` replaces the journal, and the locks and
    shared limits that belong to it. ``stopping`` is set when the process is asked to end.
    ``time_scale`` is a factor on the expected duration of jobs, because the embedded sandbox is
    faster than the providers.
    """

    environment: Mapping[str, str] = field(repr=False)
    clock: Callable[[], float] = time.time
    monotonic: Callable[[], float] = time.monotonic
    chance: random.Random = field(default_factory=random.SystemRandom)
    new_id: Callable[[], str] = new_id
    run: Executor | None = None
    transport: httpx2.AsyncBaseTransport | None = None
    sandbox: httpx2.AsyncBaseTransport | None = None
    open_storage: Callable[[Settings], Awaitable[Storage]] | None = None
    stopping: anyio.Event | None = None
    time_scale: float = 1.0
