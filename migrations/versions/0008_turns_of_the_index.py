"""lanes and turns of the indexer's queue."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = '0008'
down_revision = '0007'
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Apply the migration."""
    op.add_column('entries', sa.Column('index_lane', sa.SmallInteger(), server_default=sa.text('0'), nullable=False))
    op.add_column('entries', sa.Column('index_org_id', sa.Uuid(), nullable=True))
    op.execute(
        'UPDATE entries SET index_org_id = datasets.org_id FROM datasets '
        'WHERE datasets.id = entries.dataset_id AND NOT entries.indexed'
    )
    op.create_index(
        'ix_entries_index_queue',
        'entries',
        [
            'index_lane',
            sa.text("coalesce(index_org_id, 'ffffffff-ffff-ffff-ffff-ffffffffffff'::uuid)"),
            'index_due_at',
            'id',
        ],
        postgresql_where=sa.text('NOT indexed OR index_lane = 3'),
    )
    op.drop_index('ix_entries_unindexed', table_name='entries')


def downgrade() -> None:
    """Revert the migration."""
    op.create_index(
        'ix_entries_unindexed', 'entries', ['index_due_at'], postgresql_where=sa.text('NOT indexed')
    )
    op.drop_index('ix_entries_index_queue', table_name='entries')
    op.drop_column('entries', 'index_org_id')
    op.drop_column('entries', 'index_lane')
