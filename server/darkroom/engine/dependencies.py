"""What the machine takes from outside, so that tests can give it other things."""

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
    """Clock, chance, ways out.

    ``clock``: seconds since the epoch. ``monotonic``: the clock that all processes of the machine
    share, whatever happens to the other. ``run``: where blocking work is done; None: threads.
    ``transport``: the way to the providers; None: the network. ``sandbox``: answers for
    ``*.sandbox.test``, addresses to download included. ``open_storage`` replaces the journal,
    the locks and the shared limits that come with it.
    ``stopping`` is set when the process is asked to end. ``time_scale`` is a factor on how long
    jobs are expected to take: the embedded sandbox is faster than the providers.
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
