"""The sections of the settings that belong to no provider, each key with what it means."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from darkroom.config.team import PublicAddress  # noqa: TC001 -- pydantic reads the annotations
from darkroom.providers.params import MAX_WAIT_SECONDS
from darkroom.providers.setting_values import (  # noqa: TC001 -- pydantic reads the annotations
    PathValue,
    PolicyName,
    ToolName,
    UnitName,
)
from darkroom.providers.settings import Section


class JobsSection(Section):
    """How jobs are kept."""

    store: Literal["sqlite", "memory"] = Field(
        default="sqlite",
        description="Where jobs are kept: a journal on disk, or only this process's memory.",
    )
    state_dir: PathValue | None = Field(
        default=None, description="Folder of the journal. Default: the platform's state folder."
    )
    identical_window_seconds: Annotated[int, Field(ge=0)] = Field(
        default=120,
        description="An identical start call returns the existing job while it runs and for this long "
        "after it completed. 0 turns both off. An unknown job is always returned.",
    )
    new_key: Literal["same", "new"] = Field(
        default="same",
        description="An identical start call with a new idempotency_key: the existing job while it "
        "runs and within the window, or a new job (for programs that mean it).",
    )
    keep_days: Annotated[int, Field(ge=1)] = Field(
        default=30, description="How long ended jobs, and what they cost, stay in the journal."
    )


class ResultsSection(Section):
    """Where results go."""

    folder: PathValue | None = Field(
        default=None,
        description="Where results are saved. Default: Darkroom in the platform's pictures folder.",
    )
    download: Literal["always", "on_demand", "never"] = Field(
        default="always",
        description="When outputs are downloaded (their addresses expire): as soon as a job completes, "
        "when they are shown or saved, or never.",
    )
    previews: Literal["on", "off"] = Field(
        default="on",
        description="Whether show_results gives pictures to the model, or only says where they are; "
        "some hosts hand a picture on as tens of thousands of tokens of text.",
    )
    through_proxy: bool = Field(
        default=False,
        description="Whether outputs are downloaded through the proxy of HTTPS_PROXY, like requests "
        "to providers. The proxy then decides which addresses can be reached, so that the check "
        "against private addresses sees only names.",
    )


class FilesSection(Section):
    """Where files may be written."""

    roots: tuple[PathValue, ...] = Field(
        default=(),
        description="Folders that results may be copied into; a relative target goes under the "
        "first. Default: the folder the server was started in, unless that is a home or root "
        "folder, and the results folder.",
    )


class ApprovalSection(Section):
    """When the person is asked."""

    above: dict[UnitName, Annotated[float, Field(ge=0)]] = Field(
        default_factory=dict[str, float],
        description="Ask before a call that costs more than this: money, or a provider's unit "
        "(zsky_videos). A unit without a price is above any amount of money.",
    )
    above_per_day: dict[UnitName, Annotated[float, Field(ge=0)]] = Field(
        default_factory=dict[str, float],
        description="Ask before a call with which more than this would be spent on a UTC day "
        "without asking. The units are those of above.",
    )
    never_ask: tuple[ToolName, ...] = Field(
        default=(), description="Tools that may run without asking the person first."
    )


class CredentialsSection(Section):
    """Where new keys from a provider are saved."""

    dir: PathValue | None = Field(
        default=None, description="Folder for new keys, one file each (0600). Without it: none."
    )


class GuardSection(Section):
    """Whether prompts are checked against a policy before they are sent."""

    provider: PolicyName | None = Field(
        default=None, description="Provider whose policy checks prompts (znyx). Without it: none."
    )
    fail: Literal["closed", "open"] = Field(
        default="closed",
        description="If the policy cannot be asked: refuse the call (closed), or go on with a warning (open).",
    )


class HttpSection(Section):
    """How `darkroom serve --http` is reached."""

    token_file: PathValue | None = Field(
        default=None,
        description="File with the token that clients send. Default: a file that is made in the state "
        "folder. Required for listening on addresses other than loopback.",
    )
    hosts: tuple[str, ...] = Field(
        default=(),
        description="More host names by which clients reach this server, for example behind a proxy.",
    )
    public_url: PublicAddress | None = Field(
        default=None,
        description="Address by which people reach this server, without a path: the resource that a "
        "team's tokens are for, and where links to results lead. Default: the address listened on.",
    )


class ServeSection(Section):
    """Which tools hosts see. Names may have wildcards: zsky_*."""

    providers: tuple[str, ...] = Field(
        default=(), description="Only these providers, and the tools that belong to none."
    )
    tools: tuple[str, ...] = Field(default=(), description="Only these tools.")
    exclude: tuple[str, ...] = Field(default=(), description="Not these tools.")
    read_only: bool = Field(
        default=False, description="Only tools that change and cost nothing; beats the others."
    )
    wait_seconds: Annotated[int, Field(ge=0, le=MAX_WAIT_SECONDS)] = Field(
        default=25,
        description="How long a check waits for news where the call does not say; lower it for a "
        "host that cuts calls off after 5 or 10 s.",
    )
    drain_seconds: Annotated[float, Field(ge=1, le=600)] = Field(
        default=45,
        description="How long requests that are on their way have to finish when the server stops.",
    )


class SpendingSection(Section):
    """Caps on what is spent; each provider adds its own units."""

    money_per_process: Annotated[float, Field(ge=0)] | None = Field(
        default=None, description="Most money that one run of this server may spend."
    )
    money_per_day: Annotated[float, Field(ge=0)] | None = Field(
        default=None, description="Most money per UTC day, of all providers whose prices are known."
    )
    money_per_month: Annotated[float, Field(ge=0)] | None = Field(
        default=None, description="Most money per UTC month."
    )
