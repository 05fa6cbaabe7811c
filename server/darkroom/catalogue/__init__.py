"""What packages contribute, how it is found, and how a tool is run.

A module of neutral tools needs to import only this package: everything in ``__all__`` is stable.
Names are loaded when they are first used, so that listing the tools does not load what only a job
needs.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from darkroom.core.lazy import lazy_names

if TYPE_CHECKING:
    from darkroom.catalogue.declarations import (
        Catalogue,
        Content,
        DeferredProvider,
        LongRunning,
        Picture,
        Resource,
        Result,
        Tool,
    )
    from darkroom.catalogue.dispatch import job_result
    from darkroom.catalogue.loading import completed
    from darkroom.catalogue.prompts import Argument, Prompt
    from darkroom.core.environment import Missing
    from darkroom.core.errors import call_error, unknown_job
    from darkroom.core.foreign import printable
    from darkroom.core.json_types import JsonObject, JsonValue
    from darkroom.core.times import iso
    from darkroom.engine.batches import grammar, manifest
    from darkroom.engine.batches.plan import Plan
    from darkroom.engine.batches.report import Report
    from darkroom.engine.batches.service import Batches
    from darkroom.engine.batches.start import Asked
    from darkroom.engine.cancellation import cancel
    from darkroom.engine.engine import Engine
    from darkroom.engine.person import Nobody, Person
    from darkroom.jobs.model import Job, statuses_shown_as
    from darkroom.jobs.registry import LiveJob
    from darkroom.jobs.spending import Sum, beginning, counted
    from darkroom.jobs.store import Query
    from darkroom.jobs.view import job_view
    from darkroom.results import preview
    from darkroom.results.decoder import Session
    from darkroom.results.export import target
    from darkroom.results.integrity import NotKeptError
    from darkroom.results.outputs import Outputs, ResultItem, unsaved

__all__ = [
    "Argument",
    "Asked",
    "Batches",
    "Catalogue",
    "Content",
    "DeferredProvider",
    "Engine",
    "Job",
    "JsonObject",
    "JsonValue",
    "LiveJob",
    "LongRunning",
    "Missing",
    "Nobody",
    "NotKeptError",
    "Outputs",
    "Person",
    "Picture",
    "Plan",
    "Prompt",
    "Query",
    "Report",
    "Resource",
    "Result",
    "ResultItem",
    "Session",
    "Sum",
    "Tool",
    "beginning",
    "call_error",
    "cancel",
    "completed",
    "counted",
    "grammar",
    "iso",
    "job_result",
    "job_view",
    "manifest",
    "preview",
    "printable",
    "statuses_shown_as",
    "target",
    "unknown_job",
    "unsaved",
]

__getattr__ = lazy_names(
    __name__,
    {
        "darkroom.catalogue.declarations": (
            "Catalogue",
            "DeferredProvider",
            "Content",
            "LongRunning",
            "Picture",
            "Resource",
            "Result",
            "Tool",
        ),
        "darkroom.catalogue.dispatch": ("job_result",),
        "darkroom.catalogue.prompts": (
            "Argument",
            "Prompt",
        ),
        "darkroom.catalogue.loading": ("completed",),
        "darkroom.core.environment": ("Missing",),
        "darkroom.core.errors": ("call_error", "unknown_job"),
        "darkroom.core.foreign": ("printable",),
        "darkroom.core.json_types": (
            "JsonObject",
            "JsonValue",
        ),
        "darkroom.core.times": ("iso",),
        "darkroom.engine.batches": (
            "grammar",
            "manifest",
        ),
        "darkroom.engine.batches.plan": ("Plan",),
        "darkroom.engine.batches.report": ("Report",),
        "darkroom.engine.batches.service": ("Batches",),
        "darkroom.engine.batches.start": ("Asked",),
        "darkroom.engine.cancellation": ("cancel",),
        "darkroom.engine.engine": ("Engine",),
        "darkroom.engine.person": (
            "Nobody",
            "Person",
        ),
        "darkroom.jobs.model": ("Job", "statuses_shown_as"),
        "darkroom.jobs.registry": ("LiveJob",),
        "darkroom.jobs.spending": (
            "Sum",
            "beginning",
            "counted",
        ),
        "darkroom.jobs.store": ("Query",),
        "darkroom.jobs.view": ("job_view",),
        "darkroom.results": ("preview",),
        "darkroom.results.decoder": ("Session",),
        "darkroom.results.export": ("target",),
        "darkroom.results.integrity": ("NotKeptError",),
        "darkroom.results.outputs": (
            "Outputs",
            "ResultItem",
            "unsaved",
        ),
    },
)
