"""leaner indexes: tags only of tagged tasks, an index-only scan for artifact sizes; quota counts under a lock."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = '0006'
down_revision = '0005'
branch_labels = None
depends_on = None


# Same counts as in `store/tasks/submit.py`, but taking the lock first, without a round trip in between. Each statement
# of a volatile function has its own snapshot, so that of the count is newer than the lock.
LOAD_UNDER_LOCK = """
    CREATE FUNCTION load_under_lock(
        space integer, wanted_org uuid, wanted_user uuid, period interval, besides uuid,
        OUT active bigint, OUT active_in_org bigint, OUT active_of_user bigint,
        OUT bulk_downloads_of_user bigint, OUT artifact_bytes_in_org bigint
    ) LANGUAGE plpgsql VOLATILE AS $$
    BEGIN
        PERFORM pg_advisory_xact_lock(space, 0);
        SELECT count(*),
               count(*) FILTER (WHERE t.org_id = wanted_org),
               count(*) FILTER (WHERE t.user_id IS NOT DISTINCT FROM wanted_user),
               count(*) FILTER (WHERE t.user_id IS NOT DISTINCT FROM wanted_user
                                      AND t.tool_id = 'bulk-download'),
               coalesce(sum(t.estimated_output_bytes) FILTER (WHERE t.org_id = wanted_org), 0) + (
                   SELECT coalesce(sum(made.artifact_bytes), 0) FROM tasks made
                   WHERE made.org_id = wanted_org AND made.artifact_bytes > 0
                         AND made.finished_at > now() - period)
        INTO active, active_in_org, active_of_user, bulk_downloads_of_user, artifact_bytes_in_org
        FROM tasks t
        WHERE t.state IN ('Created', 'Enqueued', 'Processing', 'Scheduled')
              AND t.id IS DISTINCT FROM besides;
    END $$
"""


def upgrade() -> None:
    """Apply the migration."""
    op.execute(LOAD_UNDER_LOCK)
    op.drop_index('ix_tasks_tags', table_name='tasks')
    op.create_index(
        'ix_tasks_tags', 'tasks', ['tags'], postgresql_using='gin', postgresql_where=sa.text("tags <> '{}'")
    )
    op.drop_index('ix_tasks_made', table_name='tasks')
    op.create_index(
        'ix_tasks_made',
        'tasks',
        ['org_id', 'finished_at'],
        postgresql_where=sa.text('artifact_bytes > 0'),
        postgresql_include=['artifact_bytes'],
    )


def downgrade() -> None:
    """Revert the migration."""
    op.execute('DROP FUNCTION load_under_lock')
    op.drop_index('ix_tasks_made', table_name='tasks')
    op.create_index(
        'ix_tasks_made', 'tasks', ['org_id', 'finished_at'], postgresql_where=sa.text('artifact_bytes > 0')
    )
    op.drop_index('ix_tasks_tags', table_name='tasks')
    op.create_index('ix_tasks_tags', 'tasks', ['tags'], postgresql_using='gin')
