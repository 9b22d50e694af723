"""accounts: API keys, external identities, login limits, the audit log."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = '0005'
down_revision = '0004'
branch_labels = None
depends_on = None


def moment(name: str, *, nullable: bool = False, now: bool = False) -> sa.Column:
    """Timestamp column."""
    default = sa.text('now()') if now else None
    return sa.Column(name, postgresql.TIMESTAMP(timezone=True), server_default=default, nullable=nullable)


def upgrade() -> None:
    """Apply the migration."""
    op.add_column('users', sa.Column('issuer', sa.Text(), nullable=True))
    op.add_column('users', sa.Column('subject', sa.Text(), nullable=True))
    op.create_unique_constraint('uq_users_issuer_subject', 'users', ['issuer', 'subject'])

    op.create_table('api_keys',
    sa.Column('id', sa.Uuid(), nullable=False),
    sa.Column('user_id', sa.Uuid(), nullable=False),
    sa.Column('name', sa.Text(), nullable=False),
    sa.Column('digest', sa.LargeBinary(), nullable=False),
    sa.Column('read_only', sa.Boolean(), nullable=False),
    moment('created_at', now=True),
    moment('expires_at'),
    moment('last_used_at', nullable=True),
    sa.ForeignKeyConstraint(['user_id'], ['users.id'], name=op.f('fk_api_keys_user_id'), ondelete='CASCADE'),
    sa.PrimaryKeyConstraint('id', name=op.f('pk_api_keys')),
    sa.UniqueConstraint('digest', name=op.f('uq_api_keys_digest'))
    )
    op.create_index('ix_api_keys_user_id', 'api_keys', ['user_id'])

    op.create_table('sign_in_attempts',
    sa.Column('bucket', sa.Text(), nullable=False),
    sa.Column('failures', sa.Integer(), nullable=False),
    moment('window_ends_at'),
    sa.PrimaryKeyConstraint('bucket', name=op.f('pk_sign_in_attempts'))
    )
    op.create_index('ix_sign_in_attempts_window_ends_at', 'sign_in_attempts', ['window_ends_at'])

    op.create_table('audit_events',
    sa.Column('id', sa.Uuid(), nullable=False),
    moment('at', now=True),
    sa.Column('actor', sa.Text(), nullable=False),
    sa.Column('actor_id', sa.Uuid(), nullable=True),
    sa.Column('address', sa.Text(), nullable=True),
    sa.Column('action', sa.Text(), nullable=False),
    sa.Column('target', sa.Text(), nullable=False),
    sa.Column('details', postgresql.JSONB(none_as_null=True), server_default=sa.text("'{}'"), nullable=False),
    sa.PrimaryKeyConstraint('id', name=op.f('pk_audit_events'))
    )
    op.create_index('ix_audit_events_at', 'audit_events', ['at'])
    op.create_index('ix_audit_events_of_action', 'audit_events', ['action', 'id'])
    op.create_index('ix_audit_events_of_actor', 'audit_events', ['actor', 'id'])
    op.create_index('ix_audit_events_of_target', 'audit_events', ['target', 'id'])


def downgrade() -> None:
    """Revert the migration."""
    op.drop_table('audit_events')
    op.drop_table('sign_in_attempts')
    op.drop_table('api_keys')
    # Users without a password can't log in after this; their rows stay.
    op.drop_constraint('uq_users_issuer_subject', 'users')
    op.drop_column('users', 'subject')
    op.drop_column('users', 'issuer')
