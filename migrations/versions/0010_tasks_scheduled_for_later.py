"""quotas without the tasks that are scheduled for later: indexes, and the count under a lock."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = '0010'
down_revision = '0009'
branch_labels = None
depends_on = None

ACTIVE = "state IN ('Created', 'Enqueued', 'Processing', 'Scheduled')"
UNADMITTED = "waits_for = 'scheduled-time'"
ADMITTED = f"{ACTIVE} AND waits_for IS DISTINCT FROM 'scheduled-time'"
USER = "coalesce(user_id, '00000000-0000-0000-0000-000000000000'::uuid)"

# Same counts as in `store/tasks/quota.py`, but taking the lock first, without a round trip in between. Each statement
# of a volatile function has its own snapshot, so that of the count is newer than the lock. Processes of the former
# version still call `load_under_lock` of migration 0006, which counts scheduled tasks as active.
USAGE_UNDER_LOCK = f"""
    CREATE FUNCTION quota_usage_under_lock(
        space integer, wanted_org uuid, wanted_user uuid, period interval, class_tools text[], besides uuid,
        OUT active bigint, OUT active_in_org bigint, OUT active_of_user bigint,
        OUT active_in_class_of_user bigint, OUT artifact_bytes_in_org bigint, OUT scheduled_of_user bigint
    ) LANGUAGE plpgsql VOLATILE AS $$
    BEGIN
        PERFORM pg_advisory_xact_lock(space, 0);
        SELECT count(*) FILTER (WHERE t.admitted),
               count(*) FILTER (WHERE t.org_id = wanted_org),
               count(*) FILTER (WHERE t.user_id IS NOT DISTINCT FROM wanted_user),
               count(*) FILTER (WHERE t.user_id IS NOT DISTINCT FROM wanted_user
                                      AND t.tool_id = ANY (class_tools)),
               coalesce(sum(t.estimated_output_bytes) FILTER (WHERE t.org_id = wanted_org), 0) + (
                   SELECT coalesce(sum(made.artifact_bytes), 0) FROM tasks made
                   WHERE made.org_id = wanted_org AND made.artifact_bytes > 0
                         AND made.finished_at > now() - period),
               (SELECT count(*) FROM tasks
                WHERE {UNADMITTED} AND due_at > statement_timestamp() AND id IS DISTINCT FROM besides
                      AND {USER} = coalesce(wanted_user, '00000000-0000-0000-0000-000000000000'::uuid))
        INTO active, active_in_org, active_of_user, active_in_class_of_user, artifact_bytes_in_org,
             scheduled_of_user
        FROM (SELECT id, org_id, user_id, tool_id, estimated_output_bytes, true AS admitted
              FROM tasks WHERE {ADMITTED}
              UNION ALL
              SELECT id, org_id, user_id, tool_id, estimated_output_bytes, false
              FROM tasks WHERE {UNADMITTED} AND due_at <= statement_timestamp()) t
        WHERE t.id IS DISTINCT FROM besides;
    END $$
"""  # noqa: S608  our own constants


def upgrade() -> None:
    """Apply the migration."""
    op.create_index('ix_tasks_admitted', 'tasks', ['org_id', 'user_id'], postgresql_where=sa.text(ADMITTED))
    op.create_index('ix_tasks_due', 'tasks', ['due_at'], postgresql_where=sa.text(UNADMITTED))
    op.create_index(
        'ix_tasks_scheduled', 'tasks', [sa.text(USER), 'due_at'], postgresql_where=sa.text(UNADMITTED)
    )
    op.execute(USAGE_UNDER_LOCK)


def downgrade() -> None:
    """Revert the migration."""
    op.execute('DROP FUNCTION quota_usage_under_lock')
    op.drop_index('ix_tasks_scheduled', 'tasks')
    op.drop_index('ix_tasks_due', 'tasks')
    op.drop_index('ix_tasks_admitted', 'tasks')
