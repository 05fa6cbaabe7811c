"""The manifest beside a batch's files, as CSV and JSON: arguments, states, costs and files."""

from __future__ import annotations

import csv
import io
import json
from collections import Counter
from typing import TYPE_CHECKING

from darkroom.core.digests import canonical
from darkroom.core.files import make_private_folder, write_private
from darkroom.core.times import iso
from darkroom.core.urls import unsigned

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from darkroom.core.json_types import JsonObject
    from darkroom.jobs.model import Job

MOST_REPEATED = 200
"""Characters of an argument's JSON; a longer one that several jobs share is written once."""

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
    """Return one entry for each job, in the order of the batch; never an address of a result.

    Addresses of inputs lose what may be a signature, as in sidecars.
    """
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
            "arguments": unsigned(job.arguments),
        }
        for job in jobs
    ]


def named_once(entries: list[JsonObject]) -> JsonObject:
    """Replace arguments that several jobs share by a reference; return them by their names.

    A reference is a JSON pointer into the manifest (``{"$ref": "#/shared/1"}``). Otherwise a large
    object that a call gave once would stand there for each of its jobs.
    """
    uses: Counter[str] = Counter()
    for entry in entries:
        uses.update(text for _, text in _large(entry))
    names = {
        text: str(number)
        for number, text in enumerate((text for text, count in uses.items() if count > 1), 1)
    }
    shared: JsonObject = {}
    for entry in entries:
        arguments = entry["arguments"]
        for name, text in _large(entry):
            if text in names and isinstance(arguments, dict):
                shared.setdefault(names[text], arguments[name])
                arguments[name] = {"$ref": f"#/shared/{names[text]}"}
    return shared


def _large(entry: JsonObject) -> list[tuple[str, str]]:
    """Return the large arguments of a job with their JSON, by which equal ones are told."""
    arguments = entry["arguments"]
    if not isinstance(arguments, dict):
        return []
    texts = ((name, canonical(value)) for name, value in arguments.items())
    return [(name, text) for name, text in texts if len(text) > MOST_REPEATED]


def write(folder: Path, batch: Job, jobs: Sequence[Job]) -> None:
    """Replace each file atomically, so that a reader always finds a complete list."""
    entries = rows(jobs)
    shared = named_once(entries)
    make_private_folder(folder)
    whole: JsonObject = {"batch_id": batch.job_id, "name": batch.arguments.get("name")}
    whole |= {"shared": shared} if shared else {}
    whole["jobs"] = [*entries]
    write_private(folder / JSON_NAME, json.dumps(whole, ensure_ascii=False, indent=1) + "\n")
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
    write_private(folder / CSV_NAME, text.getvalue())


def _cell(value: object) -> object:
    """Return a value so that no spreadsheet reads it as a formula."""
    if isinstance(value, str) and value[:1] in "=+-@\t\r":
        return "'" + value
    return "" if value is None else value
