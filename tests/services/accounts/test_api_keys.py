"""Concurrent creation of API keys."""

from __future__ import annotations

import asyncio

from tests.support.rows import add_user

from aerotask.db.engine import Database
from aerotask.domain.access import Caller, Credential
from aerotask.domain.errors import Conflict
from aerotask.domain.ids import new_id
from aerotask.services.accounts.api_keys import MAX_KEYS, ApiKeyService
from aerotask.store.accounts import api_keys


async def test_concurrent_creation_does_not_exceed_the_limit(database: Database) -> None:
    user_id = await add_user(database, "user")
    async with database.begin() as connection:
        for number in range(MAX_KEYS - 2):
            await api_keys.add(
                connection,
                key_id=new_id(),
                user_id=user_id,
                name=f"key {number}",
                digest=number.to_bytes(32, "big"),
                read_only=False,
                ttl_s=60,
            )
    caller = Caller(user_id, "user", credential=Credential.TOKEN)
    creations = [
        ApiKeyService(database).create(caller, name="k", read_only=False, ttl_days=1) for _ in range(8)
    ]
    ended = await asyncio.gather(*creations, return_exceptions=True)
    assert [type(outcome) for outcome in ended].count(Conflict) == 6
    async with database.read() as connection:
        assert len(await api_keys.list_of(connection, user_id)) == MAX_KEYS
