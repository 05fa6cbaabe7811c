"""Takes over a job that was started elsewhere, by the id that its provider gave it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from darkroom.core.digests import digest
from darkroom.core.errors import CallError, call_error, failure, unknown_job
from darkroom.jobs.model import Job
from darkroom.providers.client.outcomes import describe
from darkroom.providers.messages import UNREADABLE

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from darkroom.engine.runtime import Runtime
    from darkroom.jobs.registry import LiveJob
    from darkroom.providers.operations import CheckOperation
    from darkroom.providers.params import CheckParams
    from darkroom.providers.provider import Provider


async def adopt(
    runtime: Runtime,
    owner: str,
    find: Callable[[Provider, str], Awaitable[LiveJob | None]],
    provider: Provider,
    check: CheckOperation,
    params: CheckParams,
) -> LiveJob:
    """Take over a job that the provider knows and nobody here; ``find`` looks for it here again.

    Raises
    ------
    CallError: ``not_found``, or the provider could not be asked.
    """
    if params.job_id.startswith(f"{provider.name}_"):
        raise unknown_job(params.job_id)
    context, now = runtime.context, runtime.context.clock()
    operation = context.operations[check.adopts]
    key = context.credentials.key(provider, operation.credential, owner=owner)
    client = context.clients[provider.name]
    arguments = check.adopted(params) if check.adopted is not None else {}
    response = await client.read(operation.state.request(params.job_id, arguments, {}), key)
    if not response.ok:
        raise CallError(describe(provider, response))
    if await context.registry.store.taken(owner, provider.name, params.job_id):
        raise CallError(failure("not_found", provider.title))
    try:
        operation.state.read(response)
    except UNREADABLE:
        error = call_error(
            "bad_response",
            f"{provider.title} answered something that cannot be understood",
            "check the id",
        )
        raise error from None
    job = Job(
        job_id=f"{provider.name}_{context.new_id()}",
        owner=owner,
        provider=provider.name,
        operation=operation.name,
        status="running",
        arguments=arguments,
        intent=digest(owner, operation.name, "adopted", params.job_id),
        fingerprint=key.fingerprint,
        created_at=now,
        updated_at=now,
        holder=context.registry.holder,
        provider_job_id=params.job_id,
        sandbox=client.sandbox,
    )

    async def take() -> LiveJob:
        async with runtime.adopting:
            known = await find(provider, params.job_id)
            if known is not None:
                return known
            await context.registry.store.create(job, [], identical_since=None)
            live = context.registry.add(job)
        await runtime.poller.take_in(live, response, key)
        return live

    return await context.detached(take)
