"""Schemathesis over the whole OpenAPI document, stateful phase included: no 5xx, nothing undocumented."""

from __future__ import annotations

import asyncio
import os
import re
import shutil
import sys
from pathlib import Path

from tests.support.served import served

from aerotask.config import Settings

CONFIG = Path(__file__).with_name("schemathesis.toml")
# The configuration names it by a path from where schemathesis runs.
HOOKS = Path(__file__).with_name("schemathesis_hooks.py")
CHECKS = "not_a_server_error,status_code_conformance,content_type_conformance,response_schema_conformance"
# A stream has no end, and there is no worker here to be ready.
LEFT_OUT = "^(events|readyz)$"


async def test_no_answer_is_undocumented_or_a_fault_of_ours(settings: Settings, tmp_path: Path) -> None:
    generous = Settings.model_validate({**settings.model_dump(), "max_failed_sign_ins_per_address": 10**6})
    shutil.copy(HOOKS, tmp_path)
    async with served(generous) as api:
        # A key, since tokens end with the first sign-out.
        made = await api.client.post("/users/me/keys", json={"name": "schemathesis"})
        key = made.raise_for_status().json()["key"]
        (await api.client.put("/orgs/acme/ds/acme/obj/a.txt", content=b"x")).raise_for_status()
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "schemathesis.cli", "--config-file", str(CONFIG)),
            *("run", f"{api.client.base_url}/openapi.json", "--header", f"Authorization: Bearer {key}"),
            *("--phases", "examples,coverage,fuzzing,stateful", "--checks", CHECKS),
            *("--max-examples", "5", "--seed", "20261124", "--generation-deterministic"),
            *(
                "--no-shrink",
                "--request-timeout",
                "60",
                "--exclude-operation-id-regex",
                LEFT_OUT,
                "--continue-on-failure",
                "--warnings",
                "off",
            ),
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
            cwd=tmp_path,
            env={**os.environ, "PYTHONUTF8": "1"},
        )
        told, _ = await process.communicate()
    report = told.decode()
    assert process.returncode == 0, report[-12_000:]
    for phase in ("Coverage", "Fuzzing", "Stateful"):
        assert re.search(rf"✅\s+{phase}", report), report[-2000:]
