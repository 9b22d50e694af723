"""The warning of an API that listens beyond its host without TLS."""

from __future__ import annotations

import pytest
from structlog.testing import capture_logs

from aerotask.api.http.exposure import warn_if_exposed
from aerotask.config import Settings

SETTINGS = {
    "mode": "production",
    "database_url": "postgresql://x/y",
    "redis_url": "redis://x",
    "storage_url": "file:///nowhere",
    "secret_key": "q3VxPz7wKfJtB2nYhR8mLcE5uGdS9aWe",
}


def warnings(host: str, **changes: str) -> list[str]:
    with capture_logs() as log:
        warn_if_exposed(Settings.model_validate({**SETTINGS, **changes}), host)
    return [event["event"] for event in log if event["log_level"] == "warning"]


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.0.2.1", "api.example"])
def test_it_warns_once_of_an_address_that_others_can_reach(host: str) -> None:
    assert warnings(host) == ["api.without_tls"]


@pytest.mark.parametrize("host", ["127.0.0.1", "127.0.0.2", "::1", "localhost"])
def test_it_is_silent_on_this_host_alone(host: str) -> None:
    assert warnings(host) == []


def test_it_is_silent_behind_a_listed_proxy_and_in_development() -> None:
    assert warnings("0.0.0.0", trusted_proxies="10.0.0.1") == []
    assert warnings("0.0.0.0", mode="development") == []
