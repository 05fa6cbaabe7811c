"""The JSON file beside each saved file: provider, operation, parameters, cost and times."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from darkroom.core.media_types import PART_PREFIX, PART_SUFFIX
from darkroom.core.times import iso
from darkroom.jobs.view import cost_view

if TYPE_CHECKING:
    from pathlib import Path

    from darkroom.core.json_types import JsonObject, JsonValue
    from darkroom.jobs.model import Job
    from darkroom.providers.values import Output

SUFFIX = ".json"

_ADDRESS = re.compile(r"\bhttps?://\S+", re.IGNORECASE)


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
    """Write the sidecar of the file at ``path``, completely or not at all."""
    target = sidecar_path(path)
    growing = target.with_name(f"{PART_PREFIX}{target.name}{PART_SUFFIX}")
    growing.write_text(json.dumps(fields, ensure_ascii=False, indent=2) + "\n", "utf-8")
    growing.replace(target)


def unsigned(value: JsonValue) -> JsonValue:
    """Return a value with the user, query and fragment removed from its addresses."""
    if isinstance(value, str):
        return _ADDRESS.sub(lambda match: _bare(match[0]), value)
    if isinstance(value, list):
        return [unsigned(inner) for inner in value]
    if isinstance(value, dict):
        return {key: unsigned(inner) for key, inner in value.items()}
    return value


def _bare(address: str) -> str:
    try:
        parts = urlsplit(address)
    except ValueError:
        return "[address]"
    host = parts.netloc.rpartition("@")[2]
    return f"{parts.scheme}://{host}{parts.path}"
