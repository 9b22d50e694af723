"""signed links, which open a part of a dataset without a header."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = '0014'
down_revision = '0013'
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Apply the migration."""
    op.create_table('links',
    sa.Column('id', sa.Uuid(), nullable=False),
    sa.Column('digest', sa.LargeBinary(), nullable=False),
    sa.Column('dataset_id', sa.Uuid(), nullable=False),
    sa.Column('user_id', sa.Uuid(), nullable=False),
    sa.Column('epoch', sa.Integer(), nullable=False),
    sa.Column('key_id', sa.Uuid(), nullable=True),
    sa.Column('task_id', sa.Uuid(), nullable=True),
    sa.Column('entry_id', sa.Uuid(), nullable=True),
    sa.Column('path', sa.Text(collation='C'), nullable=True),
    sa.Column('scope', sa.Text(), nullable=False),
    sa.Column('note', sa.Text(), server_default='', nullable=False),
    sa.Column(
        'created_at', postgresql.TIMESTAMP(timezone=True), server_default=sa.text('now()'), nullable=False
    ),
    sa.Column('expires_at', postgresql.TIMESTAMP(timezone=True), nullable=False),
    sa.CheckConstraint("scope IN ('view', 'download')", name=op.f('ck_links_scope')),
    sa.CheckConstraint('(task_id IS NULL) <> (path IS NULL)', name=op.f('ck_links_target')),
    sa.CheckConstraint(
        "(entry_id IS NULL) = (path IS NULL OR path = '')", name=op.f('ck_links_entry')
    ),
    sa.ForeignKeyConstraint(
        ['dataset_id'], ['datasets.id'], name=op.f('fk_links_dataset_id'), ondelete='CASCADE'
    ),
    sa.ForeignKeyConstraint(['user_id'], ['users.id'], name=op.f('fk_links_user_id'), ondelete='CASCADE'),
    sa.PrimaryKeyConstraint('id', name=op.f('pk_links')),
    sa.UniqueConstraint('digest', name=op.f('uq_links_digest'))
    )
    op.create_index(op.f('ix_links_dataset_id'), 'links', ['dataset_id', 'id'])
    op.create_index(op.f('ix_links_user_id'), 'links', ['user_id'])
    op.create_index(op.f('ix_links_expires_at'), 'links', ['expires_at'])


def downgrade() -> None:
    """Revert the migration."""
    op.drop_table('links')
