"""Thousands of broken tokens of every kind, against the verifiers that the API uses."""

from __future__ import annotations

import base64
import json
import random
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, TypeAlias

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from hypothesis import given, settings
from hypothesis import strategies as st
from jwt.api_jws import PyJWS
from pydantic import SecretStr
from tests.support.issuer import AUDIENCE, keys_client, running_issuer
from tests.support.rows import add_user

from aerotask.db.engine import Database
from aerotask.domain.errors import Unauthenticated
from aerotask.domain.ids import DatasetId, TaskId, UserId, new_id
from aerotask.domain.settings import OidcSettings, TokenLifetimes
from aerotask.services.accounts.jwks import JwksCache
from aerotask.services.accounts.oidc import OidcService, unverified_issuer
from aerotask.services.accounts.tokens import Tokens
from aerotask.services.accounts.view_tokens import ViewScope, ViewTokens
from aerotask.store.accounts import users

MANY = 10_000
# Of the others fewer, by the same makers: curves take ten times as long.
MANY_FOR_MAPS = 3000
MANY_OF_A_PROVIDER = 1000
SECRET = "a key for the tests, long enough to be one"
TOKENS = Tokens(SECRET, TokenLifetimes(3600, 24 * 3600))
VIEWING = ViewTokens(SecretStr(SECRET), ttl=timedelta(hours=1))
USER = UserId(new_id())
GOOD = TOKENS.issue(USER, "alice", epoch=0).token
ALPHABET = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"

Key: TypeAlias = bytes | ec.EllipticCurvePrivateKey


def encoded(value: object) -> str:
    return base64.urlsafe_b64encode(json.dumps(value).encode()).rstrip(b"=").decode()


@dataclass(frozen=True)
class Genuine:
    """A valid token, and the key that signed it."""

    token: str
    key: Key

    @property
    def parts(self) -> list[str]:
        return self.token.split(".")

    @property
    def header(self) -> dict[str, Any]:
        return jwt.get_unverified_header(self.token)

    @property
    def claims(self) -> dict[str, Any]:
        return dict(jwt.decode(self.token, options={"verify_signature": False}))

    @property
    def required(self) -> list[str]:
        """All claims except the optional ones of a view token: the task and the API key."""
        return [name for name in self.claims if name not in {"task", "key"}]

    def signed(self, claims: object, *, key: Key | None = None, algorithm: str | None = None) -> str:
        """Any claims, signed without the library's checks."""
        header = self.header
        return PyJWS().encode(
            json.dumps(claims).encode(),
            key or self.key,
            algorithm or header["alg"],
            headers=header | {"alg": algorithm or header["alg"]},
        )


OWN = Genuine(GOOD, SECRET.encode())
MAP = ViewScope(USER, epoch=0, key_id=new_id(), dataset_id=DatasetId(new_id()), task_id=TaskId(new_id()))
OF_A_MAP = Genuine(VIEWING.issue(MAP).token, VIEWING._key)


def flipped_bit(of: Genuine, chance: random.Random) -> str:
    # Not in the last character, of which two bits mean nothing.
    place, bit = chance.randrange(len(of.token) - 1), 1 << chance.randrange(7)
    return of.token[:place] + chr(ord(of.token[place]) ^ bit) + of.token[place + 1 :]


def cut(of: Genuine, chance: random.Random) -> str:
    return of.token[: chance.randrange(len(of.token) - 1)]


def lengthened(of: Genuine, chance: random.Random) -> str:
    return of.token + "".join(chance.choices(ALPHABET, k=chance.randrange(4, 40)))


def shuffled_parts(of: Genuine, chance: random.Random) -> str:
    made = ".".join(chance.choices([*of.parts, "", encoded({})], k=chance.randrange(1, 6)))
    return made if made != of.token else ""


def other_key(of: Genuine, chance: random.Random) -> str:
    if isinstance(of.key, bytes):
        return of.signed(of.claims, key=f"{chance.random()} another key, long enough".encode())
    return of.signed(of.claims, key=ec.generate_private_key(ec.SECP256R1()))


def other_algorithm(of: Genuine, chance: random.Random) -> str:
    secret = of.key if isinstance(of.key, bytes) else b"what everybody may know of the key"
    return of.signed(of.claims, key=secret * 2, algorithm=chance.choice(["HS384", "HS512"]))


def none_algorithm(of: Genuine, chance: random.Random) -> str:
    named = "".join(chance.choice((c.lower(), c.upper())) for c in "none")
    return f"{encoded(of.header | {'alg': named})}.{of.parts[1]}.{chance.choice(['', of.parts[2]])}"


def foreign_claims(of: Genuine, chance: random.Random) -> str:
    """Signed with the right key, but with wrong claims."""
    name = chance.choice(of.required)
    wrong: object = chance.choice([None, "", "x", [], {}, "admin", [1], float("nan"), "\ud800", {"a": 1}])
    if name == "aud":
        wrong = chance.choice(["other", ["other"], None, ""])
    return of.signed({**of.claims, name: wrong})


def missing_claim(of: Genuine, chance: random.Random) -> str:
    left_out = chance.choice(of.required)
    return of.signed({k: v for k, v in of.claims.items() if k != left_out})


def no_claims(of: Genuine, chance: random.Random) -> str:
    return of.signed(chance.choice([[], None, 7, "x", [of.claims], {}]))


def expired(of: Genuine, chance: random.Random) -> str:
    return of.signed({**of.claims, "exp": chance.randrange(-(10**9), 1_700_000_000)})


def garbage(_: Genuine, chance: random.Random) -> str:
    return chance.randbytes(chance.randrange(400)).decode("latin-1")


def strange_header(of: Genuine, chance: random.Random) -> str:
    changed: object = chance.choice(
        [
            {"crit": ["b64"], "b64": False},
            {"jwk": {"kty": "oct", "k": "AAAA"}, "kid": "unheard-of"},
            {"kid": "../../dev/null"},
            {"kid": ["first"]},
            {"alg": [of.header["alg"]]},
            {"alg": {of.header["alg"]: 1}},
            {"alg": None},
            [],
            of.header["alg"],
            7,
        ]
    )
    header = of.header | changed if isinstance(changed, dict) else changed
    _, body, signature = of.parts
    return f"{encoded(header)}.{body}.{signature}"


Make: TypeAlias = Callable[[Genuine, random.Random], str]
every_kind = pytest.mark.parametrize(
    "make",
    [
        flipped_bit,
        cut,
        lengthened,
        shuffled_parts,
        other_key,
        other_algorithm,
        none_algorithm,
        foreign_claims,
        missing_claim,
        no_claims,
        expired,
        garbage,
        strange_header,
    ],
    ids=lambda make: make.__name__,
)


@every_kind
def test_ten_thousand_broken_tokens_are_refused(make: Make) -> None:
    chance = random.Random(20261124)
    assert [token for token in (make(OWN, chance) for _ in range(MANY)) if holds(token)] == []


@every_kind
def test_three_thousand_broken_tile_tokens_are_refused(make: Make) -> None:
    chance = random.Random(20261125)
    assert [token for token in (make(OF_A_MAP, chance) for _ in range(MANY_FOR_MAPS)) if shows(token)] == []


@every_kind
async def test_a_thousand_broken_tokens_of_a_provider_are_refused(database: Database, make: Make) -> None:
    chance = random.Random(20261126)
    with running_issuer() as issuer:
        issuer.rotate("first", curve=True)
        key = issuer.keys["first"]
        assert isinstance(key, ec.EllipticCurvePrivateKey)
        genuine = Genuine(issuer.token(algorithm="ES256", exp=2**40), key)
        async with database.begin() as connection:
            await users.set_subject(
                connection,
                await add_user(database, "alice"),
                issuer=issuer.address,
                subject=genuine.claims["sub"],
            )
        keys = JwksCache(issuer.address, keys_client().get_json)
        oidc = OidcService(database, OidcSettings(audience=AUDIENCE), issuer.address, keys)
        assert (await oidc.authenticate(genuine.token)).user_name == "alice"
        accepted = []
        for _ in range(MANY_OF_A_PROVIDER):
            token = make(genuine, chance)
            unverified_issuer(token)
            with suppress(Unauthenticated):
                await oidc.authenticate(token)
                accepted.append(token)
    assert accepted == []


@settings(max_examples=500, deadline=None, derandomize=True)
@given(st.text(max_size=300))
def test_arbitrary_text_is_refused_without_a_crash(text: str) -> None:
    assert not holds(text)
    assert not shows(text)


def test_a_very_long_token_is_refused_undecoded() -> None:
    assert not holds(OWN.signed({**OWN.claims, "padding": "x" * 4000}))


def test_the_genuine_tokens_are_accepted() -> None:
    assert TOKENS.read(GOOD).user_id == USER
    assert VIEWING.read(OF_A_MAP.token).user_id == USER
    assert holds(OWN.signed(OWN.claims))
    assert shows(OF_A_MAP.signed(OF_A_MAP.claims))


def test_a_session_expires_in_spite_of_refreshes() -> None:
    began_s = TOKENS.read(TOKENS.issue(USER, "alice", epoch=0).token).since_s
    with pytest.raises(Unauthenticated, match="session has expired"):
        TOKENS.issue(USER, "alice", epoch=0, since_s=began_s - 25 * 3600)
    late = TOKENS.issue(USER, "alice", epoch=0, since_s=began_s - 23.5 * 3600)
    assert TOKENS.read(late.token).expires_s - began_s < 3600


def holds(token: str) -> bool:
    try:
        TOKENS.read(token)
    except Unauthenticated:
        return False
    return True


def shows(token: str) -> bool:
    try:
        VIEWING.read(token)
    except Unauthenticated:
        return False
    return True
