"""The audit log: access, filters, retention."""

from __future__ import annotations

import pytest
from sqlalchemy import select, text, update
from tests.support.rows import add_user

from aerotask.db.engine import Database
from aerotask.db.models import AuditEvent, LoginAttempts
from aerotask.domain.access import ANONYMOUS, Caller
from aerotask.domain.audit import AuditAction
from aerotask.domain.errors import Forbidden, Unauthenticated
from aerotask.services.accounts.audit import AuditService
from aerotask.store.accounts import audit
from aerotask.store.accounts.audit import AuditFilter
from aerotask.store.accounts.login_attempts import increment
from aerotask.wiring import Platform

ALICE = Caller(None, "alice", address="192.0.2.1")


async def admin(database: Database) -> Caller:
    return Caller(await add_user(database, "root"), "root", is_admin=True)


async def add_events(database: Database, *actions: AuditAction, target: str = "thing") -> None:
    async with database.begin() as connection:
        for action in actions:
            await audit.record(connection, ALICE, action, target, why="because")


async def test_only_administrators_read_the_audit_log(database: Database) -> None:
    service = AuditService(database)
    user = Caller(await add_user(database, "user"), "user")
    for caller, refusal in ((ANONYMOUS, Unauthenticated), (user, Forbidden)):
        with pytest.raises(refusal):
            await service.page(caller, AuditFilter(), skip=0, take=1)


async def test_events_are_read_newest_first_in_pages(database: Database) -> None:
    await add_events(database, AuditAction.SIGNED_IN, AuditAction.KEY_CREATED, AuditAction.KEY_REVOKED)
    service, caller = AuditService(database), await admin(database)
    page = await service.page(caller, AuditFilter(), skip=1, take=1)
    assert ([row.action for row in page.items], page.total) == ([AuditAction.KEY_CREATED], 3)
    (row,) = page.items
    assert (row.actor, row.address, row.target, row.details) == (
        "alice",
        "192.0.2.1",
        "thing",
        {"why": "because"},
    )
    event_filter = AuditFilter(action=AuditAction.SIGNED_IN, actor="alice", target="thing")
    assert (await service.page(caller, event_filter, skip=0, take=50)).total == 1
    assert (await service.page(caller, AuditFilter(actor="bob"), skip=0, take=50)).total == 0


async def test_targets_are_cleaned_and_cut(database: Database) -> None:
    await add_events(database, AuditAction.ENTRY_DELETED, target="a\x1b[2J\0b\nc" + "x" * 2000)
    async with database.read() as connection:
        target = (await connection.execute(select(AuditEvent.target))).scalar_one()
    assert target.startswith("a [2J b cx")
    assert len(target) == 512


async def test_an_action_that_is_rolled_back_is_not_recorded(database: Database) -> None:
    async with database.engine.connect() as connection:
        await audit.record(connection, ALICE, AuditAction.ORG_DELETED, "acme")
        await connection.rollback()
    async with database.read() as connection:
        assert (await connection.execute(select(AuditEvent.id))).all() == []


async def test_events_are_removed_after_the_retention_time(platform: Platform) -> None:
    await add_events(platform.db, AuditAction.SIGNED_IN, AuditAction.SIGNED_IN)
    assert await platform.maintenance.remove_old_audit_events() == 0
    async with platform.db.begin() as connection:
        aged = update(AuditEvent).values(at=text("now() - interval '366 days'"))
        await connection.execute(aged)
    await add_events(platform.db, AuditAction.KEY_CREATED)
    assert await platform.maintenance.remove_old_audit_events() == 2
    async with platform.db.read() as connection:
        kept = (await connection.execute(select(AuditEvent.action))).scalars().all()
    assert kept == [AuditAction.KEY_CREATED]


async def test_failed_sign_ins_are_removed_after_their_window(platform: Platform) -> None:
    async with platform.db.begin() as connection:
        await increment(connection, "account:x", window_s=300)
        await increment(connection, "account:y", window_s=300)
        ended = update(LoginAttempts).where(LoginAttempts.bucket == "account:x")
        await connection.execute(ended.values(window_ends_at=text("now() - interval '1 s'")))
    assert await platform.maintenance.remove_old_login_attempts() == 1
    assert await platform.maintenance.remove_old_login_attempts() == 0
