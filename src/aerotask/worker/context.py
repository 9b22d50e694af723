"""Worker context: the dependencies and limits of a worker's attempts."""

from __future__ import annotations

from dataclasses import dataclass

from aerotask.blobs.blob_store import BlobStore
from aerotask.db.engine import Database
from aerotask.registry import Registry
from aerotask.sandbox.spawner import Spawner
from aerotask.sdk import Limits
from aerotask.services.accounts.permissions import PermissionService
from aerotask.services.datasets.storage_quota import StorageQuota
from aerotask.services.tasks.commit import CommitService
from aerotask.store.queue.logs import LogLimits


@dataclass(frozen=True, slots=True)
class AttemptLimits:
    """Limits of every attempt of a worker."""

    log: LogLimits
    heartbeat_s: float
    cancel_grace_s: float
    timeout_s: float
    max_attempts: int
    storage: StorageQuota
    max_file_bytes: int
    threads: int
    tools: Limits
    """Limits that the tools themselves see."""


@dataclass(frozen=True, slots=True)
class WorkerContext:
    """Services and limits that every attempt of a worker needs."""

    worker_no: int
    db: Database
    blobs: BlobStore
    registry: Registry
    access: PermissionService
    commits: CommitService
    spawner: Spawner
    limits: AttemptLimits
