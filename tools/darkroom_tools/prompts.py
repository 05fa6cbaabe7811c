"""The prompts: common requests of people."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, cast

from darkroom.catalogue import Argument, Prompt, Query
from darkroom.providers import CallOperation, Params
from darkroom_tools.providers import zupertry, zyng

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence

    from darkroom.catalogue import Engine, JsonObject

PROMPTED_VARIANTS = 4
PROMPTED_SIZE = "2000 x 2000"
WHITE = "#ffffff"

TRYON = ("zupertry_start_tryon", "zupertry_check_tryon")
EDIT = ("claid_start_image_edit", "claid_check_image_edit")
WORKFLOW = ("zyng_start_images", "zyng_check_images")

_BETWEEN = re.compile(r"\s+|,(?=\s|$|https?://|job:|storage://)")
"""What separates two addresses; a comma may also be part of an address."""


def listed(text: str) -> list[str]:
    """Return the addresses in a text, however they are separated."""
    return [entry for entry in _BETWEEN.split(text) if entry]


def together(tools: Collection[str], call: JsonObject) -> str:
    """Return the text that says how to start many jobs as one, with the listed tools.

    ``call`` contains the arguments of ``start_batch``, which also describe the single jobs.
    """
    if "start_batch" in tools:
        return (
            f"Call start_batch with {json.dumps(call | {'dry_run': True}, ensure_ascii=False)} "
            "so that I can see the number of jobs and the cost. After my yes call it once with "
            "the same and without dry_run; then check_batch until it is completed."
        )
    return (
        f"The jobs are those of {json.dumps(call, ensure_ascii=False)}, every value of for_each "
        "with every other. Tell me how many that are and what they will cost, and wait for my "
        "yes. Then start each once and call its check tool until all have ended."
    )


def seen(tools: Collection[str]) -> str:
    """Return the text that says how to show pictures."""
    return "Show them with show_results" if "show_results" in tools else "Say where the files are"


def look_book(given: Mapping[str, str], tools: Collection[str]) -> str:
    """Return the request to try every garment on every model."""
    call: JsonObject = {
        "tool": "zupertry_start_tryon",
        "for_each": {
            "model_image_url": [*listed(given["models"])],
            "garment_image_url": [*listed(given["garments"])],
        },
    }
    if workspace := given.get("workspace_id"):
        call["arguments"] = {"workspace_id": workspace}
    return "\n".join(
        [
            "Make a look book: every garment tried on by every model.",
            together(tools, call),
            f"{seen(tools)}, model by model, and say which combinations failed and why.",
        ]
    )


def clean_photos(given: Mapping[str, str], tools: Collection[str]) -> str:
    """Return the request to edit product photos in the same way."""
    photos = listed(given["photos"])
    if given.get("workflow") or not set(EDIT) <= set(tools):
        how = through_workflow(photos, given.get("workflow"))
    else:
        how = edited(photos, given, tools)
    if "save_results" in tools:
        saved = "Save them with save_results into a folder that I name, and say which is which"
    else:
        saved = seen(tools)
    return "\n".join(
        [
            "Clean these product photos so that they look as if taken in one session.",
            how,
            f"{saved}; list those that need a look.",
        ]
    )


def through_workflow(photos: Sequence[str], workflow: str | None) -> str:
    """Return the text that says how to run photos through a workflow of Zyng."""
    call: JsonObject = {"images": [{"image_url": photo} for photo in photos]}
    if workflow:
        call["workflow"] = workflow
    asked = "" if workflow else "Ask me which workflow to use, unless there is only one. "
    return (
        f"{asked}Tell me how many images there are, and after my yes call zyng_start_images once "
        f"with {json.dumps(call, ensure_ascii=False)}; then zyng_check_images until it ends."
    )


def edited(photos: Sequence[str], given: Mapping[str, str], tools: Collection[str]) -> str:
    """Return the text that says how to edit photos with Claid; the model translates free text."""
    background: JsonObject = {"remove": {"category": "products"}, "color": WHITE}
    resizing: JsonObject = {"fit": "canvas"}
    words: list[str] = []
    colour = given.get("background", "white").strip()
    if re.fullmatch(r"#[0-9a-fA-F]{6}|transparent", colour):
        background["color"] = colour
    elif colour.lower() != "white":
        words.append(f"background.color is {colour}, as #rrggbb.")
    size = given.get("size", PROMPTED_SIZE)
    sides = re.fullmatch(r"\D*(\d+)(?:\D+(\d+))?\D*", size)
    if sides is not None:
        resizing |= {"width": sides[1], "height": sides[2] or sides[1]}
    else:
        words.append(f"The size is {size}: resizing.width and resizing.height, in pixels.")
    call: JsonObject = {
        "tool": EDIT[0],
        "arguments": {
            "operations": {
                "background": background,
                "padding": "10%",
                "resizing": resizing,
                "adjustments": {"hdr": 40},
            }
        },
        "for_each": {"input": [*photos]},
    }
    return " ".join([*words, together(tools, call)])


def variants(given: Mapping[str, str], tools: Collection[str]) -> str:
    """Return the request for several variants of one idea."""
    count = given.get("count") or str(PROMPTED_VARIANTS)
    item: JsonObject = {"tool": "zsky_start_image", "arguments": {"prompt": "…", "seed": 1}}
    return "\n".join(
        [
            f"Make {count} variants of one idea with zsky_start_image: {given['idea']}",
            (
                "Keep the subject; vary one thing at a time (light, angle, palette, setting) and give "
                "each its own prompt and seed, so that a good one can be made again."
            ),
            together(tools, {"items": [item]}) + " Put one item there for each variant.",
            f"{seen(tools)}, with what differs, the seed, and which you would take.",
        ]
    )


def what_did_i_spend(given: Mapping[str, str], tools: Collection[str]) -> str:
    """Return the question about costs."""
    del tools
    since = given.get("since")
    begin = since or "the first day of this month (UTC)"
    return (
        f"What did I spend since {begin}? Call get_spending with since, an ISO date: without it "
        "only today counts. list_jobs says what it was spent on. Give me a short table per "
        "provider: spent, cap, left; then the three most expensive things, what is only an "
        "estimate, and (list_jobs, status unknown) any job of unknown fate whose cost is still held."
    )


def settle_unknown(given: Mapping[str, str], tools: Collection[str]) -> str:
    """Return the request to settle unknown jobs."""
    del tools
    which = given.get("job_id")
    return "\n".join(
        [
            f"Settle the job {which}."
            if which
            else "Find the jobs of unknown fate with list_jobs (status unknown) and settle them.",
            (
                "For each tell me what was asked, when it was sent and what its evidence says: its "
                "check tool shows it. Where the provider has a tool that lists its jobs, compare "
                "them with it. Then ask me: I look into the provider's own pages if need be."
            ),
            (
                "Only after my word call resolve_job, with outcome submitted and the provider's id as "
                "provider_job_id, or with outcome not_submitted. Never start a job of unknown fate "
                "again before it is settled."
            ),
        ]
    )


async def workspace_ids(engine: Engine, typed: str) -> Sequence[str]:
    """Return the ids of the account's workspaces."""
    from darkroom.catalogue import Nobody  # noqa: PLC0415 -- needed with the first completion

    provider = engine.providers[zupertry.NAME]
    call = cast("CallOperation", provider.operation(zupertry.LIST_WORKSPACES.name))
    response = await engine.call(provider, call, Params(), Nobody())
    found = cast("list[JsonObject]", response.get("workspaces", []))
    ids = [str(each["id"]) for each in found if "id" in each]
    return [each for each in ids if each.startswith(typed)]


async def workflow_names(engine: Engine, typed: str) -> Sequence[str]:
    """Return the names of the configured workflows."""
    settings = cast("zyng.Settings", engine.settings.provider(zyng.PROVIDER.name))
    return [name for name in settings.workflows if name.startswith(typed)]


async def unknown_jobs(engine: Engine, typed: str) -> Sequence[str]:
    """Return the ids of unknown jobs."""
    query = Query(owner=engine.owner, statuses=frozenset({"unknown"}), limit=100)
    return [job.job_id for job in await engine.jobs(query) if job.job_id.startswith(typed)]


PROMPTS = (
    Prompt(
        name="look_book",
        title="Look book",
        description="Every garment on every model.",
        arguments=(
            Argument(name="garments", description="Addresses of garment photos.", required=True),
            Argument(name="models", description="Addresses of model photos.", required=True),
            Argument(
                name="workspace_id",
                description="Workspace at Zuper Try-On.",
                complete=workspace_ids,
            ),
        ),
        needs=(TRYON,),
        text=look_book,
    ),
    Prompt(
        name="clean_photos",
        title="Clean product photos",
        description="Make product photos look alike.",
        arguments=(
            Argument(name="photos", description="Addresses of the photos.", required=True),
            Argument(
                name="workflow",
                description="A configured Zyng workflow to send them through.",
                complete=workflow_names,
                needs=WORKFLOW,
            ),
            Argument(
                name="background",
                description="Colour behind the products (white); not with a workflow.",
                needs=EDIT,
            ),
            Argument(
                name="size",
                description=f"Size of the results in pixels ({PROMPTED_SIZE}); not with a workflow.",
                needs=EDIT,
            ),
        ),
        needs=(EDIT, WORKFLOW),
        text=clean_photos,
    ),
    Prompt(
        name="variants",
        title="Variants of one idea",
        description="The same idea in several pictures.",
        arguments=(
            Argument(name="idea", description="What the pictures show.", required=True),
            Argument(name="count", description=f"How many ({PROMPTED_VARIANTS})."),
        ),
        needs=(("zsky_start_image", "zsky_check_job"),),
        text=variants,
    ),
    Prompt(
        name="spending",
        title="What did I spend?",
        description="Costs per provider, and what is left.",
        arguments=(Argument(name="since", description="Date to count from (this month)."),),
        needs=(("get_spending", "list_jobs"),),
        text=what_did_i_spend,
    ),
    Prompt(
        name="settle_unknown",
        title="Settle what is unknown",
        description="Find out what became of jobs whose answer was lost.",
        arguments=(
            Argument(name="job_id", description="One such job (all).", complete=unknown_jobs),
        ),
        needs=(("list_jobs", "resolve_job"),),
        text=settle_unknown,
    ),
)
