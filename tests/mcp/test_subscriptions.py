"""Who is told that a job has changed, in the older era: connections that come, stall and go."""

from __future__ import annotations

from contextlib import AsyncExitStack
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, cast

import anyio
import pytest
from mcp.shared.exceptions import MCPError

from darkroom.jobs.model import LOCAL_OWNER
from darkroom.jobs.view import job_uri
from darkroom.mcp.subscriptions import MOST_ADDRESSES, Changes

if TYPE_CHECKING:
    from collections.abc import Callable

    from mcp.server.subscriptions import ResourceUpdated, ServerEvent

pytestmark = pytest.mark.anyio

URI = job_uri("zsky_x")


class Connected:
    """A connection of the SDK's, as far as it is needed here; it may never take anything."""

    def __init__(self, *, stalled: bool = False) -> None:
        self.exit_stack = AsyncExitStack()
        self.callbacks = 0
        self.heard: list[str] = []
        self.news = anyio.Event()
        self._stalled = stalled
        callback = self.exit_stack.callback

        def counted(*given: Any) -> Any:
            self.callbacks += 1
            return callback(*given)

        self.exit_stack.callback = counted

    async def send_resource_updated(self, uri: str) -> None:
        if self._stalled:
            await anyio.sleep_forever()
        self.heard.append(uri)
        self.news.set()

    @property
    def session(self) -> Any:
        return SimpleNamespace(_connection=self)


class Machine:
    """A machine that tells of changes when it is told to."""

    def __init__(self) -> None:
        self.changed: Callable[[Any], None] = lambda _: None

    def watch(self, changed: Callable[[Any], None]) -> None:
        self.changed = changed


async def test_a_host_that_takes_nothing_holds_up_no_other(clock: Callable[[], float]) -> None:
    del clock
    changes, engine = Changes(), Machine()
    stalled = [Connected(stalled=True) for _ in range(3)]
    other = Connected()
    async with changes.told_by(cast("Any", engine)):
        for connection in (*stalled, other):
            changes.subscribed(URI, LOCAL_OWNER, connection.session)
        engine.changed(SimpleNamespace(job_id="zsky_x", owner=LOCAL_OWNER))
        with anyio.fail_after(60):
            await other.news.wait()
    assert other.heard == [URI]


async def test_coming_and_going_leaves_nothing_behind(clock: Callable[[], float]) -> None:
    del clock
    changes, engine, connection = Changes(), Machine(), Connected()
    async with changes.told_by(cast("Any", engine)):
        for _ in range(100):
            changes.subscribed(URI, LOCAL_OWNER, connection.session)
            changes.unsubscribed(URI, LOCAL_OWNER, connection.session)
        assert connection.callbacks == 1
        changes.subscribed(URI, LOCAL_OWNER, connection.session)
        await connection.exit_stack.aclose()
        engine.changed(SimpleNamespace(job_id="zsky_x", owner=LOCAL_OWNER))
        await anyio.sleep(60)
    assert connection.heard == []


async def test_a_connection_is_told_of_so_many_jobs_and_no_more(
    clock: Callable[[], float],
) -> None:
    del clock
    changes, connection = Changes(), Connected()
    for number in range(MOST_ADDRESSES):
        changes.subscribed(job_uri(f"zsky_{number}"), LOCAL_OWNER, connection.session)
    changes.subscribed(job_uri("zsky_0"), LOCAL_OWNER, connection.session)
    with pytest.raises(MCPError, match="unsubscribe first"):
        changes.subscribed(URI, LOCAL_OWNER, connection.session)
    changes.unsubscribed(job_uri("zsky_0"), LOCAL_OWNER, connection.session)
    changes.subscribed(URI, LOCAL_OWNER, connection.session)


async def test_nobody_hears_of_another_persons_job(clock: Callable[[], float]) -> None:
    """Subscribing succeeds as for an id that does not exist; nothing is heard."""
    del clock
    changes, engine, mine, theirs = Changes(), Machine(), Connected(), Connected()
    heard: list[ServerEvent] = []
    async with changes.told_by(cast("Any", engine)):
        changes.subscribed(URI, "anna", mine.session)
        changes.subscribed(URI, "bert", theirs.session)
        changes.subscribe(heard.append)  # a stream of the one person
        engine.changed(SimpleNamespace(job_id="zsky_x", owner="anna"))
        with anyio.fail_after(60):
            await mine.news.wait()
        engine.changed(SimpleNamespace(job_id="zsky_y", owner=LOCAL_OWNER))
        await anyio.sleep(60)
    assert mine.heard == [URI]
    assert theirs.heard == []
    assert [cast("ResourceUpdated", each).uri for each in heard] == [job_uri("zsky_y")]
