"""rasters that wait for their overviews, in the indexer's queue."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = '0013'
down_revision = '0012'
branch_labels = None
depends_on = None

COLUMNS = [
    'index_lane',
    sa.text("coalesce(index_org_id, 'ffffffff-ffff-ffff-ffff-ffffffffffff'::uuid)"),
    'index_due_at',
    'id',
]


def upgrade() -> None:
    """Apply the migration."""
    op.drop_index('ix_entries_index_queue', table_name='entries')
    op.create_index(
        'ix_entries_index_queue',
        'entries',
        COLUMNS,
        postgresql_where=sa.text('NOT indexed OR index_lane >= 3'),
    )


def downgrade() -> None:
    """Revert the migration."""
    op.execute("UPDATE entries SET index_lane = 0, index_token = NULL WHERE index_lane > 3")
    op.drop_index('ix_entries_index_queue', table_name='entries')
    op.create_index(
        'ix_entries_index_queue',
        'entries',
        COLUMNS,
        postgresql_where=sa.text('NOT indexed OR index_lane = 3'),
    )
