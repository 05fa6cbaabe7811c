"""What people ask most, as prompts."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, cast

from darkroom.jobs.store import Query
from darkroom.operation import Call, Params
from darkroom.prompts import Argument, Prompt
from darkroom_tools import zupertry, zyng

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence

    from darkroom.errors import JsonObject
    from darkroom.machine import Machine

PROMPTED_VARIANTS = 4


def lines(text: str) -> str:
    """Return addresses or other entries one to a line, however they were typed."""
    return "\n".join(f"- {entry}" for entry in re.split(r"[\s,]+", text.strip()) if entry)


def together(tools: Collection[str]) -> str:
    """Say how many jobs are started as one, by the tools that are there."""
    if "start_batch" in tools:
        return (
            "Use start_batch, first with dry_run so that I can see the number of jobs and the "
            "cost, and after my yes once without it; then check_batch until it is completed."
        )
    return (
        "Tell me the number of jobs and what they will cost, and wait for my yes. Then start each "
        "job once and call the check tool of each until all have ended."
    )


def look_book(given: Mapping[str, str], tools: Collection[str]) -> str:
    """Ask for every garment on every model."""
    workspace = given.get("workspace_id")
    return "\n".join(
        [
            "Make a look book: every garment tried on by every model, with zupertry_start_tryon.",
            f"Garments:\n{lines(given['garments'])}",
            f"Models:\n{lines(given['models'])}",
            *([f"Use the workspace {workspace}."] if workspace else []),
            together(tools),
            "Show me the pictures model by model, and say which combinations failed and why.",
        ]
    )


def clean_photos(given: Mapping[str, str], tools: Collection[str]) -> str:
    """Ask for product photos made alike."""
    workflow = given.get("workflow")
    how = (
        f"Send them through zyng_start_images with the workflow {workflow}."
        if workflow
        else "Use claid_start_image_edit for each: remove the background, put the product in the "
        f"middle of {given.get('background') or 'white'} with some room around it, correct light "
        f"and colour gently, and make all {given.get('size') or '2000 x 2000'} pixels. "
        + together(tools)
    )
    return "\n".join(
        [
            "Clean these product photos so that they look as if taken in one session:",
            lines(given["photos"]),
            how,
            "Save the results under the names of the originals, and list those that need a look.",
        ]
    )


def variants(given: Mapping[str, str], tools: Collection[str]) -> str:
    """Ask for one idea in several ways."""
    count = given.get("count") or str(PROMPTED_VARIANTS)
    return "\n".join(
        [
            f"Make {count} variants of one idea with zsky_start_image: {given['idea']}",
            (
                "Keep the subject; vary one thing at a time (light, angle, palette, setting) and give "
                "each its own prompt and seed, so that a good one can be made again."
            ),
            together(tools),
            "Show them side by side with what differs, its seed, and which you would take.",
        ]
    )


def what_did_i_spend(given: Mapping[str, str], tools: Collection[str]) -> str:
    """Ask for the costs."""
    del tools
    since = f" since {given['since']}" if given.get("since") else " this month"
    return (
        f"What did I spend{since}? Use get_spending, and list_jobs for what it was spent on. Give "
        "me a short table per provider: spent, cap, left; then the three most expensive things, "
        "what is only an estimate, and any job of unknown fate whose cost is still held."
    )


def settle_unknown(given: Mapping[str, str], tools: Collection[str]) -> str:
    """Ask to find out about jobs whose fate is unknown."""
    del tools
    which = given.get("job_id")
    return "\n".join(
        [
            f"Settle the job {which}."
            if which
            else "Find the jobs of unknown fate with list_jobs (status unknown) and settle them.",
            (
                "For each tell me what was asked, when it was sent and what its evidence says. Where "
                "the provider lists jobs, compare them with it. Then ask me: I look into the "
                "provider's own pages if need be."
            ),
            (
                "Only after my word call resolve_job, with submitted and the provider's id, or with "
                "not_submitted. Never start a job of unknown fate again before it is settled."
            ),
        ]
    )


async def workspace_ids(machine: Machine, typed: str) -> Sequence[str]:
    """Return the ids of the account's workspaces."""
    provider = machine.providers[zupertry.NAME]
    call = cast("Call", provider.operation(zupertry.LIST_WORKSPACES.name))
    answer = await machine.call(provider, call, Params(), Nobody())
    found = cast("list[JsonObject]", answer.get("workspaces", []))
    ids = [str(each["id"]) for each in found if "id" in each]
    return [each for each in ids if each.startswith(typed)]


async def workflow_names(machine: Machine, typed: str) -> Sequence[str]:
    """Return the names of the configured workflows."""
    settings = cast("zyng.Settings", machine.settings.provider(zyng.PROVIDER.name))
    return [name for name in settings.workflows if name.startswith(typed)]


async def unknown_jobs(machine: Machine, typed: str) -> Sequence[str]:
    """Return the ids of jobs whose fate is unknown."""
    store = await machine.store()
    query = Query(owner=machine.owner, statuses=frozenset({"unknown"}), limit=100)
    return [job.job_id for job in await store.list(query) if job.job_id.startswith(typed)]


class Nobody:
    """Who is behind a completion: somebody who types, and is not asked."""

    async def approve(self, tool: str, question: str, binding: str) -> None:
        """Approve nothing."""
        raise PermissionError(tool, question, binding)

    async def progress(self, done: float, total: float | None, message: str) -> None:
        """Tell nobody."""


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
        needs=("zupertry_start_tryon", "zupertry_check_tryon"),
        text=look_book,
    ),
    Prompt(
        name="clean_photos",
        title="Clean product photos",
        description="Make a folder of product photos look alike.",
        arguments=(
            Argument(name="photos", description="Addresses of the photos.", required=True),
            Argument(
                name="workflow",
                description="A configured Zyng workflow to send them through.",
                complete=workflow_names,
            ),
            Argument(name="background", description="Colour behind the products (white)."),
            Argument(name="size", description="Size of the results (2000 x 2000 pixels)."),
        ),
        needs=("claid_start_image_edit", "claid_check_image_edit"),
        text=clean_photos,
    ),
    Prompt(
        name="variants",
        title="Variants of one idea",
        description="The same idea in several pictures.",
        arguments=(
            Argument(name="idea", description="What the pictures show.", required=True),
            Argument(name="count", description="How many (4)."),
        ),
        needs=("zsky_start_image", "zsky_check_job"),
        text=variants,
    ),
    Prompt(
        name="spending",
        title="What did I spend?",
        description="Costs per provider, and what is left.",
        arguments=(Argument(name="since", description="Date to count from (this month)."),),
        needs=("get_spending", "list_jobs"),
        text=what_did_i_spend,
    ),
    Prompt(
        name="settle_unknown",
        title="Settle what is unknown",
        description="Find out what became of jobs whose answer was lost.",
        arguments=(
            Argument(name="job_id", description="One such job (all).", complete=unknown_jobs),
        ),
        needs=("list_jobs", "resolve_job"),
        text=settle_unknown,
    ),
)
