"""The person's answer to a job that asks: a yes begins it as a start would now, a no ends it."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, cast

from darkroom.approval import Nobody, declined
from darkroom.arguments import canonical_arguments
from darkroom.errors import CallError, DarkroomError
from darkroom.jobs.inputs import not_understood
from darkroom.jobs.questions import unanswered
from darkroom.quota import outlook
from darkroom.spending import CapReached

if TYPE_CHECKING:
    from darkroom.core import Core
    from darkroom.jobs.model import Approval, Job
    from darkroom.jobs.registry import Live
    from darkroom.operation import Provider, StartParams
    from darkroom.quota import Outlook
    from darkroom.starting import Starter
    from darkroom.works import Works


class _AnsweredError(DarkroomError):
    """Somebody has answered, or cancelled the job, meanwhile."""


async def answer(works: Works, starter: Starter, live: Live, to: Approval, *, yes: bool) -> None:
    """Take the person's answer to a question; only the first one in time counts.

    Raises
    ------
    JournalError: the answer could not be written down; the job asks still.
    """
    tool, questions = live.job.operation, works.questions
    if questions.lapsed(to):
        await questions.refuse(live, to, unanswered(tool))
    elif not yes:
        await questions.refuse(live, to, declined(tool).failure)
    else:
        try:
            await _go_on(works, starter, live, to)
        except CallError as error:
            await questions.refuse(live, to, error.failure)
        except _AnsweredError:
            return


async def _go_on(works: Works, starter: Starter, live: Live, asked: Approval) -> None:
    """Write down the yes with the attempts, and queue the job.

    What keys, policy, names, quota and caps say now counts. The yes holds for what the question
    said, and for nothing dearer or later: for that there is another question.
    """
    core, job, now = works.core, live.job, works.core.clock()
    operation = core.operations[job.operation]
    provider = core.channels[job.provider].provider
    key = core.vault.key(provider, operation.credential, owner=job.owner)
    try:
        given = cast("StartParams", core.params(job, operation))
    except ValueError:  # a row that this version does not take any more
        raise CallError(not_understood()) from None
    screened = await starter.screen(operation, given, Nobody(), {})
    await starter.refuse_sent_names(operation, screened.params, job)
    ahead = await outlook(core, provider, operation, job.owner)
    if (refusal := ahead.refusal) is not None:
        raise refusal
    sentences = _sentences(core, provider, job, ahead)
    if any(sentence not in asked.question for sentence in sentences):
        await works.questions.ask_anew(live, asked, " ".join(sentences))
        return
    charge = [ahead.charge] if ahead.charge is not None else []
    attempts = starter.attempts(operation, screened.params, replace(job, created_at=now))

    def change(job: Job) -> Job:
        if not job.asks or job.approval != asked:
            raise _AnsweredError
        return job.next(
            arguments=canonical_arguments(screened.params),
            fingerprint=key.fingerprint,
            holder=core.registry.holder,
            queued_for=None,
            approval=replace(asked, given_at=now),
            warnings=tuple(dict.fromkeys((*job.warnings, *screened.warnings, *charge))),
            updated_at=now,
        )

    unit = job.cost.unit if job.cost is not None else None
    caps = core.tariff.caps(job.provider, unit, now) if unit is not None else ()
    try:
        job = await core.registry.update(live, change, attempts, caps=caps)
    except CapReached as reached:
        raise reached.error from None
    works.queue(core.registry.add(job), attempts)


def _sentences(core: Core, provider: Provider, job: Job, ahead: Outlook) -> list[str]:
    """Return what would be asked now; nothing where that needs no yes any more."""
    question = core.tariff.question(job.operation, provider, job.cost) if job.cost else None
    return [question, *ahead.said] if question is not None else []
