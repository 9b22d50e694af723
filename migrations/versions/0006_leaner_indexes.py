"""leaner indexes: tags only of tasks that have some, and what tasks have made without a look at their rows."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = '0006'
down_revision = '0005'
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Make the change."""
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
    """Undo the change."""
    op.drop_index('ix_tasks_made', table_name='tasks')
    op.create_index(
        'ix_tasks_made', 'tasks', ['org_id', 'finished_at'], postgresql_where=sa.text('artifact_bytes > 0')
    )
    op.drop_index('ix_tasks_tags', table_name='tasks')
    op.create_index('ix_tasks_tags', 'tasks', ['tags'], postgresql_using='gin')
