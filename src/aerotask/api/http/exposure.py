"""Warning about an API that other hosts can reach without TLS."""

from __future__ import annotations

from ipaddress import ip_address

import structlog

from aerotask.config import Settings

_log = structlog.get_logger(__name__)


def warn_if_exposed(settings: Settings, host: str) -> None:
    """Logs a warning if, in production mode, the API listens beyond this host and no TLS proxy is named.

    The API itself speaks plain HTTP. A listed proxy is taken for one with TLS: it is asked for in the same sentence.
    """
    if settings.mode == "production" and not settings.http.trusted_proxies and not _is_loopback(host):
        _log.warning(
            "api.without_tls",
            host=host,
            advice="Passwords and tokens cross the network in clear text. Put a TLS proxy in front of the API and "
            "list its address in AEROTASK_TRUSTED_PROXIES, or listen on 127.0.0.1.",
        )


def _is_loopback(host: str) -> bool:
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
