"""The storage on a local disk: the journal, the lease files, and the files of shared limits."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from darkroom.jobs.storage.lease import FileLiveness, Lease
from darkroom.jobs.storage.sqlite import SqliteStore
from darkroom.jobs.store import Storage
from darkroom.providers.client.shared_limits import SharedLimits

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from darkroom.core.executor import Executor
    from darkroom.providers.client.rate_limiter import LimitsState
    from darkroom.providers.provider import Limits


async def open_local(
    state_dir: Path,
    *,
    run: Executor,
    journal: Executor | None = None,
    monotonic: Callable[[], float] = time.monotonic,
    shared: bool = False,
) -> Storage:
    """Take a lease in the state directory, and open the journal in it.

    ``run`` is the executor for files, ``journal`` the one for SQLite (None: a thread of its
    own). ``monotonic`` is a clock that all processes of the computer share. ``shared``: see
    `SqliteStore.open`.

    Raises
    ------
    ConfigurationError: one of them cannot be used.
    """
    lease = await run(lambda: Lease.take(state_dir))
    try:
        store = await SqliteStore.open(
            state_dir / "journal.sqlite", run=journal, holder=lease.holder, shared=shared
        )
    except BaseException:
        lease.release()
        raise

    def limits_state(provider: str, fingerprint: str, limits: Limits) -> LimitsState:
        path = state_dir / "pacing" / f"{provider}-{fingerprint}.lane"
        return SharedLimits(path, limits, monotonic)

    return Storage(store, FileLiveness(lease, state_dir, run), limits_state)
