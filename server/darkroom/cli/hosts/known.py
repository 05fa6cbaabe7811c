"""The configuration file of each host, and the form of an entry in it."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Mapping

Handing = Literal["inherits", "references", "names", "none"]
"""Which variables of its own environment a host passes to a server: all, those that the entry refers
to as ``${env:NAME}``, those that the entry names, or none."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Host:
    """A host. ``section`` is the key of its servers in the configuration file."""

    name: str
    title: str
    where: Callable[[Mapping[str, str], str], Path]
    """Returns the user's file, from the environment and ``sys.platform``."""
    section: str = "mcpServers"
    toml: bool = False
    typed: bool = False
    handing: Handing
    project_file: str | None = None
    """The file of a project, if the host reads one; it is often shared with others."""

    def file(self, environment: Mapping[str, str], platform: str = sys.platform) -> Path:
        """Return the user's file."""
        return self.where(environment, platform)

    def entry(
        self, command: list[str], written: Mapping[str, str], handed: Collection[str]
    ) -> dict[str, Any]:
        """Return the entry: ``written`` variables are in it, ``handed`` ones come from the host."""
        entry: dict[str, Any] = {"type": "stdio"} if self.typed else {}
        entry |= {"command": command[0], "args": command[1:]}
        variables = dict(written)
        if self.handing == "references":
            variables |= {name: f"${{env:{name}}}" for name in handed}
        if self.handing == "names" and handed:
            entry["env_vars"] = sorted(handed)
        if variables:
            entry["env"] = dict(sorted(variables.items()))
        return entry

    def joined(
        self, old: Mapping[str, Any], new: Mapping[str, Any], handed: Collection[str]
    ) -> dict[str, Any]:
        """Return ``new`` with what a person has added to ``old``: timeouts, variables, options.

        A key in the old entry is dropped if the host now passes it on. If the old entry starts no
        command, it belonged to another server, and nothing of it is kept.
        """
        if "command" not in old:
            return dict(new)
        gone: Collection[str] = () if self.handing == "none" else handed
        env = {k: v for k, v in _table(old, "env").items() if k not in gone} | _table(new, "env")
        named = [*_list(old, "env_vars")]
        named += [name for name in _list(new, "env_vars") if name not in named]
        joined = {k: v for k, v in {**old, **new}.items() if k not in {"env", "env_vars"}}
        return joined | ({"env_vars": named} if named else {}) | ({"env": env} if env else {})


def _table(entry: Mapping[str, Any], key: str) -> dict[str, Any]:
    found = entry.get(key)
    return dict(found) if isinstance(found, dict) else {}  # pyright: ignore[reportUnknownArgumentType] -- as loosely typed as JSON is


def _list(entry: Mapping[str, Any], key: str) -> list[Any]:
    found = entry.get(key)
    return list(found) if isinstance(found, list) else []  # pyright: ignore[reportUnknownArgumentType] -- as loosely typed as JSON is


def _home(environment: Mapping[str, str], platform: str) -> Path:
    home = environment.get("USERPROFILE" if platform == "win32" else "HOME")
    return Path(home) if home else Path.home()


def _roaming(environment: Mapping[str, str], platform: str, *parts: str) -> Path:
    """Return a file in the folder where desktop applications keep their settings."""
    home = _home(environment, platform)
    if platform == "darwin":
        return home.joinpath("Library", "Application Support", *parts)
    if platform == "win32":
        return Path(environment.get("APPDATA") or home / "AppData" / "Roaming").joinpath(*parts)
    return Path(environment.get("XDG_CONFIG_HOME") or home / ".config").joinpath(*parts)


def _claude_desktop(environment: Mapping[str, str], platform: str) -> Path:
    """Return the file; as a Windows package, Claude has its own roaming folder."""
    parts = ("Claude", "claude_desktop_config.json")
    if platform == "win32":
        local = environment.get("LOCALAPPDATA") or _home(environment, platform) / "AppData/Local"
        packaged = sorted(Path(local).glob("Packages/Claude_*/LocalCache/Roaming"))
        if packaged:
            used = [folder for folder in packaged if folder.joinpath(*parts).exists()]
            return (used or packaged)[0].joinpath(*parts)
    return _roaming(environment, platform, *parts)


HOSTS = {
    host.name: host
    for host in (
        Host(
            name="claude-desktop",
            title="Claude Desktop",
            where=_claude_desktop,
            handing="none",
        ),
        Host(
            name="claude-code",
            title="Claude Code",
            where=lambda e, p: Path(e.get("CLAUDE_CONFIG_DIR") or _home(e, p)) / ".claude.json",
            typed=True,
            handing="inherits",
            project_file=".mcp.json",
        ),
        Host(
            name="cursor",
            title="Cursor",
            where=lambda e, p: _home(e, p) / ".cursor" / "mcp.json",
            typed=True,
            handing="references",
            project_file=".cursor/mcp.json",
        ),
        Host(
            name="vscode",
            title="VS Code",
            where=lambda e, p: _roaming(e, p, "Code", "User", "mcp.json"),
            section="servers",
            typed=True,
            handing="references",
            project_file=".vscode/mcp.json",
        ),
        Host(
            name="codex",
            title="Codex",
            where=lambda e, p: Path(e.get("CODEX_HOME") or _home(e, p) / ".codex") / "config.toml",
            section="mcp_servers",
            toml=True,
            handing="names",
            project_file=".codex/config.toml",
        ),
    )
}
