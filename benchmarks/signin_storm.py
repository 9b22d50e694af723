"""Login storm benchmark: slowdown of other users' status reads during many logins, as a ratio.

    python benchmarks/signin_storm.py

One API process and no worker; the readers, the storm, the API and Postgres share the same cores. Three storms, each beside the same
readers: wrong passwords while they are still hashed, right ones, and refusals (429) of an account and address beyond the limits.
The bare peer is the same number of connections that ask for something cheap (`/healthz`): what any neighbour costs.
"""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from benchmarks.load import Load, put_under_load, request
from benchmarks.stacks import PASSWORD, TASKS, bench, sign_in

READERS, STORMERS, SECONDS, ROUNDS = 8, 8, 4.0, 5
JSON = {"Content-Type": "application/json"}
UNLIMITED = {
    "max_failed_sign_ins_per_account": "1000000000",
    "max_failed_sign_ins_per_address": "1000000000",
}


def main() -> None:
    with bench() as made:
        # First, as failures are remembered; the address is also that of the readers and must not be blocked.
        with made.stack(workers=0, **{**UNLIMITED, "max_failed_sign_ins_per_account": "3"}) as ours:
            reads, wrong, _, _ = requests(ours.address)
            compare(ours.address, reads, {"429s": wrong})
        with made.stack(workers=0, **UNLIMITED) as ours:
            reads, wrong, right, cheap = requests(ours.address)
            compare(ours.address, reads, {"healthz": cheap, "wrong passwords": wrong, "right ones": right})


def requests(address: str) -> tuple[bytes, bytes, bytes, bytes]:
    with sign_in(address) as client:
        answer = client.post(TASKS, json={"toolId": "nothing", "params": {"label": "read"}})
        task = answer.raise_for_status().json()["taskId"]
        headers = {"Authorization": client.headers["Authorization"]}
    return (
        request("GET", f"{TASKS}/{task}", headers),
        login("nobody-here", "wrong"),
        login("admin", PASSWORD),
        request("GET", "/healthz", {}),
    )


def login(name: str, password: str) -> bytes:
    body = json.dumps({"username": name, "password": password}).encode()
    return request("POST", "/users/authenticate", JSON, body)


def compare(address: str, reads: bytes, storms: dict[str, bytes]) -> None:
    for name, storm in storms.items():
        ratios = []
        for _ in range(ROUNDS):
            alone = read(address, reads)
            with raging(address, storm):
                beside = read(address, reads)
            ratios.append((alone.per_s / beside.per_s, beside.p50_ms / alone.p50_ms))
        slower, longer = (statistics.median(values) for values in zip(*ratios, strict=True))
        print(f"{name:16} reads {slower:.2f} times fewer, p50 {longer:.2f} times longer; last: {beside}")


def read(address: str, reads: bytes) -> Load:
    return put_under_load(address, forever(reads), connections=READERS, seconds=SECONDS)


@contextmanager
def raging(address: str, storm: bytes) -> Iterator[None]:
    """Runs the storm in its own process for the duration of the block."""
    program = (
        "import itertools, sys; from benchmarks.load import put_under_load;"
        "put_under_load(sys.argv[1], itertools.repeat(open(sys.argv[2], 'rb').read()),"
        f"connections={STORMERS}, seconds=3600, expected=lambda status: True)"
    )
    root = Path(__file__).resolve().parents[1]
    with tempfile.NamedTemporaryFile() as file:
        Path(file.name).write_bytes(storm)
        process = subprocess.Popen([sys.executable, "-c", program, address, file.name], cwd=root)
        try:
            yield
        finally:
            process.kill()
            process.wait()


def forever(content: bytes) -> Iterator[bytes]:
    while True:
        yield content


if __name__ == "__main__":
    main()
