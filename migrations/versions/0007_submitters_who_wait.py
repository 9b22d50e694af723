"""submitters who wait: an index for the claim."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = '0007'
down_revision = '0006'
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Make the change."""
    op.create_index(
        'ix_tasks_submitters',
        'tasks',
        ['org_id', sa.text("coalesce(user_id, '00000000-0000-0000-0000-000000000000'::uuid)"), 'due_at', 'id'],
        postgresql_where=sa.text("state IN ('Created', 'Enqueued', 'Scheduled')"),
    )


def downgrade() -> None:
    """Undo it."""
    op.drop_index('ix_tasks_submitters', 'tasks')
