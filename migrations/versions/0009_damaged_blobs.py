"""blobs found damaged, and checks of the storage that can be resumed."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = '0009'
down_revision = '0008'
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Apply the migration."""
    op.create_table(
        'damaged_blobs',
        sa.Column('blob_key', sa.Text(), nullable=False),
        sa.Column('reason', sa.Text(), nullable=False),
        sa.Column('found_at', sa.DateTime(timezone=True), server_default=sa.text('now()'), nullable=False),
        sa.PrimaryKeyConstraint('blob_key', name=op.f('pk_damaged_blobs')),
    )
    op.create_table(
        'storage_checks',
        sa.Column('depth', sa.Text(), nullable=False),
        sa.Column('after_key', sa.Text(), nullable=False),
        sa.Column('blobs', sa.BigInteger(), nullable=False),
        sa.Column('size_bytes', sa.BigInteger(), nullable=False),
        sa.Column('started_at', sa.DateTime(timezone=True), server_default=sa.text('now()'), nullable=False),
        sa.PrimaryKeyConstraint('depth', name=op.f('pk_storage_checks')),
    )


def downgrade() -> None:
    """Revert the migration."""
    op.drop_table('storage_checks')
    op.drop_table('damaged_blobs')
