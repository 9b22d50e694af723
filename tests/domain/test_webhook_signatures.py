import json
from datetime import UTC, datetime
from uuid import UUID

import pytest
from standardwebhooks import Webhook, WebhookVerificationError

from aerotask.domain.ids import UserId
from aerotask.domain.webhook_signatures import signing_key

INSTALLATION = "a key for the tests, long enough to be one"
ALICE = UserId(UUID("01a20276-4687-70c9-8a52-caac30ad7db1"))
BOB = UserId(UUID("01a20276-4687-70c9-8a52-caac30ad7db2"))
MESSAGE = UUID("01a20276-4687-70c9-8a52-caac30ad7db3")
BODY = json.dumps({"state": "Succeeded", "path": "Äcker/Süd.tif"}, ensure_ascii=False).encode()


def test_the_reference_library_accepts_a_signed_message() -> None:
    key = signing_key(INSTALLATION, ALICE)
    headers = key.headers(MESSAGE, datetime.now(UTC), BODY)
    assert headers["webhook-id"] == "01a20276-4687-70c9-8a52-caac30ad7db3"
    assert Webhook(key.shown).verify(BODY, headers) == {"state": "Succeeded", "path": "Äcker/Süd.tif"}


@pytest.mark.parametrize(
    ("changed", "value"),
    [
        ("webhook-id", "01a20276-4687-70c9-8a52-caac30ad7db4"),
        ("webhook-signature", "v1,AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA="),
    ],
)
def test_a_verifier_refuses_a_message_with_another_header(changed: str, value: str) -> None:
    key = signing_key(INSTALLATION, ALICE)
    headers = {**key.headers(MESSAGE, datetime.now(UTC), BODY), changed: value}
    with pytest.raises(WebhookVerificationError):
        Webhook(key.shown).verify(BODY, headers)


def test_a_verifier_refuses_a_message_with_another_time() -> None:
    key = signing_key(INSTALLATION, ALICE)
    signed_at = datetime.now(UTC)
    headers = key.headers(MESSAGE, signed_at, BODY)
    headers["webhook-timestamp"] = str(int(signed_at.timestamp()) - 1)
    with pytest.raises(WebhookVerificationError):
        Webhook(key.shown).verify(BODY, headers)


def test_a_verifier_refuses_another_body_and_another_users_key() -> None:
    headers = signing_key(INSTALLATION, ALICE).headers(MESSAGE, datetime.now(UTC), BODY)
    with pytest.raises(WebhookVerificationError):
        Webhook(signing_key(INSTALLATION, ALICE).shown).verify(BODY + b" ", headers)
    with pytest.raises(WebhookVerificationError):
        Webhook(signing_key(INSTALLATION, BOB).shown).verify(BODY, headers)


def test_a_users_key_is_stable_and_has_256_bits() -> None:
    key = signing_key(INSTALLATION, ALICE)
    assert key == signing_key(INSTALLATION, ALICE)
    assert key != signing_key(INSTALLATION + "!", ALICE)
    assert key.shown.startswith("whsec_")
    assert len(key.key) == 32


def test_a_key_is_not_in_its_repr() -> None:
    key = signing_key(INSTALLATION, ALICE)
    assert repr(key) == "SigningKey(…)"
