"""The shortest way through: start, check, have a file."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.harness import ERAS, Era, call, inline, rig

if TYPE_CHECKING:
    from collections.abc import Callable

pytestmark = pytest.mark.anyio


@pytest.mark.parametrize("era", ERAS)
async def test_an_image_is_started_waited_for_and_saved(
    clock: Callable[[], float], tmp_path: Path, era: Era
) -> None:
    async with rig(clock, tmp_path).client(era) as client:
        started = await call(client, "zsky_start_image", prompt="A lighthouse at dusk")
        assert started["status"] == "running"
        ended = await call(client, "zsky_check_job", job_id=started["job_id"])
        assert ended["status"] == "completed"
        (output,) = ended["outputs"]
        assert "url" not in output
        path = Path(output["file"])
        assert path.name == "zsky-lighthouse-at-dusk-1.webp"
        assert (await inline(path.read_bytes)).startswith(b"RIFF")
