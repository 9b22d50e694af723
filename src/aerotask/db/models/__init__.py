"""Tables of the database. The classes give queries typed columns; rows are read as plain values, not as objects."""

from aerotask.db.models.accounts import ApiKey, AuditEvent, LoginAttempts, Member, Organization, User
from aerotask.db.models.base import Model, PathText, in_states
from aerotask.db.models.datasets import (
    Dataset,
    DatasetUsage,
    Derivative,
    Entry,
    Link,
    Upload,
)
from aerotask.db.models.storage import DamagedBlob, Installation, ReleasedBlob, StorageCheck, UnnamedBlob
from aerotask.db.models.tasks import (
    ADMITTED,
    ANYBODY,
    UNADMITTED,
    Artifact,
    IdempotencyKey,
    Task,
    TaskInput,
    TaskLogLine,
    Webhook,
)

__all__ = [
    "ADMITTED",
    "ANYBODY",
    "UNADMITTED",
    "ApiKey",
    "Artifact",
    "AuditEvent",
    "DamagedBlob",
    "Dataset",
    "DatasetUsage",
    "Derivative",
    "Entry",
    "IdempotencyKey",
    "Installation",
    "Link",
    "LoginAttempts",
    "Member",
    "Model",
    "Organization",
    "PathText",
    "ReleasedBlob",
    "StorageCheck",
    "Task",
    "TaskInput",
    "TaskLogLine",
    "UnnamedBlob",
    "Upload",
    "User",
    "Webhook",
    "in_states",
]
