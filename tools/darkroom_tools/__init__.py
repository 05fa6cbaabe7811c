"""The catalogue: the providers, and the tools that belong to none."""

from __future__ import annotations

from pathlib import Path

from darkroom.catalogue import Catalogue
from darkroom_tools import (
    batch,
    claid,
    gallery,
    jobs,
    money,
    prompts,
    results,
    setup,
    trial,
    znyx,
    zsky,
    zupertry,
    zyng,
)

CATALOGUE = Catalogue(
    providers=(
        zyng.PROVIDER,
        zupertry.PROVIDER,
        zsky.PROVIDER,
        claid.PROVIDER,
        znyx.PROVIDER,
    ),
    tools=(*jobs.TOOLS, *batch.TOOLS, *results.TOOLS, *money.TOOLS, setup.GET_SETUP),
    resources=gallery.RESOURCES,
    prompts=prompts.PROMPTS,
    schemas=Path(__file__).with_name("schemas.json"),
    sandbox=trial.open_sandbox,
    serve_sandbox=trial.serve_sandbox,
    demo=trial.run_demo,
)
