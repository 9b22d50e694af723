"""Print `.env.example`: every setting of `aerotask.config`, with its default, for docker compose."""

from __future__ import annotations

import sys
import textwrap
from collections.abc import Iterator
from typing import Any

from aerotask.config import Settings

HEAD = """\
# Settings for docker compose: copy this file to .env and fill in the two secrets. Each setting here reaches the API, the
# workers and the migration. In single quotes every character stands for itself, but a single quote is written as \\'.
# Written by `make fmt` from the settings; a test compares it with them.

# Signs the tokens; make one with: python3 -c 'import secrets; print(secrets.token_urlsafe(48))'
AEROTASK_SECRET_KEY=''
# The database's password. Postgres keeps the one of the first start.
AEROTASK_DB_PASSWORD=''

# For compose alone: the address and port on which the API is published, the domain that Caddy serves (profile tls), the
# memory of each worker and of the API, and the first three numbers of the network in which the proxy reaches the API.
# AEROTASK_BIND=127.0.0.1
# AEROTASK_PORT=8000
# AEROTASK_DOMAIN=localhost
# AEROTASK_WORKER_MEMORY=8g
# AEROTASK_API_MEMORY=4g
# AEROTASK_EDGE_PREFIX=172.31.254

# Compose sets the addresses of its own Postgres, Redis and storage, production mode, and Caddy as the trusted proxy; values
# here replace them.
"""
SECRETS = ("secret_key", "db_password")
WIDTH = 118


def settings() -> Iterator[tuple[str, dict[str, Any]]]:
    """Name without the prefix and JSON schema of each setting, in the order of their declaration."""
    schema = Settings.model_json_schema()
    for name, described in schema["properties"].items():
        group = described.get("$ref", "").removeprefix("#/$defs/")
        yield from schema["$defs"][group]["properties"].items() if group else [(name, described)]


def example() -> str:
    """The whole text of the file."""
    blocks = [HEAD]
    for name, described in settings():
        if name not in SECRETS:
            text = " ".join(described["description"].split())
            comment = textwrap.fill(
                text, WIDTH, initial_indent="# ", subsequent_indent="# ", break_long_words=False
            )
            blocks.append(f"\n{comment}\n# AEROTASK_{name.upper()}={_shown(described.get('default'))}\n")
    return "".join(blocks)


def _shown(default: object) -> str:
    if isinstance(default, bool):
        return str(default).lower()
    return "" if default is None else str(default)


if __name__ == "__main__":
    sys.stdout.write(example())
