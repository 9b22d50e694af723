"""the blobs that entries and derivatives have let go, so that a short disk gets their space back at once."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = '0012'
down_revision = '0011'
branch_labels = None
depends_on = None

REMOVED = """
    CREATE FUNCTION aerotask_blobs_removed() RETURNS trigger LANGUAGE plpgsql AS $$
    BEGIN
        INSERT INTO released_blobs (blob_key) SELECT blob_key FROM gone WHERE blob_key IS NOT NULL;
        RETURN NULL;
    END
    $$
"""
REPLACED = """
    CREATE FUNCTION aerotask_blob_replaced() RETURNS trigger LANGUAGE plpgsql AS $$
    BEGIN
        INSERT INTO released_blobs (blob_key) VALUES (OLD.blob_key);
        RETURN NULL;
    END
    $$
"""
TABLES = ('entries', 'derivatives')


def upgrade() -> None:
    """Apply the migration."""
    op.create_table('released_blobs',
    sa.Column('id', sa.BigInteger(), sa.Identity(always=True), nullable=False),
    sa.Column('blob_key', sa.Text(), nullable=False),
    sa.Column(
        'released_at', postgresql.TIMESTAMP(timezone=True), server_default=sa.text('now()'), nullable=False
    ),
    sa.PrimaryKeyConstraint('id', name=op.f('pk_released_blobs'))
    )
    op.execute(REMOVED)
    op.execute(REPLACED)
    for table in TABLES:
        op.execute(
            f"CREATE TRIGGER blobs_removed AFTER DELETE ON {table} REFERENCING OLD TABLE AS gone"
            " FOR EACH STATEMENT EXECUTE FUNCTION aerotask_blobs_removed()"
        )
        op.execute(
            f"CREATE TRIGGER blob_replaced AFTER UPDATE OF blob_key ON {table} FOR EACH ROW"
            " WHEN (OLD.blob_key IS NOT NULL AND OLD.blob_key IS DISTINCT FROM NEW.blob_key)"
            " EXECUTE FUNCTION aerotask_blob_replaced()"
        )


def downgrade() -> None:
    """Revert the migration."""
    for table in TABLES:
        op.execute(f"DROP TRIGGER blobs_removed ON {table}")
        op.execute(f"DROP TRIGGER blob_replaced ON {table}")
    op.execute("DROP FUNCTION aerotask_blobs_removed")
    op.execute("DROP FUNCTION aerotask_blob_replaced")
    op.drop_table('released_blobs')
