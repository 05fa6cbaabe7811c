"""Base classes of settings."""

from __future__ import annotations

from typing import Annotated, Any, Protocol

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
)

from darkroom.providers.setting_values import read_table


class Section(BaseModel):
    """Base of all sections: frozen; an unknown key is an error."""

    model_config = ConfigDict(frozen=True, extra="forbid", defer_build=True)


Table = Annotated[dict[str, Any], BeforeValidator(read_table)]
"""A table, or the path of a JSON file that holds an object.

A relative path is relative to the folder of the configuration file, or, without one, to the
working directory.
"""


Price = Annotated[float, Field(ge=0, allow_inf_nan=False)]
"""What one of something costs: one below zero, or none that can be compared, would disable caps."""


class ProviderSettings(Section):
    """Settings that every provider has; a provider's module adds its own."""

    allow_http: bool = Field(
        default=False, description="Allow a base address over http that is not loopback."
    )
    requests_per_minute: Annotated[int, Field(ge=1, le=100_000)] | None = Field(
        default=None,
        description="Requests a minute that this account may make, if not what the page says.",
    )
    concurrent_jobs: Annotated[int, Field(ge=1, le=100)] | None = Field(
        default=None,
        description="Jobs that may run at once in this account, if not what the page says.",
    )


class Sections(Protocol):
    """Returns the settings of a provider; `darkroom.config` implements it."""

    def provider(self, name: str, /) -> ProviderSettings:
        """Return a provider's section."""
        ...
