"""Calls that were sent and whose answer is lost: told at the start, and by the error that follows.

Such a call has no job that would show it: a rotation, a new token, a publication.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from darkroom.core.log import log
from darkroom.core.times import iso
from darkroom.providers.operations import CallOperation

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from darkroom.jobs.context import JobContext
    from darkroom.jobs.model import Attempt
    from darkroom.providers.provider import Provider

LOST = "look at the present state before trying again"
TOLD_SECONDS = 30 * 86_400.0
"""Of calls that were sent longer ago nothing is said any more."""


def note(context: JobContext, provider: Provider, call: CallOperation, attempt: Attempt) -> None:
    """Remember of a lost call what an error that follows from it has to say."""
    if call.secret is not None and call.secret.replaces:
        variable = call.credential if isinstance(call.credential, str) else None
        variable = variable or provider.credentials[0].variable
        context.credentials.doubtful[variable] = in_words(call, attempt)


def in_words(call: CallOperation, attempt: Attempt) -> str:
    """Say what the person should know of a lost call."""
    sent = iso(attempt.sent_at or attempt.created_at)
    return f"{call.name} of {sent} is of unknown fate: {call.if_lost or LOST}"


def lost(
    providers: Iterable[Provider], attempts: Sequence[Attempt], now: float
) -> list[tuple[Provider, CallOperation, Attempt]]:
    """Return the calls whose fate is unknown, with what they were."""
    known = {
        operation.name: (provider, operation)
        for provider in providers
        for operation in provider.operations
        if isinstance(operation, CallOperation)
    }
    return [
        (*known[attempt.operation], attempt)
        for attempt in attempts
        if attempt.operation in known and attempt.created_at > now - TOLD_SECONDS
    ]


async def tell(context: JobContext) -> None:
    """Tell at the start of what earlier servers left open, once."""
    if context.lost_calls_told:
        return
    context.lost_calls_told = True
    attempts = await context.registry.store.lost_calls()
    providers = [client.provider for client in context.clients.values()]
    for provider, call, attempt in lost(providers, attempts, context.clock()):
        note(context, provider, call, attempt)
        log.warning("%s", in_words(call, attempt))
