"""The policy gate: if it is configured, every prompt is evaluated before it is sent.

A blocked prompt is neither written nor sent. A redacted prompt is sent redacted, and the job has a
warning. If the policy cannot be asked, the call is refused (``fail = "closed"``) or goes on with a
warning (``"open"``).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias

import anyio

from darkroom.core.deadlines import EVALUATION_SECONDS
from darkroom.core.errors import CallError, Code, Failure, call_error, clean, failure
from darkroom.engine.arguments.validation import canonical_arguments, validate
from darkroom.jobs.spending import ROUNDING
from darkroom.providers.client.rate_limiter import most_within
from darkroom.providers.messages import UNREADABLE
from darkroom.providers.operations import CallOperation

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from darkroom.core.json_types import JsonObject, JsonValue
    from darkroom.engine.calls import Caller
    from darkroom.engine.person import Person
    from darkroom.engine.runtime import Runtime
    from darkroom.providers.operations import JobOperation
    from darkroom.providers.params import StartParams
    from darkroom.providers.provider import Policy, PolicyVerdict, Provider

MOST_RULES = 8

EVALUATED_AT_ONCE = 16
"""Texts of a batch that are evaluated at the same time, if the provider's limits allow it."""

OUT_OF_REACH: frozenset[Code] = frozenset({"provider_unavailable", "provider_error", "timeout"})
"""Failures that do not depend on the text. After `EVALUATED_AT_ONCE` of them in a row the remaining
texts are not evaluated."""

Judgements: TypeAlias = "dict[str, PolicyVerdict | Failure]"
"""The decision about each text, or why it could not be evaluated."""


@dataclass(frozen=True, slots=True)
class Screened:
    """Arguments that may be sent, and warnings about how they were changed."""

    params: StartParams
    warnings: tuple[str, ...] = ()


class PolicyGate:
    """Checks the texts of start calls with one provider's policy."""

    def __init__(
        self, runtime: Runtime, caller: Caller, provider: Provider, policy: Policy
    ) -> None:
        self._runtime = runtime
        self._caller = caller
        self._provider = provider
        self._policy = policy

    async def screen(
        self,
        operation: JobOperation,
        params: StartParams,
        person: Person,
        judged: Judgements,
    ) -> Screened:
        """Return the arguments that may be sent.

        ``judged`` holds the decisions of `judge`; a text that is not in it is evaluated now.

        Raises
        ------
        CallError: ``blocked_by_policy``, with the rules that were broken; or the policy could not
            be asked and the configuration says to refuse.
        """
        arguments = canonical_arguments(params)
        warnings: list[str] = []
        changed = False
        for path, text in _texts(operation, arguments):
            if text not in judged:
                judged[text] = await self._evaluate(text, person)
            verdict = judged[text]
            if isinstance(verdict, Failure):
                warnings.append(f"{path}: {self._unjudged(verdict)}")
                continue
            if not verdict.allowed:
                raise self._blocked(path, verdict)
            if verdict.note is not None:
                warnings.append(f"{path}: {verdict.note}")
            if verdict.text is not None and verdict.text != text:
                _set(arguments, path, verdict.text)
                changed = True
        if changed:
            key = params.idempotency_key
            cleaned = validate(type(params), arguments, admitted=self._runtime.context.admitted)
            params = cleaned.model_copy(update={"idempotency_key": key})
        return Screened(params, tuple(warnings))

    async def screen_unchanged(
        self, operation: JobOperation, bound: StartParams, person: Person, judged: Judgements
    ) -> tuple[str, ...]:
        """Return warnings about the texts that must be sent as they are.

        Raises
        ------
        CallError: as `screen` does; also if the policy allows them in a changed form only.
        """
        where = ", ".join(operation.texts_unchanged)
        for text in unchanged_text_of(operation, bound):
            if text not in judged:
                judged[text] = await self._evaluate(text, person)
            verdict = judged[text]
            if isinstance(verdict, Failure):
                return (f"{where}: {self._unjudged(verdict)}",)
            if not verdict.allowed or (verdict.text is not None and verdict.text != text):
                raise self._blocked(where, verdict)
            if verdict.note is not None:
                return (f"{where}: {verdict.note}",)
        return ()

    async def judge(self, texts: Sequence[str], person: Person) -> Judgements:
        """Evaluate distinct texts concurrently, each once.

        The result does not depend on the order of the answers.

        Raises
        ------
        CallError: ``timeout``, with the number of texts for which the time is enough;
            ``spend_cap_reached``, before any text was evaluated.
        """
        judged: Judgements = {}
        self._refuse_too_many(len(texts))
        asked = await self._within_caps(texts, judged)
        waiting, failed = iter(asked), list[Failure]()

        async def work() -> None:
            for text in waiting:
                if len(failed) >= EVALUATED_AT_ONCE:
                    judged[text] = failed[-1]
                    continue
                verdict = judged[text] = await self._evaluate(text, person)
                if isinstance(verdict, Failure) and verdict.code in OUT_OF_REACH:
                    failed.append(verdict)
                else:
                    failed.clear()

        with anyio.move_on_after(EVALUATION_SECONDS) as scope:
            async with anyio.create_task_group() as tasks:
                for _ in range(min(EVALUATED_AT_ONCE, len(asked))):
                    tasks.start_soon(work)
        if scope.cancelled_caught:
            raise self._too_slow(len(judged), len(texts))
        return judged

    def _refuse_too_many(self, count: int) -> None:
        """Refuse more texts than the provider's limits allow in time, before any is evaluated."""
        client = self._runtime.context.clients[self._provider.name]
        most = most_within(self._provider.limits_with(client.settings), EVALUATION_SECONDS)
        if count > most:
            raise call_error(
                "timeout",
                f"{self._provider.title} evaluates at most {most:g} of {count} distinct texts in "
                f"the {EVALUATION_SECONDS:g} s that there are for it; nothing was started",
                f"start it as several batches of at most {most:g} distinct texts, one after the "
                "other",
            )

    def _too_slow(self, done: int, count: int) -> CallError:
        if done:
            way_out = f"start it as several batches of at most {done} distinct texts"
        else:
            way_out = f"call again later; if it happens again, tell the person about {self._provider.title}"
        return call_error(
            "timeout",
            f"{self._provider.title} evaluated {done} of {count} distinct texts in "
            f"{EVALUATION_SECONDS:g} s; nothing was started",
            way_out,
        )

    async def _within_caps(self, texts: Sequence[str], judged: Judgements) -> Sequence[str]:
        """Return the first texts that the caps allow to evaluate, and the failure of the others.

        This is decided beforehand, so that it does not depend on the order of the evaluations.
        """
        asked = texts
        while asked and (reached := await self._caller.passed(*self._call(), len(asked))):
            if not self._goes_on:
                raise reached
            each = reached.wanted / len(asked)
            room = int((reached.cap.limit - reached.used) / each + ROUNDING)
            asked = texts[: max(0, min(room, len(asked) - 1))]
            judged |= dict.fromkeys(texts[len(asked) :], reached.failure)
        return asked

    @property
    def _goes_on(self) -> bool:
        return self._runtime.context.settings.guard.fail == "open"

    def _call(self) -> tuple[Provider, CallOperation]:
        call = self._provider.operation(self._policy.operation)
        if not isinstance(call, CallOperation):
            raise TypeError(call.name)
        return self._provider, call

    async def _evaluate(self, text: str, person: Person) -> PolicyVerdict | Failure:
        provider, call = self._call()
        try:
            check, settings = call.check, self._runtime.context.clients[provider.name].settings
            given = validate(
                call.params,
                self._policy.arguments(text),
                admitted=self._runtime.context.admitted,
                extra_mistakes=(lambda params: check(params, settings)) if check else None,
            )
            result = await self._caller.call(provider, call, given, person, configured=True)
            return self._policy.verdict(result)
        except CallError as error:
            return error.failure
        except UNREADABLE:
            return failure("bad_response", provider.title)

    def _unjudged(self, failure: Failure) -> str:
        """Return the warning that a text is sent unchecked, if the configuration allows it.

        Raises
        ------
        CallError: the configuration does not allow it.
        """
        if self._goes_on:
            return f"was not checked by the policy: {failure.message}"
        raise call_error(
            failure.code,
            f"the prompt could not be checked by {self._provider.title} "
            f"({failure.message}), so nothing was sent",
            "tell the person; [guard] fail = 'open' would let it through with a warning",
            retryable=failure.retryable,
        )

    def _blocked(self, path: str, verdict: PolicyVerdict) -> CallError:
        rules = ", ".join(clean(rule) for rule in verdict.rules[:MOST_RULES])
        hit = f": {rules}" if rules else ""
        return call_error(
            "blocked_by_policy",
            f"{self._provider.title} does not allow this {path}{hit}; nothing was sent",
            "change the text, or ask the person about the policy",
        )


def texts_of(operation: JobOperation, params: StartParams) -> list[str]:
    """Return the texts of a start call that the policy evaluates."""
    return [text for _, text in _texts(operation, canonical_arguments(params))]


def unchanged_text_of(operation: JobOperation, bound: StartParams) -> list[str]:
    """Return the texts of a call that are sent as they are, as one text; none if there are none."""
    arguments = canonical_arguments(bound)
    found = [
        text
        for path in operation.texts_unchanged
        for value in _all(arguments, path.split("."))
        for text in _inner(value)
    ]
    return ["\n".join(found)] if found else []


def _all(value: JsonValue, names: Sequence[str]) -> Iterator[JsonValue]:
    """Yield every value at a path; a list on the way stands for each of its entries."""
    if isinstance(value, list):
        for each in value:
            yield from _all(each, names)
    elif not names:
        yield value
    elif isinstance(value, dict) and names[0] in value:
        yield from _all(value[names[0]], names[1:])


def _inner(value: JsonValue) -> Iterator[str]:
    """Yield every text of a value, the names of members included."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        for name, inner in value.items():
            yield name
            yield from _inner(inner)
    elif isinstance(value, list):
        for each in value:
            yield from _inner(each)


def _texts(operation: JobOperation, arguments: JsonObject) -> list[tuple[str, str]]:
    """Return paths and texts, without absent and empty ones."""
    found = ((path, _get(arguments, path)) for path in operation.texts)
    return [(path, text) for path, text in found if isinstance(text, str) and text]


def _get(arguments: JsonObject, path: str) -> JsonValue:
    value: JsonValue = arguments
    for name in path.split("."):
        if not isinstance(value, dict):
            return None
        value = value.get(name)
    return value


def _set(arguments: JsonObject, path: str, text: str) -> None:
    *parents, last = path.split(".")
    value: JsonValue = arguments
    for name in parents:
        if isinstance(value, dict):
            value = value[name]
    if isinstance(value, dict):
        value[last] = text
