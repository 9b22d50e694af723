"""Messages of `aerotask migrate` and the others about a database that can't be used."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from tests.support.databases import with_name

from aerotask.stack.servers import LocalServers

PASSWORD = "pw-of-the-database"


def migrate(tmp_path: Path, **urls: str) -> str:
    """The error message of `aerotask migrate` with these URLs."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("AEROTASK")}
    environment |= {
        "AEROTASK_DATABASE_URL": f"postgresql://app:{PASSWORD}@127.0.0.1:1/aerotask",
        "AEROTASK_REDIS_URL": "redis://127.0.0.1:1",
        "AEROTASK_STORAGE_URL": (tmp_path / "storage").as_uri(),
        "AEROTASK_SECRET_KEY": "a key for the tests, long enough to be one",
        **urls,
    }
    done = subprocess.run(
        [sys.executable, "-m", "aerotask", "migrate"],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode in {1, 2}
    assert PASSWORD not in done.stderr
    assert len(done.stderr.splitlines()) == 1, done.stderr
    return done.stderr


def test_an_absent_postgres_is_named_with_its_address(tmp_path: Path) -> None:
    message = migrate(tmp_path)
    assert message.startswith("Postgres at 127.0.0.1:1 can't be used: ")
    assert "Check AEROTASK_DATABASE_URL" in message


def test_a_missing_database_is_named(tmp_path: Path, servers: LocalServers) -> None:
    message = migrate(tmp_path, AEROTASK_DATABASE_URL=with_name(servers.postgres.url, "absent"))
    assert 'database "absent" does not exist' in message


@pytest.mark.parametrize(
    "url",
    [
        f"mysql://app:{PASSWORD}@localhost/aerotask",
        f"app:{PASSWORD}@localhost/aerotask",
        f"postgresql://app:{PASSWORD}@localhost:port/aerotask",
        f"postgresql://app:{PASSWORD}@[::1/aerotask",
    ],
)
def test_a_database_url_that_cannot_be_parsed_is_refused(tmp_path: Path, url: str) -> None:
    assert migrate(tmp_path, AEROTASK_DATABASE_URL=url).startswith(
        "AEROTASK_DATABASE_URL: is no URL of Postgres; write postgresql://user:password@host:port/name, "
    )
