"""JWKS cache: the public keys of an OpenID Connect issuer, found by discovery and refreshed when they rotate."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from math import inf
from typing import Any

import jwt
import structlog
from cryptography.exceptions import UnsupportedAlgorithm
from jwt import PyJWK

from aerotask.domain.errors import InvalidInput, Unavailable
from aerotask.net.guarded_http import RequestFailed

DISCOVERY = "/.well-known/openid-configuration"
FRESH_S = 3600.0
"""Age at which cached keys are fetched again."""
REFETCH_S = 30.0
"""Least time between two fetches: tokens with unknown key ids must not flood the provider."""
MAX_AGE_S = 24 * 3600.0
"""Age at which keys are discarded if the provider stays out of reach: until then it can't withdraw one."""
TIMEOUT_S = 5.0
"""Of one refresh, which one request at a time waits for."""
# All asymmetric: with HS256 the public key would be the secret.
ALGORITHMS = frozenset(
    {"RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA"}
)

# RFC 7517, section 4, and RFC 7518, section 6.
_PUBLIC_MEMBERS = ("kty", "alg", "kid", "n", "e", "crv", "x", "y")

Fetch = Callable[[str], Awaitable[Mapping[str, Any]]]
_log = structlog.get_logger(__name__)


@dataclass(slots=True)
class JwksCache:
    """The keys of one issuer, by key id."""

    issuer: str
    fetch: Fetch
    refetch_s: float = REFETCH_S
    timeout_s: float = TIMEOUT_S
    now: Callable[[], float] = time.monotonic
    _keys: dict[str, PyJWK] = field(default_factory=dict)
    _fetched_s: float | None = None
    _tried_s: float | None = None
    _refreshing: asyncio.Lock = field(default_factory=asyncio.Lock)

    async def find(self, key_id: str) -> PyJWK | None:
        """The key of that id; None if the issuer has no such key.

        Raises:
            Unavailable: the last successful fetch is `MAX_AGE_S` ago, or there was none, and this one fails.
        """
        # Requests with a cached key don't wait for a refresh in progress: it is slow when the provider is away.
        if self._needs_refresh(key_id) and not (self._is_cached(key_id) and self._refreshing.locked()):
            async with self._refreshing:
                # Another request may have refreshed the keys while this one waited for the lock.
                if self._needs_refresh(key_id) and self._may_refresh():
                    await self._refresh()
        if self._age_s() >= MAX_AGE_S:
            raise Unavailable("The sign-in provider is out of reach; try again in a moment.")
        return self._keys.get(key_id)

    def _needs_refresh(self, key_id: str) -> bool:
        return key_id not in self._keys or self._age_s() >= FRESH_S

    def _is_cached(self, key_id: str) -> bool:
        return key_id in self._keys and self._age_s() < MAX_AGE_S

    def _age_s(self) -> float:
        return inf if self._fetched_s is None else self.now() - self._fetched_s

    def _may_refresh(self) -> bool:
        return self._tried_s is None or self.now() - self._tried_s >= self.refetch_s

    async def _refresh(self) -> None:
        self._tried_s = self.now()
        try:
            async with asyncio.timeout(self.timeout_s):
                key_set = await self.fetch(await self._jwks_uri())
        except (RequestFailed, InvalidInput, OSError) as error:
            # The cached keys stay valid for a while: an outage of the provider must not sign everyone out.
            _log.warning("jwks.refresh_failed", issuer=self.issuer, error=f"{type(error).__name__}: {error}")
            return
        self._keys = dict(_usable_keys(key_set))
        self._fetched_s = self.now()
        _log.info("jwks.refreshed", issuer=self.issuer, count=len(self._keys))

    async def _jwks_uri(self) -> str:
        discovery = await self.fetch(self.issuer.rstrip("/") + DISCOVERY)
        if discovery.get("issuer") != self.issuer:
            raise InvalidInput("The issuer's discovery document does not match AEROTASK_OIDC_ISSUER.")
        return str(discovery.get("jwks_uri"))


def _usable_keys(key_set: Mapping[str, Any]) -> list[tuple[str, PyJWK]]:
    """The signature keys of a key set, by key id; unusable ones are skipped."""
    usable: list[tuple[str, PyJWK]] = []
    keys = key_set.get("keys")
    for jwk in keys if isinstance(keys, list) else []:
        if not isinstance(jwk, dict) or jwk.get("use", "sig") != "sig":
            continue
        # Strings only, which PyJWT takes for granted, and no private members that were published by mistake.
        public = {name: value for name in _PUBLIC_MEMBERS if isinstance(value := jwk.get(name), str)}
        if "alg" in public and public["alg"] not in ALGORITHMS:
            continue
        try:
            key = PyJWK(public)
        except (jwt.PyJWTError, ValueError, KeyError, UnsupportedAlgorithm):
            continue
        if key.algorithm_name in ALGORITHMS and isinstance(key.key_id, str):
            usable.append((key.key_id, key))
    return usable
