"""The policy gate: a prompt is evaluated before it is sent, where the configuration says so.

What is refused is never written down or sent; what is cleaned is sent cleaned, and the job says
so. A policy service out of reach means refuse (``fail = "closed"``) or go on with a warning
(``"open"``).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from darkroom.arguments import canonical_arguments, validate
from darkroom.errors import CallError, JsonObject, JsonValue, call_error, clean
from darkroom.operation import Call, Verdict

if TYPE_CHECKING:
    from darkroom.approval import Person
    from darkroom.calling import Caller
    from darkroom.operation import Job as JobOperation
    from darkroom.operation import Policy, Provider, StartParams
    from darkroom.works import Works

MOST_RULES = 8


@dataclass(frozen=True, slots=True)
class Screened:
    """Arguments that may be sent, and what the person should know of how they came to be."""

    params: StartParams
    warnings: tuple[str, ...] = ()


class Guard:
    """Screens the texts of start calls with one provider's policy."""

    def __init__(self, works: Works, caller: Caller, provider: Provider, policy: Policy) -> None:
        self._works = works
        self._caller = caller
        self._provider = provider
        self._policy = policy

    async def screen(
        self,
        operation: JobOperation,
        params: StartParams,
        person: Person,
        seen: dict[str, Verdict],
    ) -> Screened:
        """Return the arguments as they may be sent.

        ``seen`` holds the verdicts of one batch: each distinct text is evaluated once.

        Raises
        ------
        CallError: ``blocked_by_policy``, with the rules that were hit; or what kept the service
            from answering, where that means refuse.
        """
        arguments = canonical_arguments(params)
        warnings: list[str] = []
        changed = False
        for path in operation.texts:
            text = _get(arguments, path)
            if not isinstance(text, str) or not text:
                continue
            verdict = seen.get(text)
            if verdict is None:
                verdict = seen[text] = await self._evaluate(text, person)
            if not verdict.allowed:
                raise self._blocked(path, verdict)
            if verdict.note is not None:
                warnings.append(f"{path}: {verdict.note}")
            if verdict.text is not None and verdict.text != text:
                _set(arguments, path, verdict.text)
                changed = True
        if changed:
            key = params.idempotency_key
            cleaned = validate(type(params), arguments, admitted=self._works.core.admitted)
            params = cleaned.model_copy(update={"idempotency_key": key})
        return Screened(params, tuple(warnings))

    async def _evaluate(self, text: str, person: Person) -> Verdict:
        call = self._provider.operation(self._policy.operation)
        if not isinstance(call, Call):
            raise TypeError(call.name)
        try:
            check, settings = call.check, self._works.core.channels[self._provider.name].settings
            given = validate(
                call.params,
                self._policy.arguments(text),
                admitted=self._works.core.admitted,
                extra_mistakes=(lambda params: check(params, settings)) if check else None,
            )
            result = await self._caller.call(self._provider, call, given, person)
            verdict = self._policy.verdict(result)
        except CallError as error:
            if self._works.core.settings.guard.fail == "open":
                reason = error.failure.message
                return Verdict(allowed=True, note=f"was not checked by the policy: {reason}")
            raise call_error(
                error.failure.code,
                f"the prompt could not be checked by {self._provider.title} "
                f"({error.failure.message}), so nothing was sent",
                "tell the person; [guard] fail = 'open' would let it through with a warning",
                retryable=error.failure.retryable,
            ) from None
        return verdict

    def _blocked(self, path: str, verdict: Verdict) -> CallError:
        rules = ", ".join(clean(rule) for rule in verdict.rules[:MOST_RULES])
        hit = f": {rules}" if rules else ""
        return call_error(
            "blocked_by_policy",
            f"{self._provider.title} does not allow this {path}{hit}; nothing was sent",
            "change the text, or ask the person about the policy",
        )


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
