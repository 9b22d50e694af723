"""10,000 tokens of every broken kind, against the verifier that the API asks."""

from __future__ import annotations

import base64
import json
import random
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import jwt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aerotask.domain.errors import Unauthenticated
from aerotask.domain.ids import UserId, new_id
from aerotask.services.tokens import Tokens

MANY = 10_000
SECRET = "a key for the tests, long enough to be one"
TOKENS = Tokens(SECRET, timedelta(hours=1), timedelta(days=1))
USER = UserId(new_id())
GOOD = TOKENS.give(USER, "alice", epoch=0).token
CLAIMS: dict[str, Any] = jwt.decode(GOOD, options={"verify_signature": False})
HEADER, BODY, SIGNATURE = GOOD.split(".")
ALPHABET = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"


def encoded(value: object) -> str:
    return base64.urlsafe_b64encode(json.dumps(value).encode()).rstrip(b"=").decode()


def flipped_bit(chance: random.Random) -> str:
    # Not in the last character, of which two bits mean nothing.
    place, bit = chance.randrange(len(GOOD) - 1), 1 << chance.randrange(7)
    return GOOD[:place] + chr(ord(GOOD[place]) ^ bit) + GOOD[place + 1 :]


def cut(chance: random.Random) -> str:
    return GOOD[: chance.randrange(len(GOOD) - 1)]


def lengthened(chance: random.Random) -> str:
    return GOOD + "".join(chance.choices(ALPHABET, k=chance.randrange(4, 40)))


def shuffled_parts(chance: random.Random) -> str:
    parts = [HEADER, BODY, SIGNATURE, "", encoded({})]
    made = ".".join(chance.choices(parts, k=chance.randrange(1, 6)))
    return made if made != GOOD else ""


def other_key(chance: random.Random) -> str:
    return jwt.encode(CLAIMS, f"{chance.random()} another key, long enough", "HS256")


def other_algorithm(chance: random.Random) -> str:
    return jwt.encode(CLAIMS, SECRET * 2, chance.choice(["HS384", "HS512"]))


def none_algorithm(chance: random.Random) -> str:
    named = "".join(chance.choice((c.lower(), c.upper())) for c in "none")
    return f"{encoded({'alg': named, 'typ': 'JWT'})}.{BODY}.{chance.choice(['', SIGNATURE])}"


def foreign_claims(chance: random.Random) -> str:
    """Signed with the right key, as only we could, but not a token of ours."""
    name = chance.choice(list(CLAIMS))
    wrong: object = chance.choice([None, "", "x", [], {}, "admin", [1], float("nan"), "\ud800", {"a": 1}])
    if name == "aud":
        wrong = chance.choice(["other", ["other"], None, ""])
    return jwt.encode({**CLAIMS, name: wrong}, SECRET, "HS256")


def missing_claim(chance: random.Random) -> str:
    left_out = chance.choice(list(CLAIMS))
    return jwt.encode({k: v for k, v in CLAIMS.items() if k != left_out}, SECRET, "HS256")


def expired(chance: random.Random) -> str:
    return jwt.encode({**CLAIMS, "exp": chance.randrange(-(10**9), 1_700_000_000)}, SECRET, "HS256")


def garbage(chance: random.Random) -> str:
    return chance.randbytes(chance.randrange(400)).decode("latin-1")


def strange_header(chance: random.Random) -> str:
    header = chance.choice(
        [
            {"alg": "HS256", "crit": ["b64"], "b64": False},
            {"alg": "HS256", "jwk": {"kty": "oct", "k": "AAAA"}},
            {"alg": "HS256", "kid": "../../dev/null"},
            {"alg": ["HS256"]},
            {"alg": None},
            [],
            "HS256",
            7,
        ]
    )
    return f"{encoded(header)}.{BODY}.{SIGNATURE}"


@pytest.mark.parametrize(
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
        expired,
        garbage,
        strange_header,
    ],
    ids=lambda make: make.__name__,
)
def test_ten_thousand_broken_tokens_are_refused(make: Callable[[random.Random], str]) -> None:
    chance = random.Random(20261124)
    accepted = [token for token in (make(chance) for _ in range(MANY)) if holds(token)]
    assert accepted == []


@settings(max_examples=500, deadline=None, derandomize=True)
@given(st.text(max_size=300))
def test_no_text_is_a_token_nor_breaks_the_verifier(text: str) -> None:
    assert not holds(text)


def test_a_very_long_token_is_not_even_decoded() -> None:
    claims = {**CLAIMS, "padding": "x" * 4000}
    assert not holds(jwt.encode(claims, SECRET, "HS256"))


def test_the_good_one_holds() -> None:
    assert TOKENS.read(GOOD).user_id == USER


def test_a_session_ends_whatever_is_refreshed() -> None:
    began_s = TOKENS.read(GOOD).since_s
    with pytest.raises(Unauthenticated, match="over"):
        TOKENS.give(USER, "alice", epoch=0, since_s=began_s - 25 * 3600)
    late = TOKENS.give(USER, "alice", epoch=0, since_s=began_s - 23.5 * 3600)
    assert TOKENS.read(late.token).expires_s - began_s < 3600


def holds(token: str) -> bool:
    try:
        TOKENS.read(token)
    except Unauthenticated:
        return False
    return True
