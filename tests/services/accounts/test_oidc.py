"""Tokens of an external OpenID Connect issuer, against a real one."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import hmac
import json
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import rsa
from jwt.algorithms import RSAAlgorithm
from sqlalchemy import select
from tests.support.issuer import AUDIENCE, Issuer, keys_client, running_issuer
from tests.support.rows import add_user

from aerotask.db.engine import Database
from aerotask.db.models import AuditEvent, User
from aerotask.domain.access import Credential
from aerotask.domain.errors import InvalidInput, Unauthenticated, Unavailable
from aerotask.domain.settings import OidcSettings
from aerotask.services.accounts.jwks import REFETCH_S, JwksCache
from aerotask.services.accounts.oidc import OidcService, unverified_issuer
from aerotask.store.accounts import users


@pytest.fixture
def issuer() -> Iterator[Issuer]:
    with running_issuer() as running:
        yield running


def service(
    database: Database, issuer: Issuer, *, provision: bool = False, refetch_s: float = 0.0
) -> OidcService:
    keys = JwksCache(issuer.address, keys_client().get_json, refetch_s)
    return OidcService(database, OidcSettings(audience=AUDIENCE, provision=provision), issuer.address, keys)


@pytest.fixture
async def alice(database: Database, issuer: Issuer) -> None:
    """A user linked to a subject of the issuer."""
    user_id = await add_user(database, "alice")
    async with database.begin() as connection:
        await users.set_subject(connection, user_id, issuer=issuer.address, subject="alice-at-the-issuer")


async def test_a_valid_token_authenticates_the_user_of_its_subject(
    database: Database, issuer: Issuer, alice: None
) -> None:
    caller = await service(database, issuer).authenticate(issuer.token())
    assert (caller.user_name, caller.credential) == ("alice", Credential.ISSUER)


def part(value: bytes) -> str:
    return base64.urlsafe_b64encode(value).rstrip(b"=").decode()


def symmetric(issuer: Issuer) -> str:
    """Signed with the public key as an HMAC secret, which some libraries once accepted."""
    public = issuer.answer("/jwks")
    assert public is not None
    header = part(b'{"alg":"HS256","kid":"first"}')
    signed = f"{header}.{issuer.token().split('.')[1]}"
    mac = hmac.digest(json.dumps(public["keys"][0]).encode(), signed.encode(), hashlib.sha256)
    return f"{signed}.{part(mac)}"


def unsigned(issuer: Issuer) -> str:
    header = part(b'{"alg":"none","kid":"first"}')
    return ".".join((header, issuer.token().split(".")[1], ""))


def tampered(issuer: Issuer) -> str:
    header, _, signature = issuer.token().split(".")
    return ".".join((header, issuer.token(sub="bob").split(".")[1], signature))


@pytest.mark.parametrize(
    "make",
    [
        lambda issuer: issuer.token(aud="somebody-else"),
        lambda issuer: issuer.token(aud=None),
        lambda issuer: issuer.token(iss="https://elsewhere.example"),
        lambda issuer: issuer.token(exp=int(time.time()) - 3600),
        lambda issuer: issuer.token(exp=None),
        lambda issuer: issuer.token(nbf=int(time.time()) + 3600),
        lambda issuer: issuer.token(sub=None),
        lambda issuer: issuer.token(sub=""),
        lambda issuer: issuer.token(sub="x\0y"),
        lambda issuer: issuer.token(algorithm="PS256"),
        lambda issuer: issuer.token(sub="nobody-here"),
        symmetric,
        unsigned,
        tampered,
    ],
)
async def test_an_invalid_token_is_refused(
    database: Database, issuer: Issuer, alice: None, make: Callable[[Issuer], str]
) -> None:
    with pytest.raises(Unauthenticated):
        await service(database, issuer).authenticate(make(issuer))


async def test_a_symmetric_key_in_the_issuers_set_is_never_used(
    database: Database, issuer: Issuer, alice: None
) -> None:
    secret = b"a secret that everybody may read"
    issuer.extra_keys = [{"kty": "oct", "kid": "shared", "k": part(secret), "alg": "HS256"}]
    claims = {"iss": issuer.address, "sub": "alice-at-the-issuer", "aud": AUDIENCE, "exp": 2**40}
    token = jwt.encode(claims, secret, "HS256", headers={"kid": "shared"})
    with pytest.raises(Unauthenticated):
        await service(database, issuer).authenticate(token)


async def test_malformed_keys_are_skipped(database: Database, issuer: Issuer, alice: None) -> None:
    good = issuer.answer("/jwks")
    assert good is not None
    oddities = (["x"], {"a": 1}, 7, None, True, "", "ES256", "none", "é")
    for member in ("alg", "kty", "kid", "use", "n", "e", "key_ops"):
        issuer.extra_keys += [{**good["keys"][0], "kid": "odd", member: odd} for odd in oddities]
    for kind in ("EC", "OKP", "oct"):
        issuer.extra_keys += [
            {"kty": kind, "kid": "odd", "crv": odd, "x": odd, "y": "AA"} for odd in oddities
        ]
    assert (await service(database, issuer).authenticate(issuer.token())).user_name == "alice"


async def test_a_published_private_key_is_used_as_its_public_part(
    database: Database, issuer: Issuer, alice: None
) -> None:
    key = issuer.keys["first"]
    assert isinstance(key, rsa.RSAPrivateKey)
    shown = {**RSAAlgorithm.to_jwk(key, as_dict=True), "kid": "shown", "alg": "RS256"}
    shown.pop("key_ops")
    issuer.extra_keys = [shown]
    caller = await service(database, issuer).authenticate(
        jwt.encode(
            jwt.decode(issuer.token(), options={"verify_signature": False}),
            key,
            "RS256",
            headers={"kid": "shown"},
        )
    )
    assert caller.user_name == "alice"


async def test_keys_are_fetched_once_and_again_when_they_rotate(
    database: Database, issuer: Issuer, alice: None
) -> None:
    oidc = service(database, issuer)
    for _ in range(5):
        await oidc.authenticate(issuer.token())
    assert issuer.asked == ["/.well-known/openid-configuration", "/jwks"]

    old = issuer.token()
    issuer.rotate("second", curve=True)
    assert (await oidc.authenticate(issuer.token(algorithm="ES256"))).user_name == "alice"
    assert issuer.asked.count("/jwks") == 2
    with pytest.raises(Unauthenticated):  # the removed key is no longer accepted
        await oidc.authenticate(old)


async def test_unknown_key_ids_do_not_cause_repeated_fetches(
    database: Database, issuer: Issuer, alice: None
) -> None:
    oidc = service(database, issuer, refetch_s=3600)
    await oidc.authenticate(issuer.token())
    good = issuer.token()
    issuer.rotate("unknown")
    for _ in range(20):
        with pytest.raises(Unauthenticated):
            await oidc.authenticate(issuer.token())
    assert issuer.asked.count("/jwks") == 1
    assert (await oidc.authenticate(good)).user_name == "alice"


async def test_an_outage_of_the_issuer_signs_no_one_out(
    database: Database, issuer: Issuer, alice: None
) -> None:
    oidc = service(database, issuer)
    issuer.down = True
    with pytest.raises(Unavailable):
        await oidc.authenticate(issuer.token())
    issuer.down = False
    await oidc.authenticate(issuer.token())
    issuer.down = True
    assert (await oidc.authenticate(issuer.token())).user_name == "alice"


async def test_cached_keys_are_used_for_a_day_while_the_issuer_is_away(issuer: Issuer) -> None:
    now = [0.0]
    keys = JwksCache(issuer.address, keys_client().get_json, now=lambda: now[0])
    assert await keys.find("first") is not None
    issuer.down = True
    now[0] = 24 * 3600 - 1
    assert await keys.find("first") is not None
    now[0] = 24 * 3600
    with pytest.raises(Unavailable):
        await keys.find("first")
    issuer.down = False
    now[0] += REFETCH_S
    assert await keys.find("first") is not None


async def test_only_one_request_waits_for_an_issuer_that_hangs(issuer: Issuer) -> None:
    fetch, now, asked = keys_client().get_json, [0.0], asyncio.Event()

    async def hang(url: str) -> Mapping[str, Any]:
        if now[0] == 0:
            return await fetch(url)
        asked.set()
        return await asyncio.Future[Mapping[str, Any]]()

    keys = JwksCache(issuer.address, hang, timeout_s=0.5, now=lambda: now[0])
    await keys.find("first")
    now[0] = 3601.0
    first = asyncio.create_task(keys.find("first"))
    async with asyncio.timeout(30):
        await asked.wait()
        others = [await keys.find("first") for _ in range(10)]
        assert not first.done()  # it still waits for the issuer when all others are done
        assert await first is not None
    assert None not in others


async def test_a_discovery_document_of_another_issuer_is_refused(database: Database, issuer: Issuer) -> None:
    issuer.calls_itself = "https://elsewhere.example"
    with pytest.raises(Unavailable):
        await service(database, issuer).authenticate(issuer.token())


async def test_unknown_subjects_become_users_only_with_provisioning(
    database: Database, issuer: Issuer
) -> None:
    with pytest.raises(Unauthenticated):
        await service(database, issuer).authenticate(issuer.token())
    oidc = service(database, issuer, provision=True)
    first = await oidc.authenticate(issuer.token(preferred_username="alice"))
    assert (first.user_name, first.is_admin) == ("alice", False)
    assert (await oidc.authenticate(issuer.token(preferred_username="other"))).user_id == first.user_id
    async with database.read() as connection:
        assert (await connection.execute(select(AuditEvent.action))).scalars().all() == [
            "user-provisioned",
            "signed-in",
            "signed-in",
        ]
        assert (await connection.execute(select(User.password_hash))).scalars().all() == [""]


@pytest.mark.parametrize("name", ["admin", "../x", "", 7, None])
async def test_provisioning_never_takes_over_an_existing_user(
    database: Database, issuer: Issuer, name: object
) -> None:
    admin = await add_user(database, "admin")
    caller = await service(database, issuer, provision=True).authenticate(
        issuer.token(preferred_username=name)
    )
    assert caller.user_id != admin
    assert str(caller.user_name).startswith("oidc-")


async def test_a_deactivated_user_is_refused(database: Database, issuer: Issuer, alice: None) -> None:
    async with database.begin() as connection:
        user = await users.find_by_name(connection, "alice")
        assert user is not None
        await users.set_roles(connection, user.id, is_admin=False, is_deactivated=True)
    with pytest.raises(Unauthenticated):
        await service(database, issuer, provision=True).authenticate(issuer.token())


@pytest.mark.parametrize(
    "address", ["https://127.0.0.1/x", "https://localhost/x", "https://[::1]/x", "http://1.1.1.1/x"]
)
async def test_keys_are_not_fetched_from_private_addresses_or_without_tls(address: str) -> None:
    with pytest.raises(InvalidInput):
        await keys_client(allow_private=False).get_json(address)


def test_the_issuer_of_a_token_is_read_without_verification() -> None:
    assert unverified_issuer("no token") is None
    assert unverified_issuer("a.b.c") is None
    assert unverified_issuer("x" * 100_000) is None
    key = "a key for the tests, long enough to be one"
    assert unverified_issuer(jwt.encode({"iss": "https://a.example"}, key)) == "https://a.example"


async def test_each_token_of_the_provider_is_logged_once_as_a_sign_in(
    database: Database, issuer: Issuer, alice: None
) -> None:
    oidc = service(database, issuer)
    first, second = issuer.token(), issuer.token(jti="another")
    for token in (first, first, second):
        await oidc.authenticate(token, address="192.0.2.1")
    with pytest.raises(Unauthenticated):
        await oidc.authenticate(tampered(issuer))
    async with database.read() as connection:
        columns = (AuditEvent.actor, AuditEvent.address, AuditEvent.action, AuditEvent.details)
        rows = [tuple(row) for row in await connection.execute(select(*columns))]
    assert rows == [("alice", "192.0.2.1", "signed-in", {"provider": issuer.address})] * 2
