"""the installation that database and storage belong to, and the blobs that no row names."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = '0011'
down_revision = '0010'
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Apply the migration."""
    op.create_table('installation',
    sa.Column('singleton', sa.Boolean(), server_default=sa.text('true'), nullable=False),
    sa.Column('id', sa.Uuid(), nullable=False),
    sa.Column('held_blobs', sa.Integer(), server_default=sa.text('0'), nullable=False),
    sa.CheckConstraint('singleton', name=op.f('ck_installation_one_row')),
    sa.PrimaryKeyConstraint('singleton', name=op.f('pk_installation'))
    )
    op.create_table('unnamed_blobs',
    sa.Column('blob_key', sa.Text(), nullable=False),
    sa.Column(
        'seen_at', postgresql.TIMESTAMP(timezone=True), server_default=sa.text('now()'), nullable=False
    ),
    sa.PrimaryKeyConstraint('blob_key', name=op.f('pk_unnamed_blobs'))
    )
    op.create_index('ix_unnamed_blobs_seen_at', 'unnamed_blobs', ['seen_at'])


def downgrade() -> None:
    """Revert the migration."""
    op.drop_table('unnamed_blobs')
    op.drop_table('installation')
