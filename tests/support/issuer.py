"""OpenID Connect issuer: a real HTTP server that publishes its keys and signs tokens for tests."""

from __future__ import annotations

import json
import ssl
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from ipaddress import ip_address
from typing import Any

import jwt
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from jwt.algorithms import ECAlgorithm, RSAAlgorithm

from aerotask.net.addresses import Address
from aerotask.net.guarded_http import GuardedClient

AUDIENCE = "aerotask-tests"


@dataclass(slots=True)
class Issuer:
    """The issuer's address, its keys, and the number of requests for them."""

    address: str = ""
    keys: dict[str, rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey] = field(default_factory=dict)
    extra_keys: list[dict[str, Any]] = field(default_factory=list)
    calls_itself: str | None = None
    down: bool = False
    asked: list[str] = field(default_factory=list)

    def rotate(self, key_id: str, *, curve: bool = False) -> None:
        """Publish this key and no other from now on."""
        made = ec.generate_private_key(ec.SECP256R1()) if curve else rsa.generate_private_key(65537, 2048)
        self.keys = {key_id: made}

    def token(self, *, key_id: str | None = None, algorithm: str = "RS256", **changes: object) -> str:
        """A token for `alice`, with some claims changed; None leaves a claim out."""
        key_id = key_id or next(iter(self.keys))
        claims = {
            "iss": self.address,
            "sub": "alice-at-the-issuer",
            "aud": AUDIENCE,
            "exp": int(time.time()) + 300,
            **changes,
        }
        kept = {name: value for name, value in claims.items() if value is not None}
        return jwt.encode(kept, self.keys[key_id], algorithm, headers={"kid": key_id})

    def answer(self, path: str) -> dict[str, Any] | None:
        """The response at that path."""
        self.asked.append(path)
        if self.down:
            return None
        if path == "/.well-known/openid-configuration":
            return {"issuer": self.calls_itself or self.address, "jwks_uri": f"{self.address}/jwks"}
        return {"keys": [*self.extra_keys, *(_public(key_id, key) for key_id, key in self.keys.items())]}


def _public(key_id: str, key: rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey) -> dict[str, Any]:
    if isinstance(key, rsa.RSAPrivateKey):
        described = RSAAlgorithm.to_jwk(key.public_key(), as_dict=True)
        return {**described, "kid": key_id, "use": "sig", "alg": "RS256"}
    return {**ECAlgorithm.to_jwk(key.public_key(), as_dict=True), "kid": key_id, "use": "sig", "alg": "ES256"}


async def _literal_address(host: str, _port: int) -> list[Address]:
    return [ip_address(host)]


def keys_client(*, allow_private: bool = True) -> GuardedClient:
    """HTTP client that fetches the issuer's keys."""
    tls = ssl.create_default_context()
    return GuardedClient(timeout_s=5, allow_private=allow_private, tls=tls, resolve=_literal_address)


@contextmanager
def running_issuer() -> Iterator[Issuer]:
    """An issuer on a free port of 127.0.0.1, with a first RSA key."""
    issuer = Issuer()
    issuer.rotate("first")

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            document = issuer.answer(self.path)
            body = json.dumps(document).encode()
            self.send_response(503 if document is None else 200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        issuer.address = f"http://127.0.0.1:{server.server_address[1]}"
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield issuer
        finally:
            server.shutdown()
            thread.join()
