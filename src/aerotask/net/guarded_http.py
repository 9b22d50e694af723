"""HTTP client with an SSRF guard: public addresses only, no redirects, no proxies, bounded in time and size."""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from ipaddress import ip_address
from typing import Any, TypeAlias

import httpcore
import orjson

from aerotask import __version__
from aerotask.domain.errors import InvalidInput
from aerotask.domain.text_cleaning import clean_line
from aerotask.net.addresses import Address, WebAddress, check_url, is_public

# Short enough that a host's second address is tried within the timeout of the request.
CONNECT_TIMEOUT_S = 5.0
MAX_ADDRESSES = 4
MAX_JSON_BYTES = 256 * 1024
MAX_ERROR_CHARS = 300

Resolve: TypeAlias = Callable[[str, int], Awaitable[list[Address]]]


class RequestFailed(Exception):
    """No usable response; the message says why."""


@dataclass(frozen=True, slots=True)
class PostResult:
    """Outcome of a POST: the response's status, or None and why there was no response."""

    status: int | None
    error: str | None


class Resolver:
    """The system's resolver, in its own threads: slow names must not occupy those that file access needs."""

    def __init__(self, *, threads: int) -> None:
        self._threads = ThreadPoolExecutor(threads, thread_name_prefix="resolver")

    async def __call__(self, host: str, port: int) -> list[Address]:
        """The addresses of a host, in the order in which they should be tried.

        Raises:
            OSError: the name has no address, or can't be resolved.
        """
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._threads, _look_up, host, port)

    def close(self) -> None:
        """Cancels pending look-ups and accepts no more."""
        self._threads.shutdown(wait=False, cancel_futures=True)


@dataclass(frozen=True, slots=True)
class GuardedClient:
    """Sends single requests, each over a connection of its own, to addresses that users configured."""

    timeout_s: float
    """For the whole exchange, from resolving the name to the end of the response."""
    allow_private: bool
    tls: ssl.SSLContext
    resolve: Resolve

    async def post(self, url: WebAddress, headers: Mapping[str, str], body: bytes) -> PostResult:
        """Sends the body. Only the response's status is read, nothing after its headers."""
        try:
            async with self._response("POST", url, headers, body) as response:
                return _result_of(response.status)
        except RequestFailed as error:
            return PostResult(None, clean_line(str(error))[:MAX_ERROR_CHARS])

    async def get_json(self, url: str) -> Mapping[str, Any]:
        """The JSON object at the URL; by https only, unless private addresses are allowed.

        Raises:
            InvalidInput: the URL is malformed, private, or not https.
            RequestFailed: there is no response, or it is not a JSON object of at most `MAX_JSON_BYTES`.
        """
        address = check_url(url, allow_private=self.allow_private, field="URL")
        if address.scheme != "https" and not self.allow_private:
            raise InvalidInput("The URL must use https.")
        headers = {
            "User-Agent": f"aerotask/{__version__}",
            "Accept": "application/json",
            "Accept-Encoding": "identity",
        }
        async with self._response("GET", address, headers) as response:
            if response.status != 200:
                raise RequestFailed(
                    f"The server answered {response.status}.{_redirect_hint(response.status)}"
                )
            body = await _read_bounded(response)
        try:
            content = orjson.loads(body)
        except orjson.JSONDecodeError as error:
            raise RequestFailed("The response is not valid JSON.") from error
        if not isinstance(content, dict):
            raise RequestFailed("The response is not a JSON object.")
        return content

    @asynccontextmanager
    async def _response(
        self, method: str, url: WebAddress, headers: Mapping[str, str], body: bytes | None = None
    ) -> AsyncIterator[httpcore.Response]:
        # From the parts that were checked: httpcore would parse the URL by its own rules.
        target = httpcore.URL(scheme=url.scheme, host=url.host, port=url.port, target=url.target)
        network = _GuardedNetwork(self.resolve, allow_private=self.allow_private)
        timeouts = {"connect": CONNECT_TIMEOUT_S, "read": self.timeout_s, "write": self.timeout_s}
        with _failures_explained(self.timeout_s):
            async with (
                asyncio.timeout(self.timeout_s),
                httpcore.AsyncConnectionPool(self.tls, max_connections=1, network_backend=network) as pool,
                pool.stream(
                    method,
                    target,
                    headers=[("Host", url.authority), *headers.items()],
                    content=body,
                    extensions={"timeout": timeouts},
                ) as response,
            ):
                yield response


@contextmanager
def _failures_explained(timeout_s: float) -> Iterator[None]:
    try:
        yield
    except _PrivateAddress as error:
        raise RequestFailed("The host leads to an address that is private, local or reserved.") from error
    except httpcore.ConnectTimeout as error:
        raise RequestFailed("The host takes no connection.") from error
    except TimeoutError as error:
        raise RequestFailed(f"There was no answer within {timeout_s:g} s.") from error
    except socket.gaierror as error:
        raise RequestFailed("The host's name can't be resolved.") from error
    except httpcore.ProtocolError as error:
        raise RequestFailed("The answer is not valid HTTP.") from error
    except (httpcore.NetworkError, httpcore.TimeoutException, OSError) as error:
        raise RequestFailed(_broken_connection(error)) from error


def _broken_connection(error: Exception) -> str:
    """Reason in plain words of a broken connection; OpenSSL and the operating system have their own for it."""
    cause = error.__cause__ or error.__context__ or error
    if isinstance(cause, ssl.SSLCertVerificationError):
        return f"The host's certificate isn't accepted: {cause.verify_message}."
    if isinstance(cause, ssl.SSLError):
        return "The host doesn't speak TLS on this port, or an old version of it."
    is_connect = isinstance(error, httpcore.ConnectError | ConnectionRefusedError)
    return (
        "The host takes no connection."
        if is_connect
        else "The connection broke before the answer was complete."
    )


class _PrivateAddress(Exception):
    """The host has an address that must not be called."""


class _GuardedNetwork(httpcore.AsyncNetworkBackend):
    """Connects to exactly the addresses that it checked, so that a second look-up can't name others.

    TLS is not affected: it verifies the name in the URL.
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
        # One private address is enough: a name that leads both outside and inside is an attack.
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
    # As bytes: `getaddrinfo` would encode a str by IDNA, which fails on some valid names.
    found = socket.getaddrinfo(host.encode("ascii"), port, type=socket.SOCK_STREAM)
    return list(dict.fromkeys(ip_address(sockaddr[0]) for *_, sockaddr in found))


async def _read_bounded(response: httpcore.Response) -> bytes:
    body = bytearray()
    async for chunk in response.aiter_stream():
        body += chunk
        if len(body) > MAX_JSON_BYTES:
            raise RequestFailed(f"The response is longer than {MAX_JSON_BYTES} bytes.")
    return bytes(body)


def _result_of(status: int) -> PostResult:
    if 200 <= status <= 299:
        return PostResult(status, None)
    return PostResult(status, f"The receiver answered {status}.{_redirect_hint(status)}")


def _redirect_hint(status: int) -> str:
    return " Redirects are not followed." if 300 <= status <= 399 else ""
