"""The public keys of an OpenID Connect issuer: found by discovery, cached, and fetched anew when they rotate."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from ipaddress import ip_address
from math import inf
from typing import Any

import httpx
import jwt
import orjson
import structlog
from cryptography.exceptions import UnsupportedAlgorithm
from jwt import PyJWK

from aerotask.domain.errors import InvalidInput, Unavailable
from aerotask.net.addresses import check_url, is_public

DISCOVERY = "/.well-known/openid-configuration"
# How long keys are taken for current, and how soon a key that nobody knows makes us look again.
FRESH_S = 3600.0
REFETCH_S = 30.0
KEPT_S = 24 * 3600.0
"""How long keys hold while the provider is away: it can't withdraw one in that time."""
TIMEOUT_S = 5.0
"""Of one look for new keys, which one request at a time waits for."""
MAX_BYTES = 256 * 1024
# Every one of them asymmetric: with HS256 the public key would be the secret.
ALGORITHMS = frozenset(
    {"RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA"}
)

# RFC 7517, section 4, and RFC 7518, section 6.
_PUBLIC_MEMBERS = ("kty", "alg", "kid", "n", "e", "crv", "x", "y")

Fetch = Callable[[str], Awaitable[Mapping[str, Any]]]
_log = structlog.get_logger(__name__)


@dataclass(slots=True)
class JwksCache:
    """The keys of one issuer, by their id."""

    issuer: str
    fetch: Fetch
    refetch_s: float = REFETCH_S
    within_s: float = TIMEOUT_S
    now: Callable[[], float] = time.monotonic
    _keys: dict[str, PyJWK] = field(default_factory=dict)
    _fetched_s: float | None = None
    _tried_s: float | None = None
    _fetching: asyncio.Lock = field(default_factory=asyncio.Lock)

    async def find(self, key_id: str) -> PyJWK | None:
        """The key of that id; None if the issuer has no such key.

        Raises:
            Unavailable: the issuer has told us no keys for `KEPT_S`, or never, and doesn't now.
        """
        # Whose key is known doesn't wait for others to look for news: it takes long when the provider is away.
        if self._wanting(key_id) and not (self._known(key_id) and self._fetching.locked()):
            async with self._fetching:
                # Others may have waited for the same; and nobody may have us ask again and again.
                if self._wanting(key_id) and self._may_try():
                    await self._renew()
        if self._age_s() >= KEPT_S:
            raise Unavailable("The provider of sign-ins is out of reach; try again in a moment.")
        return self._keys.get(key_id)

    def _wanting(self, key_id: str) -> bool:
        return key_id not in self._keys or self._age_s() >= FRESH_S

    def _known(self, key_id: str) -> bool:
        return key_id in self._keys and self._age_s() < KEPT_S

    def _age_s(self) -> float:
        return inf if self._fetched_s is None else self.now() - self._fetched_s

    def _may_try(self) -> bool:
        return self._tried_s is None or self.now() - self._tried_s >= self.refetch_s

    async def _renew(self) -> None:
        self._tried_s = self.now()
        try:
            async with asyncio.timeout(self.within_s):
                found = await self.fetch(await self._keys_address())
        except (httpx.HTTPError, httpx.InvalidURL, OSError, InvalidInput, ValueError) as error:
            # What we have stays for a while: a provider that is away mustn't sign everybody out.
            _log.warning("issuer.unreachable", error=f"{type(error).__name__}: {error}")
            return
        self._keys = dict(_usable(found))
        self._fetched_s = self.now()
        _log.info("issuer.keys", count=len(self._keys))

    async def _keys_address(self) -> str:
        described = await self.fetch(self.issuer.rstrip("/") + DISCOVERY)
        if described.get("issuer") != self.issuer:
            raise InvalidInput("the issuer calls itself by another name")
        return str(described.get("jwks_uri"))


def _usable(found: Mapping[str, Any]) -> list[tuple[str, PyJWK]]:
    """The keys that signatures can be checked with; others are none of our business."""
    usable: list[tuple[str, PyJWK]] = []
    listed = found.get("keys")
    for described in listed if isinstance(listed, list) else []:
        if not isinstance(described, dict) or described.get("use", "sig") != "sig":
            continue
        # Text alone: the library takes it for granted. And nothing of a private key that somebody put there.
        public = {name: value for name in _PUBLIC_MEMBERS if isinstance(value := described.get(name), str)}
        if "alg" in public and public["alg"] not in ALGORITHMS:
            continue
        try:
            key = PyJWK(public)
        except (jwt.PyJWTError, ValueError, KeyError, UnsupportedAlgorithm):
            continue
        if key.algorithm_name in ALGORITHMS and isinstance(key.key_id, str):
            usable.append((key.key_id, key))
    return usable


@dataclass(frozen=True, slots=True)
class GuardedFetch:
    """GETs JSON from public addresses only: connects to those it has checked, and follows no redirect."""

    allow_private: bool

    async def __call__(self, url: str) -> Mapping[str, Any]:
        """The JSON object behind the URL.

        Raises:
            httpx.HTTPError, OSError, InvalidInput, ValueError: it can't or mustn't be had.
        """
        to = check_url(url, allow_private=self.allow_private)
        if to.scheme != "https" and not self.allow_private:
            raise InvalidInput("keys are fetched by https only")
        async with asyncio.timeout(TIMEOUT_S):
            address = await self._checked_address(to.host, to.port)
            target = httpx.URL(url).copy_with(host=address)
            async with (
                httpx.AsyncClient(trust_env=False, follow_redirects=False, timeout=TIMEOUT_S) as client,
                client.stream(
                    "GET",
                    target,
                    headers={"Host": to.authority, "Accept": "application/json"},
                    # TLS verifies the name, not the address that it led to.
                    extensions={"sni_hostname": to.host},
                ) as answer,
            ):
                if answer.status_code != httpx.codes.OK:
                    raise InvalidInput(f"the answer is {answer.status_code}")
                body = b""
                async for piece in answer.aiter_bytes():
                    body += piece
                    if len(body) > MAX_BYTES:
                        raise InvalidInput("the answer is too long")
        found = orjson.loads(body)
        if not isinstance(found, dict):
            raise InvalidInput("the answer is no JSON object")
        return found

    async def _checked_address(self, host: str, port: int) -> str:
        found = await asyncio.get_running_loop().getaddrinfo(host, port, type=1)
        addresses = [ip_address(sockaddr[0]) for *_, sockaddr in found]
        # One address within is enough: a name that leads outside and inside has been set up to deceive.
        if not self.allow_private and not all(map(is_public, addresses)):
            raise InvalidInput("the host leads to an address that is private, local or reserved")
        return str(addresses[0])
