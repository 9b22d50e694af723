"""One POST to an address that a user chose: to public addresses only, bounded, no redirects, no proxies."""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import Awaitable, Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from ipaddress import ip_address
from typing import TypeAlias

import httpcore

from aerotask.domain.texts import clean_line
from aerotask.net.addresses import Address, WebAddress, is_public

# A host with several addresses gets to its second one within the time of a try.
CONNECT_TIMEOUT_S = 5.0
MAX_ADDRESSES = 4
MAX_ERROR_CHARS = 300

Resolve: TypeAlias = Callable[[str, int], Awaitable[list[Address]]]


@dataclass(frozen=True, slots=True)
class PostResult:
    """How a POST went: the status of the answer, or None and what went wrong before there was one."""

    status: int | None
    error: str | None


class Resolver:
    """The system's resolver, in threads of its own: slow names must not occupy those that files need."""

    def __init__(self, *, threads: int) -> None:
        self._threads = ThreadPoolExecutor(threads, thread_name_prefix="resolver")

    async def __call__(self, host: str, port: int) -> list[Address]:
        """The addresses of a host, in the order in which they should be tried.

        Raises:
            OSError: it has none, or nobody knows.
        """
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._threads, _look_up, host, port)

    def close(self) -> None:
        """Look nothing up any more."""
        self._threads.shutdown(wait=False, cancel_futures=True)


@dataclass(frozen=True, slots=True)
class GuardedClient:
    """Sends what it is given, once, over a connection of its own."""

    timeout_s: float
    """For the whole exchange, from the look-up of the name to the status of the answer."""
    allow_private: bool
    tls: ssl.SSLContext
    resolve: Resolve

    async def post(self, to: WebAddress, headers: Mapping[str, str], body: bytes) -> PostResult:
        """Send the body. Of the answer only the status counts, and nothing behind its headers is read."""
        try:
            async with asyncio.timeout(self.timeout_s):
                return _answered(await self._exchange(to, headers, body))
        except _PrivateAddress:
            return _unanswered("The host leads to an address that is private, local or reserved.")
        except httpcore.ConnectTimeout:
            return _unanswered("The host takes no connection.")
        except TimeoutError:
            return _unanswered(f"There was no answer within {self.timeout_s:g} s.")
        except socket.gaierror:
            return _unanswered("The host's name can't be resolved.")
        except (httpcore.NetworkError, httpcore.ProtocolError, httpcore.TimeoutException, OSError) as error:
            return _unanswered(f"The exchange failed: {str(error) or type(error).__name__}.")

    async def _exchange(self, to: WebAddress, headers: Mapping[str, str], body: bytes) -> int:
        # The parts as they were checked: httpcore would read the whole URL by rules of its own.
        url = httpcore.URL(scheme=to.scheme, host=to.host, port=to.port, target=to.target)
        network = _GuardedNetwork(self.resolve, allow_private=self.allow_private)
        timeouts = {"connect": CONNECT_TIMEOUT_S, "read": self.timeout_s, "write": self.timeout_s}
        async with (
            httpcore.AsyncConnectionPool(self.tls, max_connections=1, network_backend=network) as pool,
            pool.stream(
                "POST",
                url,
                headers=[("Host", to.authority), *headers.items()],
                content=body,
                extensions={"timeout": timeouts},
            ) as answer,
        ):
            return answer.status


class _PrivateAddress(Exception):
    """The host has an address that we don't call."""


class _GuardedNetwork(httpcore.AsyncNetworkBackend):
    """Connects to the very addresses that it has checked, so that no second look-up can name others.

    TLS comes later and knows nothing of this: it verifies the name in the URL.
    """

    def __init__(self, resolve: Resolve, *, allow_private: bool) -> None:
        self._resolve = resolve
        self._allow_private = allow_private
        self._network = httpcore.AnyIOBackend()

    async def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,  # noqa: ASYNC109  httpcore's signature
        local_address: str | None = None,
        socket_options: Iterable[httpcore.SOCKET_OPTION] | None = None,
    ) -> httpcore.AsyncNetworkStream:
        addresses = await self._resolve(host, port)
        # One address within is enough: a name that leads outside and inside has been set up to deceive.
        if not self._allow_private and not all(map(is_public, addresses)):
            raise _PrivateAddress
        failure: Exception = httpcore.ConnectError("the name has no address")
        for address in addresses[:MAX_ADDRESSES]:
            try:
                return await self._network.connect_tcp(
                    str(address), port, timeout, local_address, socket_options
                )
            except (httpcore.ConnectError, httpcore.ConnectTimeout) as error:
                failure = error
        raise failure


def _look_up(host: str, port: int) -> list[Address]:
    # As bytes: `getaddrinfo` would put a text through an encoding for names and may fail at that.
    found = socket.getaddrinfo(host.encode("ascii"), port, type=socket.SOCK_STREAM)
    return list(dict.fromkeys(ip_address(sockaddr[0]) for *_, sockaddr in found))


def _answered(status: int) -> PostResult:
    if 200 <= status <= 299:
        return PostResult(status, None)
    hint = " Redirects are not followed." if 300 <= status <= 399 else ""
    return PostResult(status, f"The receiver answered {status}.{hint}")


def _unanswered(error: str) -> PostResult:
    return PostResult(None, clean_line(error)[:MAX_ERROR_CHARS])
