"""Minimal status read and submit: FastAPI and asyncpg with one statement each."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any
from uuid import UUID, uuid4

import asyncpg
import uvicorn
from fastapi import FastAPI, Request

TABLE = (
    "CREATE TABLE IF NOT EXISTS bare_tasks (id uuid PRIMARY KEY, state text NOT NULL, params jsonb NOT NULL)"
)


@asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncIterator[None]:
    async with asyncpg.create_pool(os.environ["BARE_DATABASE_URL"], max_size=20) as pool:
        await pool.execute(TABLE)
        app.state.pool = pool
        yield


app = FastAPI(lifespan=lifespan)


@app.post("/tasks", status_code=202)
async def submit(request: Request) -> dict[str, str]:
    task_id = uuid4()
    await request.app.state.pool.execute(
        "INSERT INTO bare_tasks VALUES ($1, 'Created', $2)", task_id, json.dumps(await request.json())
    )
    return {"taskId": str(task_id)}


@app.get("/tasks/{task_id}")
async def status(task_id: UUID, request: Request) -> dict[str, Any]:
    row = await request.app.state.pool.fetchrow("SELECT * FROM bare_tasks WHERE id = $1", task_id)
    return {"taskId": str(row["id"]), "state": row["state"], "params": json.loads(row["params"])}


if __name__ == "__main__":
    uvicorn.run(
        app, port=int(sys.argv[1]), loop="uvloop", http="httptools", access_log=False, log_level="warning"
    )
