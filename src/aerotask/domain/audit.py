"""Actions that the audit log records."""

from __future__ import annotations

from enum import StrEnum


class AuditAction(StrEnum):
    """A recorded action."""

    SIGNED_IN = "signed-in"
    SIGN_IN_FAILED = "sign-in-failed"
    SIGN_INS_LIMITED = "sign-ins-limited"
    SIGNED_OUT = "signed-out-everywhere"
    PASSWORD_CHANGED = "password-changed"  # noqa: S105  no password
    KEY_CREATED = "key-created"
    KEY_REVOKED = "key-revoked"
    LINK_CREATED = "link-created"
    LINK_REVOKED = "link-revoked"
    USER_CREATED = "user-created"
    USER_PROVISIONED = "user-provisioned"
    USER_CHANGED = "user-changed"
    USER_DELETED = "user-deleted"
    MEMBER_SET = "member-set"
    MEMBER_REMOVED = "member-removed"
    OWNER_CHANGED = "owner-changed"
    VISIBILITY_CHANGED = "visibility-changed"
    ORG_DELETED = "org-deleted"
    DATASET_DELETED = "dataset-deleted"
    ENTRY_DELETED = "entry-deleted"
    TASKS_CLEARED = "tasks-cleared"
    TASK_CANCELLED = "task-cancelled-by-other"
