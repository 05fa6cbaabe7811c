"""Where each host keeps its list of servers, and how an entry looks in it."""

from __future__ import annotations

import os
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

Handing = Literal["inherits", "references", "names", "none"]
"""How a host hands on variables of its own environment: all of them, those that an entry refers to
as ``${env:NAME}``, those that it names, or none at all."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Host:
    """A host. ``section`` is the key under which its servers stand."""

    name: str
    title: str
    file: Callable[[Mapping[str, str]], Path]
    section: str = "mcpServers"
    toml: bool = False
    typed: bool = False
    handing: Handing
    project_file: str | None = None
    """The file of a project, for hosts that read one; it is often shared with others."""

    def entry(
        self, command: list[str], written: Mapping[str, str], handed: Iterable[str]
    ) -> dict[str, Any]:
        """Return the entry: ``written`` variables stand in it, ``handed`` ones come from outside."""
        entry: dict[str, Any] = {"type": "stdio"} if self.typed else {}
        entry |= {"command": command[0], "args": command[1:]}
        variables = dict(written)
        if self.handing == "references":
            variables |= {name: f"${{env:{name}}}" for name in handed}
        if self.handing == "names" and (names := sorted(handed)):
            entry["env_vars"] = names
        if variables:
            entry["env"] = dict(sorted(variables.items()))
        return entry


def _home(environment: Mapping[str, str]) -> Path:
    home = environment.get("USERPROFILE" if os.name == "nt" else "HOME")
    return Path(home) if home else Path.home()


def _roaming(environment: Mapping[str, str], *parts: str) -> Path:
    """Return a file in the folder where desktop applications keep their settings."""
    home = _home(environment)
    if sys.platform == "darwin":
        return home.joinpath("Library", "Application Support", *parts)
    if os.name == "nt":
        return Path(environment.get("APPDATA") or home / "AppData" / "Roaming").joinpath(*parts)
    return Path(environment.get("XDG_CONFIG_HOME") or home / ".config").joinpath(*parts)


HOSTS = {
    host.name: host
    for host in (
        Host(
            name="claude-desktop",
            title="Claude Desktop",
            file=lambda e: _roaming(e, "Claude", "claude_desktop_config.json"),
            handing="none",
        ),
        Host(
            name="claude-code",
            title="Claude Code",
            file=lambda e: _home(e) / ".claude.json",
            typed=True,
            handing="inherits",
            project_file=".mcp.json",
        ),
        Host(
            name="cursor",
            title="Cursor",
            file=lambda e: _home(e) / ".cursor" / "mcp.json",
            handing="references",
            project_file=".cursor/mcp.json",
        ),
        Host(
            name="vscode",
            title="VS Code",
            file=lambda e: _roaming(e, "Code", "User", "mcp.json"),
            section="servers",
            typed=True,
            handing="references",
            project_file=".vscode/mcp.json",
        ),
        Host(
            name="codex",
            title="Codex",
            file=lambda e: Path(e.get("CODEX_HOME") or _home(e) / ".codex") / "config.toml",
            section="mcp_servers",
            toml=True,
            handing="names",
        ),
    )
}
