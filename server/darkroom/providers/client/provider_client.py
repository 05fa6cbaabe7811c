"""One provider as the machine deals with it: its base address, its lanes, its requests."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import anyio

from darkroom.core.errors import CallError, Code, Failure, clean, failure
from darkroom.core.urls import mended
from darkroom.providers.client.account import ACCOUNT_WIDE, Account
from darkroom.providers.client.http import HttpClient, LostError, NotSentError
from darkroom.providers.client.outcomes import NOTHING_ELSE, describe, not_sent
from darkroom.providers.client.rate_limiter import RateLimiter

if TYPE_CHECKING:
    import random
    from collections.abc import Callable, Mapping

    from darkroom.core.scheduler import Scheduler
    from darkroom.providers.client.rate_limiter import Kind, LimitsState, Permit
    from darkroom.providers.credentials import Credentials, Key
    from darkroom.providers.messages import Request, Response, State
    from darkroom.providers.provider import Limits, Provider
    from darkroom.providers.settings import ProviderSettings
    from darkroom.providers.values import Output

MOST_REPEATS = 2
FIRST_BACKOFF_SECONDS = 0.5
LONGEST_WAIT_IN_CALL_SECONDS = 5.0
READ_SECONDS = 40.0
"""A read is over by then, its turns and repetitions included: every call answers within 45 s."""

TURN_SECONDS = 10.0
"""How long a change waits for its turn; its request has a deadline of its own."""
UNAUTHORIZED = 401
ACCOUNT_STATUSES = frozenset({401, 402, 403, 423})
"""Statuses that may say that the account is refused, and not only the request."""

REPEATED_STATUSES = frozenset({408, 429, 500, 502, 503, 504})


class ProviderClient:
    """Requests to one provider, each in its turn."""

    def __init__(
        self,
        provider: Provider,
        settings: ProviderSettings,
        http_client: HttpClient,
        credentials: Credentials,
        schedule: Scheduler,
        chance: random.Random,
        *,
        sandbox: bool,
        limits_state: Callable[[str, Limits], LimitsState] | None = None,
    ) -> None:
        self.provider = provider
        self.settings = settings
        self.http_client = http_client
        self._credentials = credentials
        self.sandbox = sandbox
        self._limits_state = limits_state
        self._schedule = schedule
        self._chance = chance
        self._limiters: dict[str, RateLimiter] = {}
        self._accounts: dict[str, Account] = {}
        self._etags: dict[tuple[str, str], str] = {}
        http_client.heard = self._heard

    def limiter(self, fingerprint: str) -> RateLimiter:
        """Return the turns of a credential."""
        limiter = self._limiters.get(fingerprint)
        if limiter is None:
            limits = self.provider.limits_with(self.settings)
            limits_state = (
                self._limits_state(fingerprint, limits) if self._limits_state is not None else None
            )
            limiter = RateLimiter(limits, self._schedule, limits_state)
            self._limiters[fingerprint] = limiter
        return limiter

    def account(self, fingerprint: str) -> Account:
        """Return what is known of a credential's account."""
        account = self._accounts.get(fingerprint)
        if account is None:
            rule = self.provider.suspension
            account = Account(
                self.provider.limits_with(self.settings),
                rule.suspended_seconds if rule is not None else None,
            )
            self._accounts[fingerprint] = account
        return account

    @property
    def refused(self) -> bool:
        """Tell whether any account here is refused."""
        return any(account.refusal is not None for account in self._accounts.values())

    def _heard(self, request: Request, key: Key, response: Response) -> None:
        """Learn what an answer says of the account, whoever asked for it."""
        account = self.account(key.fingerprint)
        limits = account.learned.hear(response.headers)
        if limits is not None:
            self.limiter(key.fingerprint).keep_to(limits)
        if response.ok:
            account.answered(charged=request.method == "POST")
        elif response.status in ACCOUNT_STATUSES:
            error = describe(self.provider, response)
            if error.code in ACCOUNT_WIDE:
                account.refused(error)

    def mended(self, state: State) -> State:
        """Return a state whose addresses can be used; a warning names each that cannot be."""
        outputs: list[Output] = []
        warnings = list(state.warnings)
        for output in state.outputs:
            url, expires_at = output.url, output.expires_at
            if url is not None:
                try:
                    url = mended(url, self.http_client.base_url)
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
    ) -> Response:
        """Send a request that changes nothing; repeat it at most twice where that may help.

        Returns the first answer that is a success or says something final. ``lost`` is called for
        every try whose fate is unknown: it may have been counted.

        Raises
        ------
        CallError: there was no such answer.
        """
        limiter = self.limiter(key.fingerprint)
        if limiter.held(kind) <= READ_SECONDS:
            with anyio.move_on_after(READ_SECONDS):
                return await self._read(request, key, kind, statuses, lost)
        raise self._late(limiter, kind)

    async def permit(self, key: Key) -> Permit:
        """Wait a little for the turn of a request that changes something.

        Raises
        ------
        CallError: ``rate_limited``; nothing was sent.
        """
        limiter = self.limiter(key.fingerprint)
        if limiter.held("change") <= TURN_SECONDS:
            with anyio.move_on_after(TURN_SECONDS):
                return await limiter.permit("change")
        raise self._late(limiter, "change")

    def _late(self, limiter: RateLimiter, kind: Kind) -> CallError:
        """Say why a call had to end: others have all turns, or the provider took its time."""
        wait = limiter.estimate(kind)
        code: Code = "rate_limited" if wait > 0 else "timeout"
        return CallError(failure(code, self.provider.title, retry_after_seconds=wait or None))

    async def _read(
        self,
        request: Request,
        key: Key,
        kind: Kind,
        statuses: Mapping[int, Code],
        lost: Callable[[], None],
    ) -> Response:
        limiter = self.limiter(key.fingerprint)
        repeat = 0
        while True:
            permit = await limiter.permit(kind)
            try:
                response = await self.http_client.send(request, key, once=False)
            except (NotSentError, LostError) as error:
                problem = no_answer(self.provider, error)
                if isinstance(error, LostError):
                    lost()
            except anyio.get_cancelled_exc_class():
                lost()
                raise
            else:
                if response.status == UNAUTHORIZED and (newer := self._credentials.renewed(key)):
                    key = newer  # rotated meanwhile, here or by another process
                    continue
                if response.status not in REPEATED_STATUSES:
                    return response
                problem = describe(self.provider, response, statuses)
                if response.status not in self.provider.refusals:
                    lost()
            finally:
                permit.done()
            if problem.code == "rate_limited" and problem.retry_after_seconds is not None:
                limiter.hold(kind, problem.retry_after_seconds)
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

    def keep_etag(self, request: Request, key: Key, response: Response) -> None:
        """Remember which version of something an answer brought."""
        if response.ok and (etag := response.headers.get("etag")):
            self._etags[key.fingerprint, request.path] = etag

    async def change(self, request: Request, key: Key) -> Response | NotSentError | LostError:
        """Send a request that changes or costs something: once, on a connection of its own.

        The caller holds a turn, and has written down that the request leaves.
        """
        try:
            return await self.http_client.send(request, key, once=True)
        except (NotSentError, LostError) as error:
            return error


def no_answer(provider: Provider, error: NotSentError | LostError) -> Failure:
    """Say what it means that a read got no answer."""
    if isinstance(error, NotSentError):
        return not_sent(provider, error)
    if "larger" in error.reason:
        return failure("bad_response", provider.title)
    return failure("timeout" if "time" in error.reason else "provider_unavailable", provider.title)
