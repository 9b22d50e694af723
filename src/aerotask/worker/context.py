"""What a worker runs tasks with."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta

from aerotask.blobs.blob_store import BlobStore
from aerotask.db.engine import Database
from aerotask.registry import Registry
from aerotask.sandbox.spawner import Spawner
from aerotask.sdk import Limits
from aerotask.services.accounts.permissions import PermissionService
from aerotask.services.datasets.storage_quota import StorageQuota
from aerotask.store.queue.logs import LogLimits


@dataclass(frozen=True, slots=True)
class AttemptLimits:
    """What bounds every attempt of a worker."""

    log: LogLimits
    heartbeat_s: float
    cancel_grace_s: float
    timeout_s: float
    max_strikes: int
    artifact_ttl: timedelta
    storage: StorageQuota
    max_file_bytes: int
    threads: int
    tools: Limits
    """What tools are allowed."""


@dataclass(frozen=True, slots=True)
class WorkerContext:
    """The parts of the platform that every attempt of a worker needs."""

    worker_no: int
    db: Database
    blobs: BlobStore
    registry: Registry
    access: PermissionService
    spawner: Spawner
    limits: AttemptLimits
