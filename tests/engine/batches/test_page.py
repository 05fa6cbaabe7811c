"""The page about batches: every example on it is one that the server takes."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.harness import call, rig

if TYPE_CHECKING:
    from collections.abc import Callable

pytestmark = pytest.mark.anyio

PAGE = Path(__file__).parents[3] / "docs" / "batches.md"
EXAMPLES = re.findall(r"^```jsonc\n(.*?)^```", PAGE.read_text("utf-8"), re.DOTALL | re.MULTILINE)
TOTALS = (12, 4, 2, 4)


@pytest.mark.parametrize(("example", "total"), [*zip(EXAMPLES, TOTALS, strict=True)])
async def test_an_example_makes_as_many_jobs_as_the_page_says(
    clock: Callable[[], float], tmp_path: Path, example: str, total: int
) -> None:
    async with rig(clock, tmp_path).client() as client:
        said = await call(client, "start_batch", **{**json.loads(example), "dry_run": True})
    assert said["total"] == total
