"""Runs one tool: validates the arguments, and returns its result or raises its error.

A chat and `darkroom call` both use it, so that they get the same results.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, cast

from pydantic_core import to_json

from darkroom.catalogue.declarations import Link, Result, Tool
from darkroom.catalogue.loading import made_beforehand
from darkroom.catalogue.selection import selected
from darkroom.core.errors import DarkroomError, call_error
from darkroom.core.foreign import handed_on
from darkroom.core.log import log
from darkroom.engine.arguments.schema import input_schema
from darkroom.engine.arguments.validation import validate
from darkroom.jobs.view import job_text, job_view
from darkroom.providers.operations import CallOperation, CheckOperation, JobOperation

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from darkroom.catalogue.declarations import Catalogue
    from darkroom.config.settings import Settings
    from darkroom.core.json_types import JsonObject
    from darkroom.engine.engine import Engine
    from darkroom.engine.person import Person
    from darkroom.jobs.model import Job
    from darkroom.jobs.registry import LiveJob
    from darkroom.providers.operations import Declared
    from darkroom.providers.params import CheckParams, Params, StartParams
    from darkroom.providers.provider import Provider

TEXT_CHARACTERS = 2_000
"""Maximum length of the text that people see beside a call's object."""


@dataclass(frozen=True, slots=True)
class ToolHandler:
    """One tool, ready to be listed and called."""

    tool: Declared
    provider: Provider | None
    schema: JsonObject

    async def run(self, engine: Engine, arguments: Mapping[str, object], person: Person) -> Result:
        """Validate the arguments and run the tool.

        Raises
        ------
        CallError: any error, expected or not.
        InputNeededError: the host has to ask the person and call again.
        """
        try:
            params = validate(
                self.tool.params,
                arguments,
                admitted=engine.admitted,
                extra_mistakes=self._mistakes(engine.settings),
                files=isinstance(self.tool, JobOperation),
            )
            result = await self._do(engine, params, person)
            to_json(result.structured)  # a result that cannot be written ends only this call
            result.text.encode()
        except DarkroomError:
            raise
        except Exception as error:  # noqa: BLE001 -- the boundary: nothing else reaches a model
            log.error("%s failed: %s", self.tool.name, type(error).__name__)
            raise call_error(
                "internal_error",
                f"{self.tool.name} failed in this server ({type(error).__name__})",
                "check what was started with list_jobs before calling again",
            ) from None
        return result

    def _mistakes(self, settings: Settings) -> Callable[[Params], Iterable[str]] | None:
        tool, provider = self.tool, self.provider
        if (
            not isinstance(tool, (CallOperation, JobOperation))
            or tool.check is None
            or provider is None
        ):
            return None
        check, section = tool.check, settings.provider(provider.name)
        return lambda params: check(params, section)

    async def _do(self, engine: Engine, params: Params, person: Person) -> Result:
        tool, provider = self.tool, self.provider
        if isinstance(tool, Tool):
            return await tool.run(engine, params, person)
        if provider is None:
            raise TypeError(tool.name)
        match tool:
            case JobOperation():
                started = await engine.start(provider, tool, cast("StartParams", params), person)
                return job_result(engine, started.live, tool.check_tool, started.warnings)
            case CheckOperation():
                check = cast("CheckParams", params)
                live = await engine.check(provider, tool, check, person)
                return job_result(engine, live, tool.name, include_url=check.include_url)
            case CallOperation():
                said = await engine.call(provider, tool, params, person)
                fields = handed_on(said, tool.most_characters)
                return Result(structured=fields, text=shortened(fields))
            case _:
                raise TypeError(tool.name)


def desks(
    catalogues: Sequence[Catalogue],
    listed: Callable[[Provider], bool],
    settings: Settings,
) -> dict[str, ToolHandler]:
    """Return the handlers of the listed tools by name, in a stable order.

    ``listed`` tells whether a provider's tools are listed: whether it has a credential.
    """
    providers = [p for catalogue in catalogues for p in catalogue.providers]
    open_providers = [provider for provider in providers if listed(provider)]
    keeps = selected(catalogues, settings)
    found: dict[str, ToolHandler] = {}
    made = {
        name: schema
        for catalogue in catalogues
        for name, schema in made_beforehand(catalogue.schemas).items()
    }
    for provider in open_providers:
        for operation in provider.operations:
            if not keeps(provider, operation):
                continue
            enums = _enums(provider, operation, settings)
            schema = input_schema(operation.params, enums=enums, made=made.get(operation.name))
            found[operation.name] = ToolHandler(operation, provider, schema)
    for catalogue in catalogues:
        for tool in catalogue.tools:
            # Without any credential, filters do not apply: the tool that says what to set stays.
            if tool.local and settings.team.issuer is not None:
                continue
            if tool.listed(bool(open_providers)) and (not open_providers or keeps(None, tool)):
                schema = input_schema(tool.params, made=made.get(tool.name))
                found[tool.name] = ToolHandler(tool, None, schema)
    return found


def _enums(
    provider: Provider, operation: Declared, settings: Settings
) -> Mapping[str, Sequence[str]]:
    """Return the values of an operation's arguments that come from the settings."""
    if provider.enums is None:
        return {}
    return provider.enums(settings.provider(provider.name)).get(operation.name, {})


def job_result(
    engine: Engine,
    live: LiveJob,
    check_tool: str,
    warnings: tuple[str, ...] = (),
    *,
    include_url: bool = False,
) -> Result:
    """Return the result that shows a job."""
    if live.fetching:
        warnings = (*warnings, "its files are still being downloaded; check again for them")
    if live.trouble is not None and not live.job.ended:
        then = "it is tried again" if live.job.status == "queued" else "it will be asked again"
        warnings = (*warnings, f"{live.trouble}; {then}")
    job = engine.shown(live.job)
    view = job_view(
        job,
        poll_after=engine.poll_after(live),
        include_url=include_url,
        warnings=warnings,
    )
    return Result(
        structured=view,
        text=job_text(view, check_tool),
        links=() if engine.local else links_of(job),
    )


def links_of(job: Job) -> tuple[Link, ...]:
    """Return links to the outputs of a job as its owner sees it, for hosts that show them."""
    return tuple(
        Link(output.url, f"{job.job_id}-{output.index}", output.media_type)
        for output in job.outputs
        if output.url is not None
    )


def shortened(fields: JsonObject) -> str:
    """Return an object as compact JSON, shortened for people."""
    text = json.dumps(fields, ensure_ascii=False, separators=(",", ":"))
    return text if len(text) <= TEXT_CHARACTERS else text[: TEXT_CHARACTERS - 1] + "…"
