"""Output streams of the command line, options that several commands have, and the settings."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

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

_log = structlog.get_logger(__name__)


def load_settings(*, admin_password: bool = False) -> Settings:
    """Settings from the environment, which then holds no secrets any more; logs are configured by them.

    The first administrator's password is read only with `admin_password`.

    Raises:
        InvalidInput: a failpoint is armed in production mode.
    """
    if not admin_password:
        take_variables(["AEROTASK_ADMIN_PASSWORD"])
    settings = Settings()
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
