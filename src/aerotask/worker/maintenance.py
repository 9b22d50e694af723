"""When a worker sweeps: several rounds side by side, in each of which one sweep follows the other.

A sweep that runs holds two connections, and few may be taken from those who keep leases alive. What may have
much to do has a round of its own, so that artifacts expire on time meanwhile.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import TypeAlias

import structlog

from aerotask.db.outages import is_outage
from aerotask.dispatch.dispatcher import QueueAway
from aerotask.services.tasks.maintenance import MaintenanceService

Run: TypeAlias = Callable[[], Awaitable[int]]

ROUNDS = 3
CONNECTIONS = 2 * ROUNDS
"""How many all of them may need at once."""

_log = structlog.get_logger(__name__)


def rounds(sweep: MaintenanceService, *, period_s: float, blob_grace_s: float) -> list[Awaitable[None]]:
    """All sweeps, to be run beside each other until cancelled."""
    quick = (
        sweep.expired_artifacts,
        sweep.unsent_hints,
        sweep.old_idempotency_keys,
        sweep.old_audit_events,
        sweep.old_sign_in_attempts,
        sweep.expired_uploads,
        sweep.unused_derivatives,
    )
    return [
        again_and_again(quick, period_s=period_s),
        again_and_again((sweep.old_tasks, sweep.deleted), period_s=period_s),
        again_and_again((sweep.orphans,), period_s=max(period_s, blob_grace_s / 4)),
    ]


async def again_and_again(sweeps: Sequence[Run], *, period_s: float) -> None:
    """Run the sweeps one after the other, then rest, until cancelled; one that fails holds no other up."""
    while True:
        for sweep in sweeps:
            await _tried(sweep)
        await asyncio.sleep(period_s)


async def _tried(sweep: Run) -> None:
    try:
        await sweep()
    except Exception as error:  # noqa: BLE001  the worker's tasks can't help it, and go on
        if isinstance(error, QueueAway) or is_outage(error):
            _log.warning("sweep.delayed", error=str(error))
        else:
            _log.error("sweep.failed", exc_info=error)
