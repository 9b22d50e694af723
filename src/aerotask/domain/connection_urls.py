"""Forms of the URLs of servers; messages never repeat a URL, which may hold a password."""

from __future__ import annotations

import re
from urllib.parse import parse_qs, urlsplit

from aerotask.domain.errors import InvalidInput

_DATABASE_URL = re.compile(
    r"postgres(?:ql)?(?:\+asyncpg)?://"
    r"(?:[^:/@]*(?::[^@]*)?@)?"
    r"(?:\[[^/?\]]+\]|[^/:?\[\]]+)?"
    r"(?::(?P<port>[0-9]{1,5}))?"
    r"(?:/[^?]*)?(?:\?.*)?"
)
_MAX_PORT = 65535


def check_database_url(url: str) -> str:
    """The URL, if it is one of Postgres.

    Raises:
        InvalidInput: it isn't.
    """
    found = _DATABASE_URL.fullmatch(url.strip())
    if found is None or int(found["port"] or 0) > _MAX_PORT:
        raise InvalidInput(
            "is no URL of Postgres; write postgresql://user:password@host:port/name, with special characters of the password "
            "as %-escapes, or postgresql:///name?host=/socket/folder"
        )
    return url


def check_redis_url(url: str) -> str:
    """The URL, if it is one of Redis or Valkey.

    Raises:
        InvalidInput: it isn't.
    """
    try:
        parts = urlsplit(url)
        on_network = parts.scheme in {"redis", "rediss"} and bool(parts.hostname)
        on_socket = parts.scheme == "unix" and parts.path.startswith("/") and not parts.netloc
        database = [*parse_qs(parts.query).get("db", []), *([parts.path.strip("/")] if on_network else [])]
        valid = (on_network or on_socket) and (parts.port or 0) >= 0
        valid = valid and all(number.isdecimal() for number in database if number)
    except ValueError:  # of a port that isn't a number, or a broken IPv6 address
        valid = False
    if not valid:
        raise InvalidInput(
            "is no URL of Redis or Valkey; write redis://host:port/0, with special characters of a password as %-escapes, or "
            "unix:///socket.sock?db=0"
        )
    return url
