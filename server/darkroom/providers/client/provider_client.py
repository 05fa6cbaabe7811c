"""The client for one provider: its base address, its rate limiters, its requests."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import anyio

from darkroom.core.deadlines import PERMIT_SECONDS, READ_SECONDS
from darkroom.core.errors import CallError, Code, Failure, clean, failure
from darkroom.core.urls import mended
from darkroom.providers.client.account import ACCOUNT_WIDE, Account
from darkroom.providers.client.http import HttpClient, LostError, NotSentError
from darkroom.providers.client.outcomes import NOTHING_ELSE, describe, not_sent
from darkroom.providers.client.rate_limiter import RateLimiter
from darkroom.providers.client.resend import READ, newer_key

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

NEVER_REPEATED: frozenset[Code] = frozenset({"quota_exhausted", "not_configured", "internal_error"})
ACCOUNT_STATUSES = frozenset({401, 402, 403, 423})
"""Statuses that may say that the account is refused, and not only the request."""

REPEATED_STATUSES = frozenset({408, 429, 500, 502, 503, 504})


class ProviderClient:
    """Sends requests to one provider within its rate limits."""

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
        """Return the rate limiter of a credential."""
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
        """Return the state with normalised addresses; a warning names each that cannot be used."""
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

    def own(self, addresses: Mapping[str, str]) -> tuple[dict[str, str], list[str]]:
        """Return the addresses that may be asked with a credential; a warning names the others."""
        kept: dict[str, str] = {}
        warnings: list[str] = []
        for name, given in addresses.items():
            try:
                address = mended(given, self.http_client.base_url)
            except ValueError:
                address = ""
            if self.http_client.admits(address):
                kept[name] = address
            else:
                title = self.provider.title
                warnings.append(f"{title} gave an address on a host that is not its own; not used")
        return kept, list(dict.fromkeys(warnings))

    async def read(
        self,
        request: Request,
        key: Key,
        *,
        kind: Kind = "call",
        statuses: Mapping[int, Code] = NOTHING_ELSE,
        lost: Callable[[], None] = lambda: None,
    ) -> Response:
        """Send a request that changes nothing; repeat it at most twice if that may help.

        Returns the first response that is a success or is final. ``lost`` is called for every try
        that may have arrived, because the provider may have counted it.

        Raises
        ------
        CallError: there was no such response.
        """
        limiter = self.limiter(key.fingerprint)
        if limiter.held(kind) <= READ_SECONDS:
            with anyio.move_on_after(READ_SECONDS):
                return await self._read(request, key, kind, statuses, lost)
        raise self._late(limiter, kind)

    async def permit(self, key: Key) -> Permit:
        """Wait a short time for the permit of a request that changes something.

        Raises
        ------
        CallError: ``rate_limited``; nothing was sent.
        """
        limiter = self.limiter(key.fingerprint)
        if limiter.held("change") <= PERMIT_SECONDS:
            with anyio.move_on_after(PERMIT_SECONDS):
                return await limiter.permit("change")
        raise self._late(limiter, "change")

    def _late(self, limiter: RateLimiter, kind: Kind) -> CallError:
        """Return why a call had to end: no permit was free, or the provider was too slow."""
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
        tried = 0
        while True:
            permit = await limiter.permit(kind)
            try:
                response = await self.http_client.send(request, key, once=False)
            except (NotSentError, LostError) as error:
                failed = no_answer(self.provider, error)
                if isinstance(error, LostError):
                    lost()
            except anyio.get_cancelled_exc_class():
                lost()
                raise
            else:
                if response.ok:
                    return response
                failed = describe(self.provider, response, statuses)
                if newer := newer_key(self._credentials, key, failed):
                    key = newer
                    continue
                if response.status not in REPEATED_STATUSES:
                    return response
                if response.status not in self.provider.refusals:
                    lost()
            finally:
                permit.done()
            tried += 1
            if failed.code == "rate_limited" and failed.retry_after_seconds is not None:
                limiter.hold(kind, failed.retry_after_seconds)
            wait = failed.retry_after_seconds or READ.wait(tried) * self._chance.uniform(0.5, 1.5)
            final = failed.code in NEVER_REPEATED or wait > READ.longest
            if final or READ.over(tried):
                raise CallError(failed)
            await anyio.sleep(wait)

    def conditional(self, request: Request, key: Key) -> Request:
        """Add the ETag of the last response that `keep_etag` saw to the request."""
        etag = self._etags.get((key.fingerprint, request.path))
        if etag is None or "cache-control" in request.headers:
            return request
        return replace(request, headers={**request.headers, "if-none-match": etag})

    def keep_etag(self, request: Request, key: Key, response: Response) -> None:
        """Remember the ETag of a response."""
        if response.ok and (etag := response.headers.get("etag")):
            self._etags[key.fingerprint, request.path] = etag

    async def change(self, request: Request, key: Key) -> Response | NotSentError | LostError:
        """Send a request that changes or costs something: once, on a connection of its own.

        The caller holds a permit and has recorded in the journal that the request is being sent.
        """
        try:
            return await self.http_client.send(request, key, once=True)
        except (NotSentError, LostError) as error:
            return error


def no_answer(provider: Provider, error: NotSentError | LostError) -> Failure:
    """Return the failure for a read that got no response."""
    if isinstance(error, NotSentError):
        return not_sent(provider, error)
    if "larger" in error.reason:
        return failure("bad_response", provider.title)
    return failure("timeout" if "time" in error.reason else "provider_unavailable", provider.title)
