"""A real OpenID issuer on loopback, and a person's browser that signs in there."""

from __future__ import annotations

import re
import subprocess
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import parse_qs, urljoin, urlsplit

import httpx2
from mcp.client.auth import OAuthClientProvider
from mcp.shared.auth import AuthorizationCodeResult, OAuthClientMetadata
from pydantic import AnyUrl

from tests.peers import node

if TYPE_CHECKING:
    from collections.abc import Generator

    from mcp.shared.auth import OAuthClientInformationFull, OAuthToken

HERE = Path(__file__).parent
FOLDER = HERE.parents[2] / ".cache" / "issuer"
CALLBACK = "http://127.0.0.1:8/callback"
"""Where the issuer sends the browser in the end; nobody listens there, the browser reads it."""

MOST_PAGES = 12
_ACTION = re.compile(r'<form[^>]*action="([^"]+)"')
_HIDDEN = re.compile(r'<input type="hidden" name="([^"]+)" value="([^"]*)"')


@dataclass
class Issuer:
    """A running issuer. ``address`` is how it calls itself."""

    address: str
    process: subprocess.Popen[str]

    def rotate(self) -> None:
        """Let it sign with a new key from now on."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write("rotate\n")
        self.process.stdin.flush()
        for line in self.process.stdout:  # its own warnings stand there, too
            if line.strip() == "did rotate":
                return
        raise AssertionError("the issuer has ended")


@contextmanager
def issuer() -> Generator[Issuer]:
    """Run an issuer while the context lasts."""
    folder = node.installed(HERE, FOLDER)
    script = folder / "issuer.mjs"
    script.write_text((HERE / "issuer.mjs").read_text("utf-8"), "utf-8")
    with subprocess.Popen(
        [node.node(), str(script)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    ) as process:
        assert process.stdout is not None
        try:
            yield Issuer(next(line.strip() for line in process.stdout if "://" in line), process)
        finally:
            process.kill()


@dataclass
class Browser:
    """A person who signs in as ``name`` and agrees to everything; keeps what the client stores."""

    name: str
    tokens: OAuthToken | None = None
    client: OAuthClientInformationFull | None = None
    visited: list[str] = field(default_factory=list[str])
    _back: str = ""

    async def get_tokens(self) -> OAuthToken | None:
        return self.tokens

    async def set_tokens(self, tokens: OAuthToken) -> None:
        self.tokens = tokens

    async def get_client_info(self) -> OAuthClientInformationFull | None:
        return self.client

    async def set_client_info(self, client_info: OAuthClientInformationFull) -> None:
        self.client = client_info

    async def walk(self, address: str) -> None:
        """Open the address of the login and go on until the browser is sent back."""
        async with httpx2.AsyncClient() as web:
            page = await web.get(address)
            for _ in range(MOST_PAGES):
                self.visited.append(str(page.url))
                if page.has_redirect_location:
                    to = urljoin(str(page.url), page.headers["location"])
                    if to.startswith(CALLBACK):
                        self._back = to
                        return
                    page = await web.get(to)
                    continue
                action = _ACTION.search(page.text)
                assert action is not None, page.text[:500]
                given = dict(_HIDDEN.findall(page.text))
                if given.get("prompt") == "login":
                    given |= {"login": self.name, "password": "any"}
                page = await web.post(urljoin(str(page.url), action[1]), data=given)
        raise AssertionError(f"the login does not end: {self.visited}")

    async def came_back(self) -> AuthorizationCodeResult:
        """Return what the browser was sent back with."""
        given = {name: values[0] for name, values in parse_qs(urlsplit(self._back).query).items()}
        return AuthorizationCodeResult.model_validate(given)

    def auth(self, resource: str) -> OAuthClientProvider:
        """Return the SDK's own client for OAuth, which registers itself at the issuer."""
        metadata = OAuthClientMetadata(
            redirect_uris=[AnyUrl(CALLBACK)],
            client_name="Darkroom's tests",
            token_endpoint_auth_method="none",
        )
        return OAuthClientProvider(resource, metadata, self, self.walk, self.came_back)
