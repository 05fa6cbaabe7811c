"""The person's answer to a job that waits for approval: a yes starts the job, a no ends it."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, cast

from darkroom.core.errors import CallError, DarkroomError, JournalError
from darkroom.engine.arguments.validation import canonical_arguments
from darkroom.engine.person import Nobody, declined
from darkroom.jobs.inputs import not_understood
from darkroom.jobs.pending_approvals import unanswered
from darkroom.jobs.quota import outlook

if TYPE_CHECKING:
    from darkroom.engine.runtime import Runtime
    from darkroom.engine.starts import Starter
    from darkroom.jobs.context import JobContext
    from darkroom.jobs.model import Approval, Job
    from darkroom.jobs.quota import Outlook
    from darkroom.jobs.registry import LiveJob
    from darkroom.providers.params import StartParams
    from darkroom.providers.provider import Provider


class _AnsweredError(DarkroomError):
    """The job was answered or cancelled meanwhile."""


async def answer(
    runtime: Runtime, starter: Starter, live: LiveJob, to: Approval, *, yes: bool
) -> None:
    """Process the person's answer to a question; only the first answer within the time counts.

    Raises
    ------
    JournalError: the answer could not be written; the question remains.
    """
    tool, questions = live.job.operation, runtime.questions
    if questions.lapsed(to):
        await questions.refuse(live, to, unanswered(tool))
    elif not yes:
        await questions.refuse(live, to, declined(tool).failure)
    else:
        try:
            await _go_on(runtime, starter, live, to)
        except JournalError:
            raise
        except CallError as error:
            await questions.refuse(live, to, error.failure)
        except _AnsweredError:
            return


async def _go_on(runtime: Runtime, starter: Starter, live: LiveJob, asked: Approval) -> None:
    """Write the approval with the attempts, and queue the job.

    Keys, policy, names, quota and caps are checked again. The approval applies only to what the
    question said: if the price or the start time has changed, the person is asked again.
    """
    context, job, now = runtime.context, live.job, runtime.context.clock()
    operation = context.operations[job.operation]
    provider = context.clients[job.provider].provider
    key = context.credentials.key(provider, operation.credential, owner=job.owner)
    try:
        given = cast("StartParams", context.params(job, operation))
    except ValueError:  # a row that this version cannot read
        raise CallError(not_understood()) from None
    screened = await starter.screen(operation, given, Nobody(), {})
    as_is = await starter.screen_unchanged(operation, screened.params, Nobody(), {})
    await starter.refuse_sent_names(operation, screened.params, job)
    ahead = await outlook(context, provider, operation, job.owner, job.fingerprint)
    if (refusal := ahead.refusal) is not None:
        raise refusal
    sentences = _sentences(context, provider, job, ahead)
    if any(sentence not in asked.question for sentence in sentences):
        await runtime.questions.ask_anew(live, asked, " ".join(sentences))
        return
    charge = [ahead.charge] if ahead.charge is not None else []
    attempts = starter.attempts(operation, screened.params, replace(job, created_at=now))

    def change(job: Job) -> Job:
        if not job.asks or job.approval != asked:
            raise _AnsweredError
        return job.next(
            arguments=canonical_arguments(screened.params),
            fingerprint=key.fingerprint,
            holder=context.registry.holder,
            queued_for=None,
            approval=replace(asked, given_at=now),
            asked=True,
            warnings=tuple(dict.fromkeys((*job.warnings, *screened.warnings, *as_is, *charge))),
            updated_at=now,
        )

    caps = context.tariff.caps_for(job, now)
    job = await context.registry.update(live, change, attempts, caps=caps)
    runtime.queue(context.registry.add(job), attempts)


def _sentences(context: JobContext, provider: Provider, job: Job, ahead: Outlook) -> list[str]:
    """Return the question that would be asked now; None if none is needed any more."""
    if job.cost is None:
        return []
    question = context.tariff.question(job.operation, provider, job.cost, anyway=True)
    return [question, *ahead.said] if question is not None else []
