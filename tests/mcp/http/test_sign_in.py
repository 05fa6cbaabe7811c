"""Whose token it is: what is checked, and when the issuer is asked."""

from __future__ import annotations

import base64
import hmac
import json
import time
from typing import TYPE_CHECKING, Any, cast

import anyio
import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from jwt.algorithms import ECAlgorithm, OKPAlgorithm, RSAAlgorithm

from darkroom.config.team import TeamSection
from darkroom.mcp.http.sign_in import (
    FRESH_SECONDS,
    KEPT_SECONDS,
    RETRY_SECONDS,
    IssuerKeys,
    IssuerUnreachableError,
    TokenError,
    Verifier,
    fetch,
)

if TYPE_CHECKING:
    from collections.abc import Callable

pytestmark = pytest.mark.anyio

ISSUER = "https://login.example.com/"
AUDIENCE = "https://pictures.example.com/mcp"
RSA_KEY = rsa.generate_private_key(public_exponent=65537, key_size=2048)
NEXT_KEY = rsa.generate_private_key(public_exponent=65537, key_size=2048)
EC_KEY = ec.generate_private_key(ec.SECP256R1())
ED_KEY = ed25519.Ed25519PrivateKey.generate()


def published(key_id: str | None, key: Any, **more: str) -> dict[str, Any]:
    kinds: dict[type, Any] = {
        rsa.RSAPrivateKey: RSAAlgorithm,
        ec.EllipticCurvePrivateKey: ECAlgorithm,
        ed25519.Ed25519PrivateKey: OKPAlgorithm,
    }
    algorithm = next(found for kind, found in kinds.items() if isinstance(key, kind))
    jwk: dict[str, Any] = json.loads(algorithm.to_jwk(key.public_key()))
    return {**jwk, **({"kid": key_id} if key_id else {}), **more}


class Issuer:
    """An issuer that publishes keys, and counts how often it is asked."""

    def __init__(self) -> None:
        self.keys: list[Any] = [published("one", RSA_KEY)]
        self.about: Any = {"issuer": ISSUER, "jwks_uri": "https://login.example.com/keys"}
        self.asked: list[str] = []
        self.away = False
        self.hangs = False

    async def get(self, address: str) -> bytes:
        self.asked.append(address)
        if self.hangs:
            await anyio.sleep_forever()
        if self.away:
            raise IssuerUnreachableError("no answer")
        return json.dumps(
            self.about if address.endswith("configuration") else {"keys": self.keys}
        ).encode()


def claims(**changed: Any) -> dict[str, Any]:
    now = int(time.time())
    given = {"iss": ISSUER, "aud": AUDIENCE, "sub": "anna", "exp": now + 300, "iat": now, **changed}
    return {name: value for name, value in given.items() if value is not None}


def signed(
    key: Any = RSA_KEY, algorithm: str = "RS256", key_id: str | None = "one", **changed: Any
) -> str:
    headers = {"kid": key_id} if key_id is not None else None
    return jwt.encode(claims(**changed), key, algorithm, headers=headers)


def verifier(issuer: Issuer, **team: Any) -> Verifier:
    section = TeamSection(issuer=ISSUER, **team)
    return Verifier(section, section.audiences or (AUDIENCE,), IssuerKeys(ISSUER, issuer.get))


@pytest.fixture
def issuer(clock: Callable[[], float]) -> Issuer:
    del clock  # time moves by hand
    return Issuer()


async def test_a_good_token_says_whose_it_is(issuer: Issuer) -> None:
    found = await verifier(issuer).check(signed(name="Anna", scope="a b", azp="codex"))
    assert not found.admin
    assert found.access_token.client_id == "codex"
    assert found.access_token.scopes == ["a", "b"]
    assert found.access_token.subject == "anna"


async def test_an_owner_is_issuer_and_subject_and_nothing_else(issuer: Issuer) -> None:
    check = verifier(issuer).check
    one = await check(signed(email="shared@example.com", name="Anna"))
    again = await check(signed(email="other@example.com", name="Anna Maria"))
    other = await check(signed(sub="bert", email="shared@example.com", name="Anna"))
    assert one.owner == again.owner
    assert one.owner != other.owner
    assert "anna" not in one.owner


@pytest.mark.parametrize(
    ("key", "algorithm"),
    [(RSA_KEY, "RS256"), (RSA_KEY, "PS512"), (EC_KEY, "ES256"), (ED_KEY, "EdDSA")],
)
async def test_asymmetric_algorithms_are_taken(issuer: Issuer, key: Any, algorithm: str) -> None:
    issuer.keys = [published("one", key)]
    assert await verifier(issuer).check(signed(key, algorithm))


def unsigned(header: dict[str, Any], **changed: Any) -> str:
    parts = (json.dumps(part).encode() for part in (header, claims(**changed)))
    encoded = [base64.urlsafe_b64encode(part).rstrip(b"=").decode() for part in parts]
    return ".".join([*encoded, ""])


def signed_with_the_public_key() -> str:
    """Return a token signed by HMAC with the public key's text, which everybody has."""
    pem = RSA_KEY.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    body = unsigned({"alg": "HS256", "kid": "one"}).removesuffix(".")
    signature = hmac.digest(pem, body.encode(), "sha256")
    return f"{body}.{base64.urlsafe_b64encode(signature).rstrip(b'=').decode()}"


@pytest.mark.parametrize(
    ("token", "reason"),
    [
        (lambda: signed(exp=int(time.time()) - 61), "expired"),
        (lambda: signed(exp=10**400), "cannot be right"),
        (lambda: signed(exp="soon"), "verified"),
        (lambda: signed(exp=None), "no claim 'exp'"),
        (lambda: signed(nbf=int(time.time()) + 120), "verified"),
        (lambda: signed(aud="https://other.example.com/mcp"), "another audience"),
        (lambda: signed(aud=AUDIENCE + "/"), "another audience"),
        (lambda: signed(aud=None), "no claim 'aud'"),
        (lambda: signed(iss="https://login.example.com"), "another issuer"),
        (lambda: signed(iss=None), "no claim 'iss'"),
        (lambda: signed(sub=None), "no claim 'sub'"),
        (lambda: signed(sub=""), "empty"),
        (lambda: signed(sub="x" * 256), "too long"),
        (lambda: unsigned({"alg": "none", "kid": "one"}), "asymmetric"),
        (lambda: unsigned({"alg": "RS256", "kid": "one"}), "verified"),
        (lambda: unsigned({"alg": "RS256", "kid": 5}), "JWT"),
        (lambda: unsigned({"alg": ["RS256"]}), "asymmetric"),
        (signed_with_the_public_key, "asymmetric"),
        (lambda: signed(NEXT_KEY), "verified"),
        (lambda: signed(EC_KEY, "ES256"), "does not publish"),
        (lambda: signed(key_id="foreign"), "does not publish"),
        (lambda: "x" * 1_000_000, "too long"),
        (lambda: "", "JWT"),
        (lambda: "a.b.c", "JWT"),
        (lambda: base64.b64encode(b"[" * 9000).decode() + ".e30.", "JWT"),
    ],
)
async def test_a_bad_token_is_refused_and_not_repeated(
    issuer: Issuer, token: Callable[[], str], reason: str
) -> None:
    made = token()
    with pytest.raises(TokenError, match=reason) as raised:
        await verifier(issuer).check(made)
    assert not made or made not in str(raised.value)


async def test_a_key_that_everybody_can_read_signs_nothing(issuer: Issuer) -> None:
    secret = base64.urlsafe_b64encode(b"s" * 32).decode()
    issuer.keys.append({"kty": "oct", "kid": "two", "k": secret, "alg": "RS256"})
    with pytest.raises(TokenError, match="asymmetric"):
        await verifier(issuer).check(jwt.encode(claims(), b"s" * 32, headers={"kid": "two"}))
    with pytest.raises(TokenError, match="does not publish"):
        await verifier(issuer).check(signed(key_id="two"))


async def test_a_key_for_encryption_signs_nothing(issuer: Issuer) -> None:
    issuer.keys = [published("one", RSA_KEY, use="enc")]
    with pytest.raises(TokenError, match="does not publish"):
        await verifier(issuer).check(signed())


async def test_the_issuers_clock_may_be_off_by_a_minute(issuer: Issuer) -> None:
    now = int(time.time())
    check = verifier(issuer).check
    assert await check(signed(exp=now - 50))
    assert await check(signed(iat=now + 50, nbf=now + 50))


async def test_a_token_without_key_id_needs_the_only_key(issuer: Issuer) -> None:
    assert await verifier(issuer).check(signed(key_id=None))
    issuer.keys.append(published("two", NEXT_KEY))
    with pytest.raises(TokenError, match="does not publish"):
        await verifier(issuer).check(signed(key_id=None))


@pytest.mark.parametrize(
    ("more", "admin"),
    [
        ({}, False),
        ({"roles": "user"}, False),
        ({"roles": ["user", "admins"]}, True),
        ({"roles": "user admins"}, True),
        ({"roles": {"admins": True}}, False),
        ({"roles": True}, False),
    ],
)
async def test_a_claim_makes_an_administrator(
    issuer: Issuer, more: dict[str, Any], *, admin: bool
) -> None:
    check = verifier(issuer, admin_claim="roles", admin_values=("admins",)).check
    assert (await check(signed(**more))).admin is admin


async def test_a_claim_may_lie_in_an_object(issuer: Issuer) -> None:
    check = verifier(issuer, admin_claim="realm_access.roles", admin_values=("boss",)).check
    assert (await check(signed(realm_access={"roles": ["boss"]}))).admin
    assert not (await check(signed(realm_access=["boss"]))).admin
    named = verifier(issuer, admin_claim="https://x.example/roles", admin_values=("boss",)).check
    assert (await named(signed(**cast("Any", {"https://x.example/roles": ["boss"]})))).admin


async def test_without_values_nobody_is_an_administrator(issuer: Issuer) -> None:
    found = await verifier(issuer, admin_claim="roles").check(signed(roles=["anything"]))
    assert not found.admin


class TestTheIssuerIsAsked:
    async def test_once_for_many_tokens(self, issuer: Issuer) -> None:
        check = verifier(issuer).check
        for subject in "abcdef":
            await check(signed(sub=subject))
        assert len(issuer.asked) == 2

    async def test_again_for_a_new_key_but_not_for_every_unknown_one(self, issuer: Issuer) -> None:
        check = verifier(issuer).check
        await check(signed())
        issuer.keys = [published("two", NEXT_KEY)]
        for number in range(20):
            with pytest.raises(TokenError):
                await check(signed(key_id=f"made up {number}"))
        assert len(issuer.asked) == 2
        await anyio.sleep(RETRY_SECONDS)
        assert await check(signed(NEXT_KEY, key_id="two"))
        with pytest.raises(TokenError, match="does not publish"):
            await check(signed())
        assert len(issuer.asked) == 4

    async def test_known_keys_go_on_while_it_is_away(self, issuer: Issuer) -> None:
        check = verifier(issuer).check
        assert await check(signed())
        issuer.away = True
        await anyio.sleep(KEPT_SECONDS - 1)
        assert await check(signed())
        await anyio.sleep(RETRY_SECONDS)
        with pytest.raises(IssuerUnreachableError):
            await check(signed())
        issuer.away = False
        await anyio.sleep(RETRY_SECONDS)
        assert await check(signed())

    async def test_a_slow_one_holds_up_one_request_with_a_known_key(self, issuer: Issuer) -> None:
        check = verifier(issuer).check
        await check(signed())
        await anyio.sleep(FRESH_SECONDS)
        issuer.hangs = True
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(check, signed())
            await anyio.sleep(1)
            with anyio.fail_after(0.1):
                assert await check(signed())
            tasks.cancel_scope.cancel()

    async def test_and_one_that_was_never_reached_is_an_error_of_its_own(
        self, issuer: Issuer
    ) -> None:
        issuer.away = True
        check = verifier(issuer).check
        for _ in range(5):
            with pytest.raises(IssuerUnreachableError):
                await check(signed())
        assert len(issuer.asked) == 1

    @pytest.mark.parametrize(
        "about",
        [
            {"issuer": "https://evil.test/", "jwks_uri": "https://evil.test/keys"},
            {"issuer": ISSUER},
            [],
            "x" * 10,
        ],
    )
    async def test_and_an_answer_that_is_not_its_own_counts_as_none(
        self, issuer: Issuer, about: Any
    ) -> None:
        issuer.about = about
        if about == {"issuer": ISSUER}:
            issuer.keys = {}  # type: ignore[assignment]  # what no list is
        with pytest.raises(IssuerUnreachableError):
            await verifier(issuer).check(signed())


@pytest.mark.parametrize("named", ["socks5://proxy.example.com", "ftp://proxy.example.com"])
async def test_a_proxy_that_cannot_be_used_is_an_issuer_that_is_away(
    monkeypatch: pytest.MonkeyPatch, named: str
) -> None:
    """The rule for proxies is that of requests to providers."""
    monkeypatch.setenv("HTTPS_PROXY", named)
    monkeypatch.delenv("https_proxy", raising=False)
    with pytest.raises(IssuerUnreachableError, match="HTTPS_PROXY"):
        await fetch("https://login.example.com/keys", loopback=False)
