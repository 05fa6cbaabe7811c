"""Who a bearer token of an OpenID issuer belongs to.

The tokens are JWTs (RFC 9068 and what issuers made before it). They are checked here, with the
public keys that the issuer publishes; the issuer itself is asked only for those keys.
"""

from __future__ import annotations

import json
from functools import partial
from typing import TYPE_CHECKING, Any, cast
from urllib.parse import urlsplit

import anyio
import httpx2
import jwt
from mcp.server.auth.provider import AccessToken

from darkroom.core.digests import digest
from darkroom.core.environment import process_environment
from darkroom.core.errors import DarkroomError
from darkroom.mcp.owner import TeamMember
from darkroom.providers.client.proxies import ProxyVariableError, proxy_for

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable, Mapping

    from darkroom.config.team import TeamSection
    from darkroom.core.json_types import JsonObject

ALGORITHMS = frozenset(
    {"RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA"}
)
"""Asymmetric ones only: a key that everybody can read must not be one that signs."""

_KEY_TYPES = frozenset({"RSA", "EC", "OKP"})

LEEWAY_SECONDS = 60
"""How far the issuer's clock may be off."""

MOST_TOKEN_CHARACTERS = 16_384
MOST_SUBJECT_CHARACTERS = 255
"""Of OpenID Connect Core, section 2."""

LATEST_SECONDS = 2**53
"""What a time may be: the largest whole number that JSON holds exactly."""

FRESH_SECONDS = 3600.0
"""After this time the keys are fetched again, so that a withdrawn key stops being good."""

KEPT_SECONDS = 24 * 3600.0
"""Known keys are good for this long while the issuer cannot be reached."""

RETRY_SECONDS = 30.0
"""The issuer is asked at most this often, however many unknown keys tokens name."""

FETCH_SECONDS = 5.0
OK = 200
MOST_ISSUER_BYTES = 262_144
MOST_KEYS = 100


class TokenError(DarkroomError):
    """The token is not good; ``reason`` is in our own words and holds nothing of the token."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


class IssuerUnreachableError(DarkroomError):
    """The issuer's keys are needed and cannot be fetched."""


class IssuerKeys:
    """The public keys of an issuer, fetched when they are needed and kept."""

    def __init__(self, issuer: str, get: Callable[[str], Awaitable[bytes]] | None = None) -> None:
        self._issuer = issuer
        self._get: Callable[[str], Awaitable[bytes]] = get or partial(
            fetch, loopback=_is_loopback(issuer)
        )
        self._keys: list[Mapping[str, Any]] = []
        self._built: dict[tuple[str | None, str], jwt.PyJWK] = {}
        self._fetched: float | None = None
        self._asked: float | None = None
        self._away = False
        self._lock = anyio.Lock()

    async def key(self, key_id: str | None, algorithm: str) -> jwt.PyJWK:
        """Return the key with an id that fits the algorithm.

        Raises
        ------
        TokenError: the issuer publishes no such key.
        IssuerUnreachableError: it is not known here, and the issuer cannot be asked.
        """
        found = self._known(key_id, algorithm) if self._younger_than(FRESH_SECONDS) else None
        if found is not None:
            return found
        if self._lock.locked() and self._younger_than(KEPT_SECONDS):  # an issuer may be slow
            found = self._known(key_id, algorithm)
            if found is not None:
                return found
        async with self._lock:
            if not self._just_asked():
                await self._refresh()
        usable = self._younger_than(KEPT_SECONDS)
        found = self._known(key_id, algorithm) if usable else None
        if found is not None:
            return found
        if self._away or not usable:
            raise IssuerUnreachableError("the issuer's keys cannot be fetched")
        raise TokenError("it is signed with a key that the issuer does not publish")

    def _known(self, key_id: str | None, algorithm: str) -> jwt.PyJWK | None:
        built = self._built.get((key_id, algorithm))
        if built is not None:
            return built
        fitting = [
            each
            for each in self._keys
            if each.get("alg", algorithm) == algorithm and key_id in (None, each.get("kid"))
        ]
        for each in fitting[: 1 if key_id is not None or len(fitting) == 1 else 0]:
            try:
                built = jwt.PyJWK(dict(each), algorithm)
            except jwt.PyJWTError:  # of another kind than the algorithm needs
                return None
            self._built[key_id, algorithm] = built
        return built

    def _younger_than(self, seconds: float) -> bool:
        return self._fetched is not None and anyio.current_time() - self._fetched < seconds

    def _just_asked(self) -> bool:
        return self._asked is not None and anyio.current_time() - self._asked < RETRY_SECONDS

    async def _refresh(self) -> None:
        """Fetch the keys; those that are known stay if that fails."""
        self._asked = anyio.current_time()
        self._away = True
        try:
            base = self._issuer.rstrip("/")
            about = _object(await self._get(f"{base}/.well-known/openid-configuration"))
            if about.get("issuer") != self._issuer:
                return
            keys = _object(await self._get(str(about.get("jwks_uri")))).get("keys")
        except (IssuerUnreachableError, ValueError, RecursionError):
            return
        if not isinstance(keys, list):
            return
        self._away = False
        self._fetched = anyio.current_time()
        self._built.clear()
        self._keys = [
            cast("Mapping[str, Any]", each)
            for each in keys[:MOST_KEYS]
            if isinstance(each, dict)
            and each.get("kty") in _KEY_TYPES
            and each.get("use", "sig") == "sig"
        ]


def _object(body: bytes) -> JsonObject:
    found = json.loads(body)
    if not isinstance(found, dict):
        raise ValueError("not an object")  # noqa: TRY004 -- of what was read, as json's own
    return cast("JsonObject", found)


def _is_loopback(address: str) -> bool:
    return urlsplit(address).scheme == "http"


async def fetch(address: str, *, loopback: bool) -> bytes:
    """Return what the issuer publishes at an address; http only for an issuer that itself is so.

    Raises
    ------
    IssuerUnreachableError: no answer, or not a good one.
    """
    if not address.startswith("https://") and not (loopback and address.startswith("http://")):
        raise IssuerUnreachableError("the issuer names an address that is not https")
    body = bytearray()
    try:
        proxy = proxy_for(address, process_environment())
        with anyio.fail_after(FETCH_SECONDS):
            async with (
                httpx2.AsyncClient(
                    timeout=FETCH_SECONDS,
                    verify=httpx2.create_ssl_context(),
                    proxy=proxy.url if proxy is not None else None,
                    trust_env=False,  # `proxy_for` has read it
                ) as client,
                client.stream("GET", address, headers={"accept": "application/json"}) as answer,
            ):
                if answer.status_code != OK:
                    raise IssuerUnreachableError(f"the issuer answered {answer.status_code}")
                async for piece in answer.aiter_bytes():
                    body += piece
                    if len(body) > MOST_ISSUER_BYTES:
                        raise IssuerUnreachableError("the issuer's answer is too large")
    except ProxyVariableError as error:
        raise IssuerUnreachableError(str(error)) from None
    except (httpx2.HTTPError, httpx2.InvalidURL, OSError, TimeoutError) as error:
        raise IssuerUnreachableError(f"no answer ({type(error).__name__})") from None
    return bytes(body)


class Verifier:
    """Checks tokens: signature, issuer, audience, times and subject."""

    def __init__(self, team: TeamSection, audiences: Iterable[str], keys: IssuerKeys) -> None:
        self._team = team
        self._issuer = team.issuer or ""
        self._audiences = list(audiences)
        self._keys = keys

    async def check(self, token: str) -> TeamMember:
        """Return whose token it is.

        Raises
        ------
        TokenError, IssuerUnreachableError: see there.
        """
        if len(token) > MOST_TOKEN_CHARACTERS:
            raise TokenError("it is too long")
        try:
            header = jwt.get_unverified_header(token)
        except (jwt.PyJWTError, ValueError, RecursionError):
            raise TokenError("it is not a JWT") from None
        algorithm, key_id = header.get("alg"), header.get("kid")
        if not isinstance(algorithm, str) or algorithm not in ALGORITHMS:
            raise TokenError("it is not signed with an asymmetric algorithm")
        key = await self._keys.key(key_id, algorithm)
        try:
            claims = jwt.decode(
                token,
                key,
                algorithms=[algorithm],
                audience=self._audiences,
                issuer=self._issuer,
                leeway=LEEWAY_SECONDS,
                options={"require": ["exp", "iss", "aud", "sub"]},
            )
        except jwt.ExpiredSignatureError:
            raise TokenError("it has expired") from None
        except jwt.InvalidAudienceError:
            raise TokenError("it is for another audience") from None
        except jwt.InvalidIssuerError:
            raise TokenError("it is from another issuer") from None
        except jwt.MissingRequiredClaimError as error:
            raise TokenError(f"it has no claim {error.claim!r}") from None
        except (jwt.PyJWTError, ValueError, OverflowError, RecursionError):
            raise TokenError("it cannot be verified") from None
        return self._member(token, claims)

    def _member(self, token: str, claims: Mapping[str, Any]) -> TeamMember:
        subject = claims["sub"]
        if not subject or len(subject) > MOST_SUBJECT_CHARACTERS:
            raise TokenError("its subject is empty or too long")
        if int(claims["exp"]) > LATEST_SECONDS:
            raise TokenError("its times cannot be right")
        client = claims.get("azp") or claims.get("client_id")
        access = AccessToken(
            token=token,
            client_id=client if isinstance(client, str) else "",
            scopes=sorted(_words(claims.get("scope")) | _words(claims.get("scp"))),
            expires_at=int(claims["exp"]) + LEEWAY_SECONDS,
            subject=subject,
            claims={"iss": self._issuer},
        )
        # Not the name or the address: these change, and are given to others later.
        owner = digest(self._issuer, subject)
        return TeamMember(access, owner, admin=self._is_admin(claims))

    def _is_admin(self, claims: Mapping[str, Any]) -> bool:
        """Tell whether the claim that names administrators has one of the values that mean it.

        A dot leads into an object (Keycloak's ``realm_access.roles``), unless the whole is a name.
        """
        path = self._team.admin_claim
        if path is None:
            return False
        found: Any = claims.get(path)
        if found is None:
            found = claims
            for part in path.split("."):
                inner = cast("dict[str, Any]", found) if isinstance(found, dict) else {}
                found = inner.get(part)
        return bool(_words(found) & set(self._team.admin_values))


def _words(claim: object) -> set[str]:
    """Return the values of a claim: issuers send a list, or words with spaces between them."""
    if isinstance(claim, str):
        return set(claim.split())
    if isinstance(claim, list):
        return {each for each in cast("list[object]", claim) if isinstance(each, str)}
    return set()
