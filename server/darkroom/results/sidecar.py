"""The JSON file beside each saved file: provider, operation, parameters, cost and times."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from darkroom.core.files import write_private
from darkroom.core.times import iso
from darkroom.core.urls import unsigned
from darkroom.jobs.view import cost_view

if TYPE_CHECKING:
    from pathlib import Path

    from darkroom.core.json_types import JsonObject, JsonValue
    from darkroom.jobs.model import Job
    from darkroom.providers.values import Output

SUFFIX = ".json"


def sidecar_path(file: Path) -> Path:
    """Return the path of a file's sidecar."""
    return file.with_name(file.name + SUFFIX)


def sidecar(job: Job, output: Output, saved_at: float) -> JsonObject:
    """Return the description of a saved file; addresses lose what may be a signature or secret."""
    fields: dict[str, JsonValue] = {
        "provider": job.provider,
        "operation": job.operation,
        "job_id": job.job_id,
        "provider_job_id": job.provider_job_id,
        "index": output.index,
        "name": output.name,
        "parameters": unsigned(job.arguments),
        "cost": cost_view(job.cost),
        "created_at": iso(job.created_at),
        "completed_at": iso(job.ended_at) if job.ended_at is not None else None,
        "saved_at": iso(saved_at),
        "media_type": output.media_type,
        "width": output.width,
        "height": output.height,
        "bytes": output.bytes,
        "sha256": output.sha256,
        "sandbox": job.sandbox or None,
    }
    return {key: value for key, value in fields.items() if value is not None}


def write(path: Path, fields: JsonObject) -> None:
    """Write the sidecar of the file at ``path``, whole or not at all."""
    write_private(sidecar_path(path), json.dumps(fields, ensure_ascii=False, indent=2) + "\n")
