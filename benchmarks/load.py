"""Load generator with little overhead of its own: raw HTTP/1.1 over keep-alive connections."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from urllib.parse import urlsplit

import uvloop


@dataclass(frozen=True, slots=True)
class Load:
    """Result of a load: requests per second and response times."""

    per_s: float
    p50_ms: float
    p99_ms: float
    failures: int

    def __str__(self) -> str:
        failed = f", {self.failures} failed" if self.failures else ""
        return f"{self.per_s:7.0f}/s   p50 {self.p50_ms:6.1f} ms   p99 {self.p99_ms:6.1f} ms{failed}"


def request(method: str, path: str, headers: dict[str, str], body: bytes = b"") -> bytes:
    """Bytes of one request."""
    lines = [f"{method} {path} HTTP/1.1", "Host: bench", f"Content-Length: {len(body)}"]
    lines += [f"{name}: {value}" for name, value in headers.items()]
    return "\r\n".join([*lines, "", ""]).encode() + body


def put_under_load(
    address: str,
    requests: Iterator[bytes],
    *,
    connections: int,
    seconds: float,
    expected: Callable[[int], bool] = lambda status: status < 300,
) -> Load:
    """Sends the requests one after the other on each connection for the given time."""
    return uvloop.run(_load(address, requests, connections, seconds, expected))


async def _load(
    address: str,
    requests: Iterator[bytes],
    connections: int,
    seconds: float,
    expected: Callable[[int], bool],
) -> Load:
    took: list[float] = []
    failures = 0
    end = time.perf_counter() + seconds

    async def one() -> None:
        nonlocal failures
        split = urlsplit(address)
        reader, writer = await asyncio.open_connection(split.hostname, split.port)
        while (start := time.perf_counter()) < end:
            writer.write(next(requests))
            head = await reader.readuntil(b"\r\n\r\n")
            length = int(head.lower().split(b"content-length: ")[1].split(b"\r\n")[0])
            await reader.readexactly(length)
            took.append(time.perf_counter() - start)
            failures += not expected(int(head[9:12]))
        writer.close()

    started = time.perf_counter()
    await asyncio.gather(*(one() for _ in range(connections)))
    took.sort()
    return Load(
        per_s=len(took) / (time.perf_counter() - started),
        p50_ms=1000 * took[len(took) // 2],
        p99_ms=1000 * took[len(took) * 99 // 100],
        failures=failures,
    )
