"""Celery with its defaults except the number of processes: 1,000 empty jobs, enqueued before it starts."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

from celery import Celery

app = Celery("celery_drain", broker=os.environ["BENCH_BROKER"])
app.conf.broker_connection_retry_on_startup = True
NOTE = Path(os.environ["BENCH_NOTE"])


@app.task
def nothing() -> None:
    with NOTE.open("ab") as note:
        note.write(f"{time.time()!r}\n".encode())


def main(jobs: int, concurrency: int) -> None:
    for _ in range(jobs):
        nothing.delay()
    command = [sys.executable, "-m", "celery", "-A", "celery_drain", "worker", "-c", str(concurrency)]
    with subprocess.Popen([*command, "--loglevel", "ERROR"], cwd=Path(__file__).parent) as worker:
        while not NOTE.exists() or len(NOTE.read_bytes().splitlines()) < jobs:
            time.sleep(0.05)
        worker.terminate()


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]))
