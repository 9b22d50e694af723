"""Schemathesis over the whole OpenAPI document, stateful phase included: no 5xx, nothing undocumented."""

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
# The configuration names it by a path from where schemathesis runs.
HOOKS = Path(__file__).with_name("schemathesis_hooks.py")
CONFORMANCE = "status_code_conformance,content_type_conformance,response_schema_conformance"
CHECKS = f"not_a_server_error,{CONFORMANCE}"


async def told_by_schemathesis(api: Served, folder: Path, *options: str, bearer: str | None) -> str:
    """What schemathesis says of the API to a caller with that token or key, having found no fault."""
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
    told, _ = await process.communicate()
    report = told.decode()
    assert process.returncode == 0, report[-12_000:]
    assert re.search(r"✅\s+Fuzzing", report), report[-2000:]
    return report


def without(*operations: str) -> tuple[str, str]:
    return "--exclude-operation-id-regex", f"^({'|'.join(operations)})$"


def fuzzed(examples: int) -> tuple[str, ...]:
    return "--phases", "fuzzing", "--max-examples", str(examples), "--checks", CHECKS


def generous(settings: Settings) -> Settings:
    return Settings.model_validate({**settings.model_dump(), "max_failed_sign_ins_per_address": 10**6})


async def test_no_answer_is_undocumented_or_a_fault_of_ours(settings: Settings, tmp_path: Path) -> None:
    async with served(generous(settings)) as api:
        # A key, since tokens end with the first sign-out.
        made = await api.client.post("/users/me/keys", json={"name": "schemathesis"})
        key = made.raise_for_status().json()["key"]
        (await api.client.put("/orgs/acme/ds/acme/obj/a.txt", content=b"x")).raise_for_status()
        report = await told_by_schemathesis(
            api,
            tmp_path,
            *("--phases", "examples,coverage,fuzzing,stateful", "--checks", CHECKS, "--max-examples", "5"),
            # The stream of a task that goes on has no end, and there is no worker here to be ready.
            *without("events", "readyz"),
            bearer=key,
        )
    for phase in ("Coverage", "Stateful"):
        assert re.search(rf"✅\s+{phase}", report), report[-2000:]


async def test_nor_is_any_to_a_member_with_a_session(settings: Settings, tmp_path: Path) -> None:
    async with served(generous(settings)) as api:
        user_id = await add_user(api.platform.db, "member")
        async with api.platform.db.begin() as connection:
            await orgs.set_member(connection, api.rows.org_id, user_id, Membership.READ_WRITE_DELETE)
        token = api.platform.login.tokens.issue(user_id, "member", epoch=0).token
        # Tasks that are made up have no streams, so these are asked too; a sign-out would be the end of the token.
        every = without("readyz", "sign_out_everywhere")
        await told_by_schemathesis(api, tmp_path, *fuzzed(2), *every, bearer=token)
        signing_out = ("--include-operation-id", "sign_out_everywhere")
        await told_by_schemathesis(api, tmp_path, *fuzzed(2), *signing_out, bearer=token)
        me = await api.client.get("/users/me", headers={"Authorization": f"Bearer {token}"})
        assert me.status_code == 401


async def test_nor_is_any_to_somebody_unknown(settings: Settings, tmp_path: Path) -> None:
    async with served(generous(settings)) as api:
        public = {"name": "acme", "visibility": "public"}
        (await api.client.put("/orgs/acme/ds/acme", json=public)).raise_for_status()
        await told_by_schemathesis(api, tmp_path, *fuzzed(2), *without("readyz"), bearer=None)
        # Without a worker it is 503, as the document says.
        readyz = ("--include-operation-id", "readyz", "--checks", CONFORMANCE)
        options = ("--phases", "fuzzing", "--max-examples", "1", *readyz)
        await told_by_schemathesis(api, tmp_path, *options, bearer=None)
