"""resumable uploads, storage usage of datasets, and deferred removal of datasets and organizations."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = '0004'
down_revision = '0003'
branch_labels = None
depends_on = None

# Statement-level triggers update the sums in the transaction that changes entries, by whichever statement. After a
# cascade from a deleted dataset there is no row left to update, which is intended.
ADDED = """
    CREATE FUNCTION aerotask_entries_added() RETURNS trigger LANGUAGE plpgsql AS $$
    BEGIN
        INSERT INTO dataset_usage AS u (dataset_id, entries, size_bytes)
            SELECT dataset_id, count(*), coalesce(sum(size_bytes), 0) FROM added GROUP BY dataset_id
            ON CONFLICT (dataset_id) DO UPDATE
                SET entries = u.entries + excluded.entries, size_bytes = u.size_bytes + excluded.size_bytes;
        RETURN NULL;
    END
    $$
"""
GONE = """
    CREATE FUNCTION aerotask_entries_gone() RETURNS trigger LANGUAGE plpgsql AS $$
    BEGIN
        UPDATE dataset_usage AS u SET entries = u.entries - g.entries, size_bytes = u.size_bytes - g.size_bytes
            FROM (SELECT dataset_id, count(*) AS entries, coalesce(sum(size_bytes), 0) AS size_bytes
                  FROM gone GROUP BY dataset_id) AS g
            WHERE u.dataset_id = g.dataset_id;
        RETURN NULL;
    END
    $$
"""
CHANGED = """
    CREATE FUNCTION aerotask_entries_changed() RETURNS trigger LANGUAGE plpgsql AS $$
    BEGIN
        UPDATE dataset_usage AS u SET size_bytes = u.size_bytes + c.grown
            FROM (SELECT n.dataset_id, sum(n.size_bytes - o.size_bytes) AS grown
                  FROM added AS n JOIN gone AS o USING (id) WHERE n.size_bytes <> o.size_bytes
                  GROUP BY n.dataset_id) AS c
            WHERE u.dataset_id = c.dataset_id;
        RETURN NULL;
    END
    $$
"""
TRIGGERS = (
    "CREATE TRIGGER entries_added AFTER INSERT ON entries REFERENCING NEW TABLE AS added"
    " FOR EACH STATEMENT EXECUTE FUNCTION aerotask_entries_added()",
    "CREATE TRIGGER entries_gone AFTER DELETE ON entries REFERENCING OLD TABLE AS gone"
    " FOR EACH STATEMENT EXECUTE FUNCTION aerotask_entries_gone()",
    "CREATE TRIGGER entries_changed AFTER UPDATE ON entries REFERENCING OLD TABLE AS gone NEW TABLE AS added"
    " FOR EACH STATEMENT EXECUTE FUNCTION aerotask_entries_changed()",
)


def upgrade() -> None:
    """Apply the migration."""
    for table in ('organizations', 'datasets'):
        op.add_column(table, sa.Column('deleted_at', postgresql.TIMESTAMP(timezone=True), nullable=True))
        op.create_index(
            f'ix_{table}_deleted', table, ['deleted_at'], postgresql_where=sa.text('deleted_at IS NOT NULL')
        )
    op.create_table('dataset_usage',
    sa.Column('dataset_id', sa.Uuid(), nullable=False),
    sa.Column('entries', sa.BigInteger(), server_default=sa.text('0'), nullable=False),
    sa.Column('size_bytes', sa.BigInteger(), server_default=sa.text('0'), nullable=False),
    sa.ForeignKeyConstraint(['dataset_id'], ['datasets.id'], name=op.f('fk_dataset_usage_dataset_id'), ondelete='CASCADE'),
    sa.PrimaryKeyConstraint('dataset_id', name=op.f('pk_dataset_usage'))
    )
    # Otherwise entries added or removed between the sums and the triggers would not be counted.
    op.execute("LOCK TABLE entries IN SHARE ROW EXCLUSIVE MODE")
    op.execute(
        "INSERT INTO dataset_usage (dataset_id, entries, size_bytes)"
        " SELECT dataset_id, count(*), coalesce(sum(size_bytes), 0) FROM entries GROUP BY dataset_id"
    )
    for statement in (ADDED, GONE, CHANGED, *TRIGGERS):
        op.execute(statement)
    op.create_index('ix_entries_by_type', 'entries', ['dataset_id', 'type', 'path'])
    op.create_index(
        'ix_entries_placed', 'entries', ['dataset_id', 'path'],
        postgresql_where=sa.text('point_geom IS NOT NULL'),
    )
    op.create_index('ix_organizations_owner_id', 'organizations', ['owner_id'])

    op.create_table('uploads',
    sa.Column('id', sa.Uuid(), nullable=False),
    sa.Column('dataset_id', sa.Uuid(), nullable=False),
    sa.Column('user_id', sa.Uuid(), nullable=True),
    sa.Column('path', sa.Text(collation='C'), nullable=False),
    sa.Column('size_bytes', sa.BigInteger(), nullable=False),
    sa.Column('metadata', sa.Text(), server_default='', nullable=False),
    sa.Column('created_at', postgresql.TIMESTAMP(timezone=True), server_default=sa.text('now()'), nullable=False),
    sa.Column('expires_at', postgresql.TIMESTAMP(timezone=True), nullable=False),
    sa.Column('finished_at', postgresql.TIMESTAMP(timezone=True), nullable=True),
    sa.ForeignKeyConstraint(['dataset_id'], ['datasets.id'], name=op.f('fk_uploads_dataset_id'), ondelete='CASCADE'),
    sa.ForeignKeyConstraint(['user_id'], ['users.id'], name=op.f('fk_uploads_user_id'), ondelete='SET NULL'),
    sa.PrimaryKeyConstraint('id', name=op.f('pk_uploads'))
    )
    op.create_index('ix_uploads_open', 'uploads', ['dataset_id'], postgresql_where=sa.text('finished_at IS NULL'))
    op.create_index('ix_uploads_user_id', 'uploads', ['user_id'])
    op.create_index('ix_uploads_expires_at', 'uploads', ['expires_at'])


def downgrade() -> None:
    """Revert the migration."""
    op.drop_table('uploads')
    op.drop_index('ix_organizations_owner_id', table_name='organizations')
    op.drop_index('ix_entries_placed', table_name='entries')
    op.drop_index('ix_entries_by_type', table_name='entries')
    for what in ('added', 'gone', 'changed'):
        op.execute(f"DROP TRIGGER entries_{what} ON entries")
        op.execute(f"DROP FUNCTION aerotask_entries_{what}()")
    op.drop_table('dataset_usage')
    for table in ('datasets', 'organizations'):
        op.execute(f"DELETE FROM {table} WHERE deleted_at IS NOT NULL")
        op.drop_index(f'ix_{table}_deleted', table_name=table)
        op.drop_column(table, 'deleted_at')
