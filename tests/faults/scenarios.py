"""One call of every operation of every provider, and what goes wrong with it.

A scenario says which tool is called, which request of it meets the fault, and what must be there
before. What the emulators and the journal say afterwards is an `Outcome`.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, TypeAlias

from darkroom_tools import CATALOGUE
from darkroom_tools.emulators.kit import Fault

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping

    from darkroom.providers.operations import Operation
    from darkroom_tools.emulators.sandbox import Sandbox
    from tests.faults.process import Process

Arguments: TypeAlias = "dict[str, object]"
Before: TypeAlias = "Callable[[Process, Sandbox], Awaitable[Arguments]]"

SAMPLES = "https://samples.sandbox.test"
TRYON: Arguments = {
    "model_image_url": f"{SAMPLES}/model-1.jpg",
    "garment_image_url": f"{SAMPLES}/garment-1.jpg",
}
PICTURE: Arguments = {"prompt": "A lighthouse", "width": 256, "height": 256}
EDIT: Arguments = {
    "input": f"{SAMPLES}/product-1.jpg",
    "operations": {"resizing": {"width": 64, "height": 64}},
}
DETAILS: Arguments = {"workflow_details": {"a": 1}, "output_details": {"b": 2}}
IMAGES: Arguments = {
    **DETAILS,
    "images": [{"image_url": f"{SAMPLES}/product-{n}.jpg", "image_name": f"i{n}"} for n in (1, 2)],
}


@dataclass(frozen=True, kw_only=True, eq=False)
class Scenario:
    """A call of ``tool`` whose request ``operation`` at ``emulator`` meets a fault.

    ``before`` brings about what the call needs, and returns arguments that come of it.
    """

    tool: str
    emulator: str
    operation: str
    arguments: Mapping[str, object] = field(default_factory=dict[str, object])
    before: Before | None = None
    note: str = ""

    def __str__(self) -> str:
        return f"{self.tool}{' ' + self.note if self.note else ''}"

    @property
    def declared(self) -> Operation:
        """The tool's declaration."""
        return next(
            operation
            for provider in CATALOGUE.providers
            for operation in provider.operations
            if operation.name == self.tool
        )

    @property
    def repeatable(self) -> bool:
        """Whether sending its request twice changes and costs nothing more."""
        return getattr(self.declared, "repeatable", not hasattr(self.declared, "accepted"))

    @property
    def check_tool(self) -> str | None:
        """The tool that checks what it starts, if it starts something."""
        return getattr(self.declared, "check_tool", None)


def running(tool: str, arguments: Arguments, *more: str) -> Before:
    """Start a job that never ends by itself."""

    async def start(one: Process, sandbox: Sandbox) -> Arguments:
        emulator, operation = more
        sandbox.emulators[emulator].faults.add(operation, Fault(kind="never_finish"))
        return {"job_id": (await one.call(tool, **arguments))["job_id"]}

    return start


def just_started(tool: str, arguments: Arguments) -> Before:
    """Start a job."""

    async def start(one: Process, sandbox: Sandbox) -> Arguments:
        del sandbox
        return {"job_id": (await one.call(tool, **arguments))["job_id"]}

    return start


async def finished(one: Process, sandbox: Sandbox) -> Arguments:
    """Have a picture of ZSky's."""
    job = await just_started("zsky_start_image", PICTURE)(one, sandbox)
    await one.call("zsky_check_job", **job, wait_seconds=40)
    return job


async def published(one: Process, sandbox: Sandbox) -> Arguments:
    """Have a bundle published in ``dev``."""
    del sandbox
    made = await one.call("znyx_publish_bundle", env="dev", policies={})
    return {"version": made["version"]}


async def active(one: Process, sandbox: Sandbox) -> Arguments:
    """Have a bundle active in ``dev``."""
    version = await published(one, sandbox)
    await one.call("znyx_activate_bundle", env="dev", **version)
    return {}


async def evaluated(one: Process, sandbox: Sandbox) -> Arguments:
    """Have a trace."""
    del sandbox
    await one.call("znyx_evaluate_input", text="hello")
    (trace, *_) = (await one.call("znyx_list_traces"))["traces"]
    return {"trace_id": str(trace["trace_id"])}


async def a_token(one: Process, sandbox: Sandbox) -> Arguments:
    """Have a token that nobody uses."""
    del sandbox
    return {"key_id": (await one.call("znyx_create_token", token_type="ci"))["id"]}


def znyx(tool: str, operation: str, before: Before | None = None, **arguments: object) -> Scenario:
    """Return a scenario at ZNYX."""
    return Scenario(
        tool=f"znyx_{tool}",
        emulator="znyx",
        operation=operation,
        arguments=arguments,
        before=before,
    )


SCENARIOS: tuple[Scenario, ...] = (
    Scenario(
        tool="zyng_register_request",
        emulator="zyng",
        operation="register_request",
        arguments=DETAILS,
    ),
    Scenario(
        tool="zyng_start_images",
        emulator="zyng",
        operation="register_request",
        arguments=IMAGES,
        note="(opening)",
    ),
    Scenario(
        tool="zyng_start_images",
        emulator="zyng",
        operation="process_image",
        arguments=IMAGES,
        note="(an image)",
    ),
    Scenario(
        tool="zyng_check_images",
        emulator="zyng",
        operation="poll_results",
        before=just_started("zyng_start_images", IMAGES),
        arguments={"wait_seconds": 40},
    ),
    Scenario(tool="zupertry_start_tryon", emulator="zupertry", operation="submit", arguments=TRYON),
    Scenario(
        tool="zupertry_check_tryon",
        emulator="zupertry",
        operation="get",
        before=just_started("zupertry_start_tryon", TRYON),
        arguments={"wait_seconds": 40},
    ),
    Scenario(tool="zupertry_list_tryons", emulator="zupertry", operation="list"),
    Scenario(
        tool="zupertry_cancel_tryon",
        emulator="zupertry",
        operation="cancel",
        before=running("zupertry_start_tryon", TRYON, "zupertry", "submit"),
    ),
    Scenario(tool="zupertry_list_workspaces", emulator="zupertry", operation="workspaces"),
    Scenario(tool="zupertry_get_account", emulator="zupertry", operation="account"),
    Scenario(
        tool="zsky_start_image", emulator="zsky", operation="generate_image", arguments=PICTURE
    ),
    Scenario(
        tool="zsky_start_video",
        emulator="zsky",
        operation="generate_video",
        arguments={"prompt": "Waves"},
    ),
    Scenario(
        tool="zsky_check_job",
        emulator="zsky",
        operation="get_job",
        before=just_started("zsky_start_image", PICTURE),
        arguments={"wait_seconds": 40},
    ),
    Scenario(tool="zsky_delete_result", emulator="zsky", operation="delete_job", before=finished),
    Scenario(tool="zsky_get_usage", emulator="zsky", operation="usage"),
    Scenario(tool="zsky_rotate_key", emulator="zsky", operation="rotate_key"),
    Scenario(tool="claid_start_image_edit", emulator="claid", operation="submit", arguments=EDIT),
    Scenario(
        tool="claid_check_image_edit",
        emulator="claid",
        operation="result",
        before=just_started("claid_start_image_edit", EDIT),
        arguments={"wait_seconds": 40},
    ),
    znyx("evaluate_input", "runtime.evaluateInput", text="hello"),
    znyx("evaluate_output", "runtime.evaluateOutput", text="hello"),
    znyx("evaluate_tool", "runtime.evaluateTool", tool_name="t", tool_args={}),
    znyx("evaluate_stream", "runtime.evaluateStream", chunks=["hello"]),
    znyx("get_latest_bundle", "runtime.getLatestBundle", active),
    znyx("list_bundles", "bundles.list", env="dev"),
    znyx("get_bundle", "bundles.get", published, env="dev"),
    znyx("publish_bundle", "bundles.publish", env="dev", policies={}),
    znyx("activate_bundle", "bundles.activate", published, env="dev"),
    znyx("promote_bundle", "bundles.promote", active, env="dev"),
    znyx("create_token", "tokens.createCi", token_type="ci"),
    znyx("list_tokens", "tokens.list"),
    znyx("revoke_token", "tokens.revoke", a_token),
    znyx("rotate_token", "tokens.rotate", a_token),
    znyx("list_traces", "traces.list"),
    znyx("get_trace", "traces.get", evaluated),
    znyx("get_billing_summary", "billing.summary"),
)

HUGE = 5 << 20

FAULTS: dict[str, tuple[Fault, int | None] | None] = {
    "none": None,
    "refuse": (Fault(kind="refuse"), 1),
    "refuse always": (Fault(kind="refuse"), None),
    "drop_before": (Fault(kind="drop_before"), 1),
    "drop_after": (Fault(kind="drop_after"), 1),
    "drop_during": (Fault(kind="drop_during"), 1),
    "hang_before": (Fault(kind="hang_before"), 1),
    "hang_after": (Fault(kind="hang_after"), 1),
    "hang_before always": (Fault(kind="hang_before"), None),
    "delay 20 s": (Fault(kind="delay", seconds=20), 1),
    **{
        f"status {status}": (Fault(kind="status", status=status), 1)
        for status in (400, 401, 402, 403, 404, 408, 409, 418, 422, 423, 429, 451, 500, 502, 503)
    },
    "status 429 always": (Fault(kind="status", status=429), None),
    "status 503 always": (Fault(kind="status", status=503), None),
    "status_after 500": (Fault(kind="status_after", status=500), 1),
    "malformed": (Fault(kind="malformed"), 1),
    "truncated": (Fault(kind="truncated"), 1),
    "wrong_types": (Fault(kind="wrong_types"), 1),
    "empty": (Fault(kind="empty"), 1),
    "huge": (Fault(kind="huge", size=HUGE), 1),
    "redirect": (Fault(kind="redirect"), 1),
    "never_finish": (Fault(kind="never_finish"), 1),
}
"""What goes wrong, and how often."""
