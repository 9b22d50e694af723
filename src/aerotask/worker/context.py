"""Worker context: the dependencies and limits of a worker's attempts."""

from __future__ import annotations

from dataclasses import dataclass

from aerotask.blobs.blob_store import BlobStore
from aerotask.config import Settings
from aerotask.db.engine import Database
from aerotask.registry import Registry
from aerotask.sandbox.spawner import Spawner
from aerotask.sdk import Limits
from aerotask.services.accounts.permissions import PermissionService
from aerotask.services.storage.damage import DamageService
from aerotask.services.tasks.outcome.commit import CommitService
from aerotask.worker.folder_removal import FolderRemoval


@dataclass(frozen=True, slots=True)
class WorkerContext:
    """Services and limits that every attempt of a worker needs."""

    worker_no: int
    db: Database
    blobs: BlobStore
    registry: Registry
    access: PermissionService
    commits: CommitService
    damage: DamageService
    spawner: Spawner
    folder_removal: FolderRemoval
    settings: Settings
    tool_limits: Limits
    threads: int
    """Threads that a tool may use."""
