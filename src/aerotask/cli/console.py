"""Output streams of the command line, options that several commands have, and the settings."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import structlog
import typer
from rich.console import Console

from aerotask.config import Settings
from aerotask.domain.errors import InvalidInput
from aerotask.failpoints import armed_failpoints
from aerotask.logs import configure_logs
from aerotask.sandbox.kernel.environment import take_variables

out = Console()
err = Console(stderr=True)

Host = Annotated[str, typer.Option(help="The address to listen on.")]
Port = Annotated[int, typer.Option(help="The port to listen on.", min=0, max=65535)]
AdoptStorage = Annotated[
    bool,
    typer.Option(
        "--adopt-storage",
        help="Join this database with this storage although they may not belong together: what the database doesn't "
        "name is removed from the storage after the grace time.",
    ),
]
Data = Annotated[Path, typer.Option(help="The folder for all data.")]
InstallationData = Annotated[
    Path | None,
    typer.Option(
        help="The data folder of `aerotask up`, running or not, instead of AEROTASK_DATABASE_URL and "
        "AEROTASK_STORAGE_URL."
    ),
]
_NO_REDIS = "unix:///dev/null?db=0"

_log = structlog.get_logger(__name__)


def load_settings(*, admin_password: bool = False, given: Mapping[str, Any] | None = None) -> Settings:
    """Settings from the environment, which then holds no secrets any more; logs are configured by them.

    The first administrator's password is read only with `admin_password`. Settings that are `given` stand above
    the environment's.

    Raises:
        InvalidInput: a failpoint is armed in production mode.
    """
    if not admin_password:
        take_variables(["AEROTASK_ADMIN_PASSWORD"])
    settings = Settings(**(given or {}))
    take_variables(Settings.secret_variables())
    configure_logs(settings.log_format)
    for name, armed in armed_failpoints().items():
        _log.warning("failpoint.armed", name=name, action=armed.action)
        if settings.mode == "production":
            raise InvalidInput(
                "AEROTASK_FAILPOINT is for tests and must not be set in production mode.",
                code="unsafe-setting",
            )
    return settings


@contextmanager
def installation_settings(data: Path | None) -> Iterator[Settings]:
    """Settings of the environment, or for the database and storage of a data folder, without Redis.

    The folder's Postgres is started for the block if its stack is stopped.

    Raises:
        InvalidInput: the folder has no database.
    """
    if data is None:
        yield load_settings()
        return
    from aerotask.stack.embedded_database import embedded_database  # noqa: PLC0415  only for some commands
    from aerotask.stack.stack import secret_key_file, storage_folder  # noqa: PLC0415

    given = {"storage_url": storage_folder(data).absolute().as_uri(), "redis_url": _NO_REDIS}
    key = secret_key_file(data)
    if key.is_file():
        given["secret_key"] = key.read_text(encoding="ascii")
    with embedded_database(data) as url:
        yield load_settings(given={**given, "database_url": url})
