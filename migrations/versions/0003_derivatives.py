"""derivatives of entries, keyed by content."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = '0003'
down_revision = '0002'
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Apply the migration."""
    op.create_table('derivatives',
    sa.Column('dataset_id', sa.Uuid(), nullable=False),
    sa.Column('source_key', sa.Text(), nullable=False),
    sa.Column('kind', sa.Text(), nullable=False),
    sa.Column('content_sha256', sa.Text(), nullable=False),
    sa.Column('builder', sa.Text(), nullable=False),
    sa.Column('blob_key', sa.Text(), nullable=False),
    sa.Column('size_bytes', sa.BigInteger(), nullable=False),
    sa.Column('sha256', sa.Text(), nullable=False),
    sa.Column('properties', postgresql.JSONB(none_as_null=True), server_default=sa.text("'{}'"), nullable=False),
    sa.Column('created_at', postgresql.TIMESTAMP(timezone=True), server_default=sa.text('now()'), nullable=False),
    sa.ForeignKeyConstraint(['dataset_id'], ['datasets.id'], name=op.f('fk_derivatives_dataset_id'), ondelete='CASCADE'),
    sa.PrimaryKeyConstraint('dataset_id', 'source_key', 'kind', name=op.f('pk_derivatives'))
    )
    op.create_index('ix_derivatives_content', 'derivatives', ['dataset_id', 'content_sha256'])
    op.create_index('ix_derivatives_blob_key', 'derivatives', ['blob_key'])
    op.create_index(
        'ix_entries_content', 'entries', ['dataset_id', 'sha256'], postgresql_where=sa.text('blob_key IS NOT NULL')
    )


def downgrade() -> None:
    """Revert the migration."""
    op.drop_index('ix_entries_content', table_name='entries')
    op.drop_table('derivatives')
