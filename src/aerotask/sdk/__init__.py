"""SDK for tool authors: the tool interface, its run context, its errors, and a test harness in `testing`."""

from aerotask.domain.access import Access
from aerotask.domain.errors import FieldError, InvalidInput, TaskFailed
from aerotask.sdk.changes import DescribeEntry, Existing
from aerotask.sdk.context import Cancelled, RunContext
from aerotask.sdk.dataset import DatasetView, EntryView
from aerotask.sdk.dry_run import DryRun
from aerotask.sdk.limits import Limits
from aerotask.sdk.params import EntryPath, FileName, NewEntryPath, ToolParams
from aerotask.sdk.plan import Plan
from aerotask.sdk.quota_class import QuotaClass
from aerotask.sdk.snapshot import Snapshot
from aerotask.sdk.tool import Tool

Review = DryRun
"""The name of `DryRun` before 0.2; to be removed in the release after it."""

__all__ = [
    "Access",
    "Cancelled",
    "DatasetView",
    "DescribeEntry",
    "DryRun",
    "EntryPath",
    "EntryView",
    "Existing",
    "FieldError",
    "FileName",
    "InvalidInput",
    "Limits",
    "NewEntryPath",
    "Plan",
    "QuotaClass",
    "Review",
    "RunContext",
    "Snapshot",
    "TaskFailed",
    "Tool",
    "ToolParams",
]
