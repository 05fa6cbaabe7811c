"""Settings for local files as inputs of jobs: which may be sent, and how they get to a provider."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal
from urllib.parse import urlsplit

from pydantic import Field, field_validator
from pydantic_core import PydanticCustomError

from darkroom.core.urls import is_loopback_host
from darkroom.providers.setting_values import PathValue  # noqa: TC001 -- pydantic reads it
from darkroom.providers.settings import Section

if TYPE_CHECKING:
    from pathlib import Path


class S3Section(Section):
    """The bucket that local files go to on their way to a provider."""

    bucket: str | None = Field(
        default=None, min_length=1, description="Name of the bucket; it may be private."
    )
    endpoint: str | None = Field(
        default=None,
        description="Address of the server, for all but AWS: https, or http on loopback.",
    )
    region: str = Field(default="us-east-1", min_length=1, description="The bucket's region.")
    prefix: str = Field(
        default="darkroom/",
        pattern=r"^([\w.=-]+/)*$",
        description="Folder in the bucket; nothing outside it is touched.",
    )

    @field_validator("endpoint")
    @classmethod
    def _secure(cls, value: str | None) -> str | None:
        """Refuse an address to which pictures would go in the clear."""
        if value is None:
            return None
        parts = urlsplit(value)
        host = parts.hostname or ""
        if not host or parts.scheme not in {"https", *(["http"] if is_loopback_host(host) else [])}:
            raise PydanticCustomError("endpoint", "expected an https address; http is for loopback")
        return value.rstrip("/")


class InputsSection(Section):
    """Local files as inputs of jobs."""

    roots: tuple[PathValue, ...] = Field(
        default=(),
        description="Folders whose pictures and videos may be sent to providers; a relative path "
        "begins at the first. Default: the same as [files] roots.",
    )
    upload: Literal["s3"] | None = Field(
        default=None,
        description="Where a provider that takes only addresses gets a local file from: a bucket of "
        "yours (s3, as inputs.s3 says). Without it: such a provider takes no local files.",
    )
    fit: bool = Field(
        default=False,
        description="Make a picture smaller, or convert it, where a provider does not take it as "
        "it is; the job says so.",
    )
    keep_metadata: bool = Field(
        default=False,
        description="Send files as they are, with the place where they were taken. Otherwise EXIF "
        "and the like are removed from a copy, which is sent.",
    )
    s3: S3Section = S3Section()

    def folders(self, otherwise: tuple[Path, ...]) -> tuple[Path, ...]:
        """Return the folders whose files may be sent, resolved; the first is the default."""
        return tuple(root.resolve() for root in self.roots) or otherwise
