"""The catalogue: the providers, and the tools that belong to no provider."""

from __future__ import annotations

from pathlib import Path

from darkroom.catalogue import Catalogue, DeferredProvider
from darkroom_tools import prompts
from darkroom_tools import sandbox as trial
from darkroom_tools.gallery import resource as gallery
from darkroom_tools.neutral import batches as batch
from darkroom_tools.neutral import jobs, results, setup
from darkroom_tools.neutral import spending as money
from darkroom_tools.providers import zsky, zupertry, zyng
from darkroom_tools.providers.claid import provider as claid
from darkroom_tools.providers.znyx import provider as znyx

CATALOGUE = Catalogue(
    providers=(
        zyng.PROVIDER,
        zupertry.PROVIDER,
        zsky.PROVIDER,
        claid.PROVIDER,
        znyx.PROVIDER,
    ),
    deferred=(
        DeferredProvider(
            name="fal",
            module="darkroom_tools.providers.fal.provider:PROVIDER",
            variables=("FAL_KEY",),
        ),
        DeferredProvider(
            name="bfl",
            module="darkroom_tools.providers.bfl:PROVIDER",
            variables=("BFL_API_KEY",),
        ),
        DeferredProvider(
            name="replicate",
            module="darkroom_tools.providers.replicate:PROVIDER",
            variables=("REPLICATE_API_TOKEN",),
        ),
    ),
    tools=(*jobs.TOOLS, *batch.TOOLS, *results.TOOLS, *money.TOOLS, setup.GET_SETUP),
    resources=gallery.RESOURCES,
    prompts=prompts.PROMPTS,
    schemas=Path(__file__).with_name("schemas.json"),
    sandbox=trial.open_sandbox,
    serve_sandbox=trial.serve_sandbox,
    demo=trial.run_demo,
)
