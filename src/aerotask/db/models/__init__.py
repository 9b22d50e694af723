"""The tables. Classes give the queries typed columns; rows travel as plain values, never as live objects."""

from aerotask.db.models.accounts import ApiKey, AuditEvent, Member, Organization, SignInAttempts, User
from aerotask.db.models.base import Model, PathText, in_states
from aerotask.db.models.datasets import Dataset, DatasetUsage, Derivative, Entry, Upload
from aerotask.db.models.tasks import Artifact, Callback, IdempotencyKey, Task, TaskInput, TaskLogLine

__all__ = [
    "ApiKey",
    "Artifact",
    "AuditEvent",
    "Callback",
    "Dataset",
    "DatasetUsage",
    "Derivative",
    "Entry",
    "IdempotencyKey",
    "Member",
    "Model",
    "Organization",
    "PathText",
    "SignInAttempts",
    "Task",
    "TaskInput",
    "TaskLogLine",
    "Upload",
    "User",
    "in_states",
]
