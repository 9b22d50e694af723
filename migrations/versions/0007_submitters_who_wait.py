"""index of waiting submitters for the claim query."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = '0007'
down_revision = '0006'
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Apply the migration."""
    op.create_index(
        'ix_tasks_submitters',
        'tasks',
        ['org_id', sa.text("coalesce(user_id, '00000000-0000-0000-0000-000000000000'::uuid)"), 'due_at', 'id'],
        postgresql_where=sa.text("state IN ('Created', 'Enqueued', 'Scheduled')"),
    )


def downgrade() -> None:
    """Revert the migration."""
    op.drop_index('ix_tasks_submitters', 'tasks')
