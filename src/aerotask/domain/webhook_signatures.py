"""Webhook signatures by Standard Webhooks 1.0, symmetric."""

from __future__ import annotations

import hashlib
import hmac
from base64 import b64encode
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from aerotask.domain.ids import UserId

_PURPOSE = b"aerotask: signing keys of callbacks"


@dataclass(frozen=True, slots=True)
class SigningKey:
    """The signing key that a user and the platform share."""

    key: bytes

    def __repr__(self) -> str:
        """Omits the key, which must not get into a log."""
        return "SigningKey(…)"

    @property
    def shown(self) -> str:
        """The key in the format of the standard's libraries."""
        return f"whsec_{b64encode(self.key).decode()}"

    def headers(self, message_id: UUID, sent_at: datetime, body: bytes) -> dict[str, str]:
        """The three headers of a message (Standard Webhooks, "Webhook headers" and "Signature scheme")."""
        timestamp = str(int(sent_at.timestamp()))
        signed = b".".join((str(message_id).encode(), timestamp.encode(), body))
        signature = b64encode(_mac(self.key, signed)).decode()
        return {
            "webhook-id": str(message_id),
            "webhook-timestamp": timestamp,
            "webhook-signature": f"v1,{signature}",
        }


def signing_key(secret_key: str, user_id: UserId) -> SigningKey:
    """A user's key, derived from the installation's key: it is not stored, and reveals no other key."""
    return SigningKey(_mac(_mac(secret_key.encode(), _PURPOSE), user_id.bytes))


def _mac(key: bytes, message: bytes) -> bytes:
    return hmac.digest(key, message, hashlib.sha256)
