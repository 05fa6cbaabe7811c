"""The catalogue: the providers, and the tools that belong to none."""

from __future__ import annotations

from darkroom.operation import Catalogue
from darkroom_tools import jobs, money, setup, trial, zsky, zupertry

CATALOGUE = Catalogue(
    providers=(zupertry.PROVIDER, zsky.PROVIDER),
    tools=(*jobs.TOOLS, *money.TOOLS, setup.GET_SETUP),
    sandbox=trial.open_sandbox,
    serve_sandbox=trial.serve_sandbox,
    demo=trial.run_demo,
)
