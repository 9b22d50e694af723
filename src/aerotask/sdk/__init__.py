"""What the author of a tool imports: the tool's shape, its context, its errors and a kit to test it with."""

from aerotask.domain.access import Access
from aerotask.domain.errors import FieldError, InvalidInput, TaskFailed
from aerotask.sdk.changes import DescribeEntry, Existing
from aerotask.sdk.context import Cancelled, RunContext
from aerotask.sdk.dataset import DatasetView, EntryView
from aerotask.sdk.dry_run import Review
from aerotask.sdk.limits import Limits
from aerotask.sdk.params import EntryPath, FileName, NewEntryPath, ToolParams
from aerotask.sdk.plan import Plan
from aerotask.sdk.snapshot import Snapshot
from aerotask.sdk.tool import Tool

__all__ = [
    "Access",
    "Cancelled",
    "DatasetView",
    "DescribeEntry",
    "EntryPath",
    "EntryView",
    "Existing",
    "FieldError",
    "FileName",
    "InvalidInput",
    "Limits",
    "NewEntryPath",
    "Plan",
    "Review",
    "RunContext",
    "Snapshot",
    "TaskFailed",
    "Tool",
    "ToolParams",
]
