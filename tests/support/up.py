"""A running `aerotask up`, followed by its output."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from queue import Queue
from threading import Thread

import httpx
import psutil

START_TIMEOUT_S = 90
ADDRESS = r"Address +(http://127\.0\.0\.1:\d+)"


class Up:
    """A running `aerotask up`, whose output is read continuously."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self.process = process
        self.lines: list[str] = []
        self._queue: Queue[str] = Queue()
        self._reader = Thread(target=self._read)
        self._reader.start()

    def _read(self) -> None:
        assert self.process.stdout is not None
        with self.process.stdout as output:
            for line in output:
                self._queue.put(line)

    def await_line(self, pattern: str) -> re.Match[str]:
        while True:
            line = self._queue.get(timeout=START_TIMEOUT_S)
            self.lines.append(line)
            found = re.search(pattern, line)
            if found:
                return found

    def family(self) -> list[psutil.Process]:
        return psutil.Process(self.process.pid).children(recursive=True)

    def end(self) -> None:
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()
        self._reader.join()


@contextmanager
def up(data: Path, *options: str, settings: Mapping[str, str] | None = None) -> Iterator[Up]:
    """Run `aerotask up` over the folder, on any free port."""
    command = [sys.executable, "-m", "aerotask", "up", "--port", "0", "--data", str(data), *options]
    environment = {**os.environ, "COLUMNS": "200", **(settings or {})}
    running = Up(
        subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=environment
        )
    )
    try:
        yield running
    finally:
        running.end()


@contextmanager
def sign_in(address: str, password: str) -> Iterator[httpx.Client]:
    """A client of the administrator."""
    with httpx.Client(base_url=address, trust_env=False) as client:
        response = client.post("/users/authenticate", json={"username": "admin", "password": password})
        client.headers["Authorization"] = f"Bearer {response.raise_for_status().json()['token']}"
        yield client
