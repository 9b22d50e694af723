"""Settings: validation, production mode and secrecy."""

import subprocess
import sys

import pytest
from pydantic import ValidationError

from aerotask.config import Settings

GOOD = "q3VxPz7wKfJtB2nYhR8mLcE5uGdS9aWe"


def settings(**changes: object) -> Settings:
    return Settings.model_validate(
        {
            "database_url": "postgresql://x/y",
            "redis_url": "redis://x",
            "storage_url": "file:///nowhere",
            "secret_key": GOOD,
            **changes,
        }
    )


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("secret_key", "x" * 40),
        ("secret_key", "0123456012345601234560123456012345601234"),
        ("secret_key", "please-ChangeMe-before-you-deploy-this"),
        ("secret_key", "only-for-the-check-of-the-compose-file"),
        ("admin_password", "password1234"),
        ("metrics_token", "metrics-secret-token"),
        ("database_url", "postgresql://postgres:postgres@h/d"),
        ("database_url", "postgresql://app:app@h/d"),
        ("database_url", "postgresql://app:Pass%77ord1234@h/d"),
        ("clock_offset_s", 60),
        ("blob_grace_s", 1799),
    ],
)
def test_production_rejects_guessable_secrets_and_test_settings(name: str, value: object) -> None:
    settings(**{name: value})
    settings(mode="production")
    with pytest.raises(ValidationError, match="production mode refuses"):
        settings(mode="production", **{name: value})


@pytest.mark.parametrize("url", [f"postgresql://app:{GOOD}@h/d", "postgresql:///d?host=/run/postgresql"])
def test_production_accepts_a_database_with_a_strong_password_or_none(url: str) -> None:
    settings(mode="production", database_url=url)


def test_the_databases_password_may_be_given_apart_from_the_address() -> None:
    apart = settings(database_url="postgresql://app@h:5433/d?sslmode=require", db_password="p@ss/wörd%")
    url = "postgresql://app:p%40ss%2Fw%C3%B6rd%25@h:5433/d?sslmode=require"
    assert apart.database_url.get_secret_value() == url
    assert settings(database_url=url, db_password="another").database_url.get_secret_value() == url
    assert "p@ss" not in repr(apart)


def test_a_password_without_a_user_is_rejected() -> None:
    with pytest.raises(ValidationError, match="needs a user in AEROTASK_DATABASE_URL"):
        settings(db_password="anything")


def test_production_rejects_a_guessable_password_given_apart() -> None:
    with pytest.raises(ValidationError, match="production mode refuses"):
        settings(mode="production", database_url="postgresql://app@h/d", db_password="changeme")


def test_a_short_secret_is_rejected_in_every_mode() -> None:
    with pytest.raises(ValidationError, match="32 characters"):
        settings(secret_key=GOOD[:31])


@pytest.mark.parametrize("value", ["*", "proxy.example", "10.0.0.0/40", "10.0.0.1/8"])
def test_trusted_proxies_must_be_addresses_or_networks(value: str) -> None:
    with pytest.raises(ValidationError, match="trusted_proxies"):
        settings(trusted_proxies=value)


def test_a_short_metrics_token_is_rejected_in_every_mode() -> None:
    with pytest.raises(ValidationError, match="16 characters"):
        settings(metrics_token=GOOD[:15])


def test_secrets_are_not_in_the_repr_of_settings() -> None:
    shown = repr(settings(admin_password="very private words", database_url="postgresql://u:hidden@h/d"))
    assert not [word for word in (GOOD, "very private words", "hidden") if word in shown]


def test_a_process_with_a_weak_secret_exits_with_a_message_that_does_not_contain_it() -> None:
    weak = "secret-secret-secret-secret-secret"
    environment = {
        "AEROTASK_MODE": "production",
        "AEROTASK_DATABASE_URL": "postgresql://x/y",
        "AEROTASK_REDIS_URL": "redis://x",
        "AEROTASK_STORAGE_URL": "file:///nowhere",
        "AEROTASK_SECRET_KEY": weak,
    }
    command = [sys.executable, "-m", "aerotask", "api"]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "AEROTASK_SECRET_KEY" in done.stderr
    assert weak not in done.stderr


def test_variables_have_no_group_in_their_names_and_reach_their_group(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name, value in {"WORKER_SLOTS": "5", "MAX_ACTIVE_TASKS": "7", "LOG_MAX_LINES": "200"}.items():
        monkeypatch.setenv(f"AEROTASK_{name}", value)
    monkeypatch.setenv("AEROTASK_WORKER", "not a group")
    read = settings()
    assert (read.worker.slots, read.quotas.active, read.logs.lines) == (5, 7, 200)
    assert read.quotas.active_per_org == 10


def test_an_invalid_value_in_a_group_is_reported_by_its_variable() -> None:
    environment = {
        "AEROTASK_DATABASE_URL": "postgresql://x/y",
        "AEROTASK_REDIS_URL": "redis://x",
        "AEROTASK_STORAGE_URL": "file:///nowhere",
        "AEROTASK_SECRET_KEY": GOOD,
        "AEROTASK_WORKER_SLOTS": "65",
    }
    command = [sys.executable, "-m", "aerotask", "worker"]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "AEROTASK_WORKER_SLOTS: Input should be less than or equal to 64" in done.stderr
