"""procrastinate with its defaults except concurrency: 1,000 empty jobs, enqueued before it starts."""

from __future__ import annotations

import asyncio
import os
import sys
import time
from pathlib import Path

from procrastinate import App, PsycopgConnector

app = App(connector=PsycopgConnector(conninfo=os.environ["BENCH_DATABASE"]))
NOTES = Path(os.environ["BENCH_NOTE"]).open("ab", buffering=0)  # noqa: SIM115  open for as long as the process lives


@app.task
async def nothing() -> None:
    NOTES.write(f"{time.time()!r}\n".encode())


async def main(jobs: int, concurrency: int) -> None:
    async with app.open_async():
        await app.schema_manager.apply_schema_async()
        await nothing.batch_defer_async(*({} for _ in range(jobs)))
        await app.run_worker_async(wait=False, concurrency=concurrency)


if __name__ == "__main__":
    asyncio.run(main(int(sys.argv[1]), int(sys.argv[2])))
