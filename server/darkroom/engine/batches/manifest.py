"""The manifest beside a batch's files, as CSV and JSON: arguments, states, costs and files."""

from __future__ import annotations

import csv
import io
import json
import os
import secrets
from typing import TYPE_CHECKING

from darkroom.core.times import iso

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from darkroom.core.json_types import JsonObject
    from darkroom.jobs.model import Job

JSON_NAME = "manifest.json"
CSV_NAME = "manifest.csv"
COLUMNS = (
    "item",
    "job_id",
    "operation",
    "status",
    "files",
    "cost",
    "unit",
    "error",
    "created_at",
    "ended_at",
    "arguments",
)


def rows(jobs: Sequence[Job]) -> list[JsonObject]:
    """Return one entry for each job, in the order of the batch, without addresses of results."""
    return [
        {
            "item": job.item,
            "job_id": job.job_id,
            "operation": job.operation,
            "status": job.shown_status,
            "files": [output.file for output in job.outputs if output.file is not None],
            "cost": job.cost.amount if job.cost is not None else None,
            "unit": job.cost.unit if job.cost is not None else None,
            "error": job.error.code if job.error is not None else None,
            "created_at": iso(job.created_at),
            "ended_at": iso(job.ended_at) if job.ended_at is not None else None,
            "arguments": job.arguments,
        }
        for job in jobs
    ]


def write(folder: Path, batch: Job, jobs: Sequence[Job]) -> None:
    """Replace each file atomically, so that a reader always finds a complete list."""
    entries = rows(jobs)
    folder.mkdir(parents=True, exist_ok=True)
    whole = {"batch_id": batch.job_id, "name": batch.arguments.get("name"), "jobs": entries}
    _replace(folder / JSON_NAME, json.dumps(whole, ensure_ascii=False, indent=1) + "\n")
    text = io.StringIO()
    table = csv.DictWriter(text, COLUMNS)
    table.writeheader()
    for entry in entries:
        files = entry["files"]
        table.writerow(
            {
                **{name: _cell(entry[name]) for name in COLUMNS},
                "files": " ".join(map(str, files)) if isinstance(files, list) else "",
                "arguments": json.dumps(entry["arguments"], ensure_ascii=False),
            }
        )
    _replace(folder / CSV_NAME, text.getvalue())


def _cell(value: object) -> object:
    """Return a value so that no spreadsheet reads it as a formula."""
    if isinstance(value, str) and value[:1] in "=+-@\t\r":
        return "'" + value
    return "" if value is None else value


def _replace(path: Path, text: str) -> None:
    beside = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    try:
        beside.write_text(text, "utf-8")
        beside.replace(path)
    except OSError:
        if beside.exists():
            os.unlink(beside)  # noqa: PTH108 -- whatever it is
        raise
