"""URLs of servers that are taken and refused."""

import pytest

from aerotask.domain.connection_urls import check_database_url, check_redis_url
from aerotask.domain.errors import InvalidInput


@pytest.mark.parametrize(
    "url",
    [
        "postgresql://app:pw@host:5432/name",
        "postgres://app:pw@host/name",
        "postgresql+asyncpg://app:pw@host/name",
        "postgresql://app:p%40ss@[::1]:5432/name",
        "postgresql://app:a/slash@host/name",
        "postgresql://app@/postgres?host=/some/folder",
        "postgresql:///name?host=/run/postgresql",
        "postgresql://x/y",
    ],
)
def test_urls_of_postgres_are_taken(url: str) -> None:
    assert check_database_url(url) == url


@pytest.mark.parametrize(
    "url",
    [
        "",
        "nonsense",
        "mysql://host/name",
        "postgresql:/host/name",
        "postgresql://host:port/name",
        "postgresql://host:70000/name",
        "postgresql://[::1/name",
    ],
)
def test_other_urls_of_a_database_are_refused(url: str) -> None:
    with pytest.raises(InvalidInput, match="is no URL of Postgres"):
        check_database_url(url)


@pytest.mark.parametrize(
    "url",
    [
        "redis://host",
        "redis://host:6379/0",
        "rediss://user:pw@host:6379/15",
        "unix:///run/valkey.sock",
        "unix:///run/valkey.sock?db=3",
    ],
)
def test_urls_of_redis_are_taken(url: str) -> None:
    assert check_redis_url(url) == url


@pytest.mark.parametrize(
    "url",
    [
        "",
        "nonsense",
        "http://host",
        "redis://",
        "redis://host:port",
        "redis://host/name",
        "redis://[::1",
        "unix://valkey.sock",
        "unix:///run/valkey.sock?db=x",
    ],
)
def test_other_urls_of_redis_are_refused(url: str) -> None:
    with pytest.raises(InvalidInput, match="is no URL of Redis"):
        check_redis_url(url)
