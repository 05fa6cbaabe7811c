"""One provider as the machine deals with it: its base address, its lanes, its requests."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import anyio

from darkroom.addresses import mended
from darkroom.errors import CallError, Code, Failure, clean, failure
from darkroom.http import LostError, NotSentError, Outlet
from darkroom.jobs.attempts import NOTHING_ELSE, describe, not_sent
from darkroom.pacing import Lane

if TYPE_CHECKING:
    import random
    from collections.abc import Callable, Mapping

    from darkroom.credentials import Key, Vault
    from darkroom.jobs.model import Output
    from darkroom.jobs.schedule import Scheduler
    from darkroom.operation import Answer, Limits, Provider, Request, State
    from darkroom.pacing import Budget, Kind, Turn
    from darkroom.settings import ProviderSettings

MOST_REPEATS = 2
FIRST_BACKOFF_SECONDS = 0.5
LONGEST_WAIT_IN_CALL_SECONDS = 5.0
READ_SECONDS = 40.0
"""A read is over by then, its turns and repetitions included: every call answers within 45 s."""

TURN_SECONDS = 10.0
"""How long a change waits for its turn; its request has a deadline of its own."""
UNAUTHORIZED = 401
REPEATED_STATUSES = frozenset({408, 429, 500, 502, 503, 504})


class Channel:
    """Requests to one provider, each in its turn."""

    def __init__(
        self,
        provider: Provider,
        settings: ProviderSettings,
        outlet: Outlet,
        vault: Vault,
        schedule: Scheduler,
        chance: random.Random,
        *,
        sandbox: bool,
        budget: Callable[[str, Limits], Budget] | None = None,
    ) -> None:
        self.provider = provider
        self.settings = settings
        self.outlet = outlet
        self._vault = vault
        self.sandbox = sandbox
        self._budget = budget
        self._schedule = schedule
        self._chance = chance
        self._lanes: dict[str, Lane] = {}
        self._etags: dict[tuple[str, str], str] = {}

    def lane(self, fingerprint: str) -> Lane:
        """Return the turns of a credential."""
        lane = self._lanes.get(fingerprint)
        if lane is None:
            limits = self.provider.limits(self.settings)
            budget = self._budget(fingerprint, limits) if self._budget is not None else None
            lane = Lane(limits, self._schedule, budget)
            self._lanes[fingerprint] = lane
        return lane

    def mended(self, state: State) -> State:
        """Return a state whose addresses can be used; a warning names each that cannot be."""
        outputs: list[Output] = []
        warnings = list(state.warnings)
        for output in state.outputs:
            url, expires_at = output.url, output.expires_at
            if url is not None:
                try:
                    url = mended(url, self.outlet.base_url)
                except ValueError as error:
                    url, expires_at = None, None
                    which = clean(output.name) or output.index
                    warnings.append(
                        f"output {which} cannot be had: the address that "
                        f"{self.provider.title} gave {error}"
                    )
            outputs.append(replace(output, url=url, expires_at=expires_at))
        return replace(state, outputs=tuple(outputs), warnings=tuple(warnings))

    async def read(
        self,
        request: Request,
        key: Key,
        *,
        kind: Kind = "call",
        statuses: Mapping[int, Code] = NOTHING_ELSE,
        lost: Callable[[], None] = lambda: None,
    ) -> Answer:
        """Send a request that changes nothing; repeat it at most twice where that may help.

        Returns the first answer that is a success or says something final. ``lost`` is called for
        every try whose fate is unknown: it may have been counted.

        Raises
        ------
        CallError: there was no such answer.
        """
        lane = self.lane(key.fingerprint)
        if lane.held(kind) <= READ_SECONDS:
            with anyio.move_on_after(READ_SECONDS):
                return await self._read(request, key, kind, statuses, lost)
        raise self._late(lane, kind)

    async def turn(self, key: Key) -> Turn:
        """Wait a little for the turn of a request that changes something.

        Raises
        ------
        CallError: ``rate_limited``; nothing was sent.
        """
        lane = self.lane(key.fingerprint)
        if lane.held("change") <= TURN_SECONDS:
            with anyio.move_on_after(TURN_SECONDS):
                return await lane.turn("change")
        raise self._late(lane, "change")

    def _late(self, lane: Lane, kind: Kind) -> CallError:
        """Say why a call had to end: others have all turns, or the provider took its time."""
        wait = lane.estimate(kind)
        code: Code = "rate_limited" if wait > 0 else "timeout"
        return CallError(failure(code, self.provider.title, retry_after_seconds=wait or None))

    async def _read(
        self,
        request: Request,
        key: Key,
        kind: Kind,
        statuses: Mapping[int, Code],
        lost: Callable[[], None],
    ) -> Answer:
        lane = self.lane(key.fingerprint)
        repeat = 0
        while True:
            turn = await lane.turn(kind)
            try:
                answer = await self.outlet.send(request, key, once=False)
            except (NotSentError, LostError) as error:
                problem = no_answer(self.provider, error)
                if isinstance(error, LostError):
                    lost()
            except anyio.get_cancelled_exc_class():
                lost()
                raise
            else:
                if answer.status == UNAUTHORIZED and (newer := self._vault.renewed(key)):
                    key = newer  # rotated meanwhile, here or by another process
                    continue
                if answer.status not in REPEATED_STATUSES:
                    return answer
                problem = describe(self.provider, answer, statuses)
                if answer.status not in self.provider.refusals:
                    lost()
            finally:
                turn.done()
            if problem.code == "rate_limited" and problem.retry_after_seconds is not None:
                lane.hold(kind, problem.retry_after_seconds)
            backoff = FIRST_BACKOFF_SECONDS * 2**repeat * self._chance.uniform(0.5, 1.5)
            wait = problem.retry_after_seconds or backoff
            final = (
                problem.code in {"quota_exhausted", "not_configured", "internal_error"}
                or wait > LONGEST_WAIT_IN_CALL_SECONDS
            )
            if final or repeat == MOST_REPEATS:
                raise CallError(problem)
            repeat += 1
            await anyio.sleep(wait)

    def conditional(self, request: Request, key: Key) -> Request:
        """Ask only for what is newer than the last answer that `keep_etag` saw."""
        etag = self._etags.get((key.fingerprint, request.path))
        if etag is None or "cache-control" in request.headers:
            return request
        return replace(request, headers={**request.headers, "if-none-match": etag})

    def keep_etag(self, request: Request, key: Key, answer: Answer) -> None:
        """Remember which version of something an answer brought."""
        if answer.ok and (etag := answer.headers.get("etag")):
            self._etags[key.fingerprint, request.path] = etag

    async def change(self, request: Request, key: Key) -> Answer | NotSentError | LostError:
        """Send a request that changes or costs something: once, on a connection of its own.

        The caller holds a turn, and has written down that the request leaves.
        """
        try:
            return await self.outlet.send(request, key, once=True)
        except (NotSentError, LostError) as error:
            return error


def no_answer(provider: Provider, error: NotSentError | LostError) -> Failure:
    """Say what it means that a read got no answer."""
    if isinstance(error, NotSentError):
        return not_sent(provider, error)
    if "larger" in error.reason:
        return failure("bad_response", provider.title)
    return failure("timeout" if "time" in error.reason else "provider_unavailable", provider.title)
