"""Schemathesis over the whole OpenAPI document, including the stateful phase: no 5xx, no undocumented responses."""

from __future__ import annotations

import asyncio
import os
import re
import shutil
import sys
from pathlib import Path

from tests.support.rows import add_user
from tests.support.served import Served, served

from aerotask.config import Settings
from aerotask.domain.access import Membership
from aerotask.store.datasets import orgs

CONFIG = Path(__file__).with_name("schemathesis.toml")
# The configuration refers to it relative to the working directory of schemathesis.
HOOKS = Path(__file__).with_name("schemathesis_hooks.py")
CONFORMANCE = "status_code_conformance,content_type_conformance,response_schema_conformance"
CHECKS = f"not_a_server_error,{CONFORMANCE}"


async def run_schemathesis(api: Served, folder: Path, *options: str, bearer: str | None) -> str:
    """The report of schemathesis with that token or key, asserted to contain no failure."""
    shutil.copy(HOOKS, folder)
    headers = () if bearer is None else ("--header", f"Authorization: Bearer {bearer}")
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "schemathesis.cli", "--config-file", str(CONFIG)),
        *("run", f"{api.client.base_url}/openapi.json", *headers, *options),
        *("--seed", "20261124", "--generation-deterministic", "--no-shrink"),
        *("--request-timeout", "60", "--continue-on-failure", "--warnings", "off"),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
        cwd=folder,
        env={**os.environ, "PYTHONUTF8": "1"},
    )
    output, _ = await process.communicate()
    report = output.decode()
    assert process.returncode == 0, report[-12_000:]
    assert re.search(r"✅\s+Fuzzing", report), report[-2000:]
    return report


def without(*operations: str) -> tuple[str, str]:
    return "--exclude-operation-id-regex", f"^({'|'.join(operations)})$"


def fuzzed(examples: int) -> tuple[str, ...]:
    return "--phases", "fuzzing", "--max-examples", str(examples), "--checks", CHECKS


def generous(settings: Settings) -> Settings:
    return Settings.model_validate({**settings.model_dump(), "max_failed_sign_ins_per_address": 10**6})


async def test_all_responses_are_documented_and_none_is_5xx(settings: Settings, tmp_path: Path) -> None:
    async with served(generous(settings)) as api:
        # An API key, since the first sign-out revokes tokens.
        made = await api.client.post("/users/me/keys", json={"name": "schemathesis"})
        key = made.raise_for_status().json()["key"]
        (await api.client.put("/orgs/acme/ds/acme/obj/a.txt", content=b"x")).raise_for_status()
        report = await run_schemathesis(
            api,
            tmp_path,
            *("--phases", "examples,coverage,fuzzing,stateful", "--checks", CHECKS, "--max-examples", "5"),
            # The stream of an active task is endless, and readiness needs a worker.
            *without("events", "readyz"),
            bearer=key,
        )
    for phase in ("Coverage", "Stateful"):
        assert re.search(rf"✅\s+{phase}", report), report[-2000:]


async def test_all_responses_to_a_member_with_a_session_are_documented(
    settings: Settings, tmp_path: Path
) -> None:
    async with served(generous(settings)) as api:
        user_id = await add_user(api.platform.db, "member")
        async with api.platform.db.begin() as connection:
            await orgs.set_member(connection, api.rows.org_id, user_id, Membership.READ_WRITE_DELETE)
        token = api.platform.login.tokens.issue(user_id, "member", epoch=0).token
        # Invented tasks have no streams, so streams are included; a sign-out would revoke the token.
        every = without("readyz", "sign_out_everywhere")
        await run_schemathesis(api, tmp_path, *fuzzed(2), *every, bearer=token)
        signing_out = ("--include-operation-id", "sign_out_everywhere")
        await run_schemathesis(api, tmp_path, *fuzzed(2), *signing_out, bearer=token)
        me = await api.client.get("/users/me", headers={"Authorization": f"Bearer {token}"})
        assert me.status_code == 401


async def test_all_responses_to_anonymous_callers_are_documented(settings: Settings, tmp_path: Path) -> None:
    async with served(generous(settings)) as api:
        public = {"name": "acme", "visibility": "public"}
        (await api.client.put("/orgs/acme/ds/acme", json=public)).raise_for_status()
        await run_schemathesis(api, tmp_path, *fuzzed(2), *without("readyz"), bearer=None)
        # 503 without a worker, as documented.
        readyz = ("--include-operation-id", "readyz", "--checks", CONFORMANCE)
        options = ("--phases", "fuzzing", "--max-examples", "1", *readyz)
        await run_schemathesis(api, tmp_path, *options, bearer=None)
