"""The configuration file of each host, and the form of an entry in it."""

from __future__ import annotations

import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Mapping

    from darkroom.cli.hosts.files import Form

Handing = Literal["inherits", "references", "names", "none"]
"""Which variables of its own environment a host passes to a server: all, those that the entry refers
to as ``${env:NAME}``, those that the entry names, or none."""

TOKEN_VARIABLE = "DARKROOM_TOKEN"  # noqa: S105 -- the name of a variable
"""The variable from which hosts read the token of a server over HTTP."""

STDIO = {"type": "stdio"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Remote:
    """How a host names a server that is reached over HTTP; it gets the token from a variable."""

    url: str = "url"
    fixed: Mapping[str, Any] = field(default_factory=dict[str, Any])
    names_variable_at: str | None = None
    """Key that takes the variable's name instead of a header."""

    headers: tuple[str, ...] = ("headers",)
    """The keys below which the headers stand."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Host:
    """A host. ``section`` is the key of its servers in the configuration file."""

    name: str
    title: str
    where: Callable[[Mapping[str, str], str], Path]
    """Returns the user's file, from the environment and ``sys.platform``."""
    section: str = "mcpServers"
    form: Form = "json"
    fixed: Mapping[str, Any] = field(default_factory=dict[str, Any])
    """Keys with the same value in every entry of a program."""

    command: str = "command"
    args: str | None = "args"
    """Key of the arguments; None: they stand in one list with the command."""

    env: str = "env"
    names: str = "env_vars"
    """Key of the names of variables that the host passes on."""

    reference: str = "${{env:{name}}}"
    """How a value refers to a variable of the host's environment."""

    handing: Handing
    project_file: str | None = None
    """The file of a project, if the host reads one; it is often shared with others."""

    remote: Remote | None = field(default_factory=Remote)

    def file(self, environment: Mapping[str, str], platform: str = sys.platform) -> Path:
        """Return the user's file."""
        return self.where(environment, platform)

    def entry(
        self, command: list[str], written: Mapping[str, str], handed: Collection[str]
    ) -> dict[str, Any]:
        """Return the entry: ``written`` variables are in it, ``handed`` ones come from the host."""
        entry: dict[str, Any] = dict(self.fixed)
        if self.args is None:
            entry[self.command] = command
        else:
            entry |= {self.command: command[0], self.args: command[1:]}
        variables = dict(written)
        if self.handing == "references":
            variables |= {name: self.reference.format(name=name) for name in handed}
        if self.handing == "names" and handed:
            entry[self.names] = sorted(handed)
        if variables:
            entry[self.env] = dict(sorted(variables.items()))
        return entry

    def remote_entry(self, url: str, token: str | None) -> dict[str, Any] | None:
        """Return the entry of a server over HTTP; None if the host knows none.

        ``token``: written into the entry; None: the entry refers to `TOKEN_VARIABLE`.
        """
        remote = self.remote
        if remote is None:
            return None
        entry: dict[str, Any] = {**remote.fixed, remote.url: url}
        if remote.names_variable_at is not None and token is None:
            return entry | {remote.names_variable_at: TOKEN_VARIABLE}
        value = token or self.reference.format(name=TOKEN_VARIABLE)
        headers: dict[str, Any] = {"Authorization": f"Bearer {value}"}
        for key in reversed(remote.headers):
            headers = {key: headers}
        if self.handing == "names" and token is None:
            entry[self.names] = [TOKEN_VARIABLE]
        return entry | headers

    def joined(
        self, old: Mapping[str, Any], new: Mapping[str, Any], handed: Collection[str]
    ) -> dict[str, Any]:
        """Return ``new`` with what a person has added to ``old``: timeouts, variables, options.

        A key in the old entry is dropped if the host now passes it on. If one of the entries starts
        no command, they are of two servers, and nothing of the old one is kept.
        """
        if self.command not in old or self.command not in new:
            return dict(new)
        gone: Collection[str] = () if self.handing == "none" else handed
        env = {k: v for k, v in _table(old, self.env).items() if k not in gone}
        env |= _table(new, self.env)
        named = [*_list(old, self.names)]
        named += [name for name in _list(new, self.names) if name not in named]
        apart = {self.env, self.names}
        joined = {k: v for k, v in {**old, **new}.items() if k not in apart}
        return joined | ({self.names: named} if named else {}) | ({self.env: env} if env else {})


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


def _opencode(environment: Mapping[str, str], platform: str) -> Path:
    """Return the file; it may have comments, and then another name. Windows has the same folder."""
    named = environment.get("OPENCODE_CONFIG")
    if named:
        return Path(named)
    base = environment.get("XDG_CONFIG_HOME") or _home(environment, platform) / ".config"
    folder = Path(base) / "opencode"
    with_comments = folder / "opencode.jsonc"
    return with_comments if with_comments.exists() else folder / "opencode.json"


def _zed(environment: Mapping[str, str], platform: str) -> Path:
    if platform == "win32":
        return _roaming(environment, platform, "Zed", "settings.json")
    base = environment.get("XDG_CONFIG_HOME") if platform != "darwin" else None
    return Path(base or _home(environment, platform) / ".config") / "zed" / "settings.json"


def _goose(environment: Mapping[str, str], platform: str) -> Path:
    if platform == "win32":
        return _roaming(environment, platform, "Block", "goose", "config", "config.yaml")
    base = environment.get("XDG_CONFIG_HOME") or _home(environment, platform) / ".config"
    return Path(base) / "goose" / "config.yaml"


GOOSE = {
    "name": "darkroom",
    "description": "Images, videos, try-ons and edits",
    "enabled": True,
    "timeout": 60,
}

HOSTS = {
    host.name: host
    for host in (
        Host(
            name="claude-desktop",
            title="Claude Desktop",
            where=_claude_desktop,
            handing="none",
            remote=None,
        ),
        Host(
            name="claude-code",
            title="Claude Code",
            where=lambda e, p: Path(e.get("CLAUDE_CONFIG_DIR") or _home(e, p)) / ".claude.json",
            fixed=STDIO,
            handing="inherits",
            reference="${{{name}}}",
            project_file=".mcp.json",
            remote=Remote(fixed={"type": "http"}),
        ),
        Host(
            name="cursor",
            title="Cursor",
            where=lambda e, p: _home(e, p) / ".cursor" / "mcp.json",
            fixed=STDIO,
            handing="references",
            project_file=".cursor/mcp.json",
        ),
        Host(
            name="vscode",
            title="VS Code",
            where=lambda e, p: _roaming(e, p, "Code", "User", "mcp.json"),
            section="servers",
            fixed=STDIO,
            handing="references",
            project_file=".vscode/mcp.json",
            remote=Remote(fixed={"type": "http"}),
        ),
        Host(
            name="codex",
            title="Codex",
            where=lambda e, p: Path(e.get("CODEX_HOME") or _home(e, p) / ".codex") / "config.toml",
            section="mcp_servers",
            form="toml",
            handing="names",
            project_file=".codex/config.toml",
            remote=Remote(names_variable_at="bearer_token_env_var", headers=("http_headers",)),
        ),
        Host(
            name="gemini-cli",
            title="Gemini CLI",
            where=lambda e, p: _home(e, p) / ".gemini" / "settings.json",
            handing="references",
            reference="${{{name}}}",
            project_file=".gemini/settings.json",
            remote=Remote(url="httpUrl"),
        ),
        Host(
            name="opencode",
            title="OpenCode",
            where=_opencode,
            section="mcp",
            fixed={"type": "local", "enabled": True},
            args=None,
            env="environment",
            reference="{{env:{name}}}",
            handing="inherits",
            project_file="opencode.json",
            remote=Remote(fixed={"type": "remote", "enabled": True}),
        ),
        Host(
            name="windsurf",
            title="Windsurf",
            where=lambda e, p: _home(e, p) / ".codeium" / "windsurf" / "mcp_config.json",
            handing="references",
            remote=Remote(url="serverUrl"),
        ),
        Host(
            name="zed",
            title="Zed",
            where=_zed,
            section="context_servers",
            handing="none",
            project_file=".zed/settings.json",
        ),
        Host(
            name="lm-studio",
            title="LM Studio",
            where=lambda e, p: _home(e, p) / ".lmstudio" / "mcp.json",
            handing="none",
        ),
        Host(
            name="goose",
            title="Goose",
            where=_goose,
            section="extensions",
            form="yaml",
            fixed={**GOOSE, "type": "stdio"},
            command="cmd",
            env="envs",
            names="env_keys",
            reference="${{{name}}}",
            handing="names",
            remote=Remote(url="uri", fixed={**GOOSE, "type": "streamable_http"}),
        ),
        Host(
            name="continue",
            title="Continue",
            where=lambda e, p: (
                Path(e.get("CONTINUE_GLOBAL_DIR") or _home(e, p) / ".continue")
                / "mcpServers"
                / "darkroom.json"
            ),
            handing="none",
            project_file=".continue/mcpServers/darkroom.json",
            remote=Remote(fixed={"type": "streamable-http"}, headers=("requestOptions", "headers")),
        ),
    )
}
