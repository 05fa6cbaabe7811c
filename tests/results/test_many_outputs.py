"""A job of many outputs, as a check shows it: small, with the way to the rest."""

from __future__ import annotations

import json

import pytest

from darkroom.cli import token_count as tokens
from darkroom.jobs.model import Job
from darkroom.jobs.view import job_view
from darkroom.providers.values import Cost, Output, Progress

LONG_FOLDER = "/home/person/Pictures/Darkroom/2026-11-22"


def a_job(count: int) -> Job:
    return Job(
        job_id="zyng_1234567890123456789012",
        owner="local",
        provider="zyng",
        operation="zyng_start_images",
        status="completed",
        arguments={},
        intent="x",
        fingerprint="y",
        created_at=1.0,
        updated_at=2.0,
        provider_job_id="0123456789abcdef0123456789abcdef",
        progress=Progress(count, count),
        cost=Cost(count, "images", "exact"),
        outputs=tuple(
            Output(
                index=n,
                url=f"https://results.example.com/{n}",
                media_type="image/png",
                width=1024,
                height=1024,
                bytes=123_456,
                name=f"product-photo-{n}.png",
                file=f"{LONG_FOLDER}/zyng-product-photo-{n}-1.png",
            )
            for n in range(count)
        ),
    )


@pytest.mark.parametrize("count", [1, 5, 40, 200])
def test_a_check_stays_small_however_many_outputs_there_are(count: int) -> None:
    count_of_tokens, exact = tokens.count(json.dumps(job_view(a_job(count)), separators=(",", ":")))
    assert exact
    assert count_of_tokens <= 250


def test_what_is_not_shown_is_counted_and_the_folder_is_named() -> None:
    view = job_view(a_job(40))
    assert isinstance(view["outputs"], list)
    assert len(view["outputs"]) == 2
    assert view["more_outputs"] == 38
    assert view["folder"] == LONG_FOLDER


def test_a_few_outputs_are_all_shown() -> None:
    view = job_view(a_job(4))
    assert isinstance(view["outputs"], list)
    assert len(view["outputs"]) == 4
    assert "more_outputs" not in view
