"""submit options: schedules, tags, idempotency keys, callbacks; and notifications for every change of a task."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = '0002'
down_revision = '0001'
branch_labels = None
depends_on = None

def task_columns() -> list[sa.Column]:
    """New columns of tasks, created for each call, as a column object belongs to one operation."""
    return [
        sa.Column('tags', postgresql.ARRAY(sa.Text()), server_default=sa.text("'{}'"), nullable=False),
        sa.Column('metadata', postgresql.JSONB(none_as_null=True), server_default=sa.text("'{}'"), nullable=False),
        sa.Column('unique_id', sa.Text(), nullable=True),
        sa.Column('callback_url', sa.Text(), nullable=True),
        sa.Column('restart_of', sa.Uuid(), nullable=True),
        sa.Column('waits_for', sa.Text(), nullable=True),
        sa.Column('log_bytes', sa.BigInteger(), server_default=sa.text('0'), nullable=False),
    ]


# Notifies `TASK_CHANNEL` (aerotask/store/tasks/tasks.py) when a change of a task commits; renewing a lease is none.
TELL = """
    CREATE FUNCTION aerotask_tell_of_task() RETURNS trigger LANGUAGE plpgsql AS $$
    BEGIN
        PERFORM pg_notify('aerotask_tasks', NEW.id::text);
        RETURN NULL;
    END
    $$
"""
TELL_ON_CHANGE = """
    CREATE TRIGGER tell_of_task AFTER UPDATE ON tasks FOR EACH ROW
    WHEN ((OLD.state, OLD.percent, OLD.phase, OLD.log_next, OLD.attempt, OLD.waits_for)
          IS DISTINCT FROM (NEW.state, NEW.percent, NEW.phase, NEW.log_next, NEW.attempt, NEW.waits_for))
    EXECUTE FUNCTION aerotask_tell_of_task()
"""


def upgrade() -> None:
    """Apply the migration."""
    for column in task_columns():
        op.add_column('tasks', column)
    op.execute("UPDATE tasks SET waits_for = 'retry-delay' WHERE state = 'Scheduled'")
    op.execute(
        "UPDATE tasks SET log_bytes = kept.bytes FROM"
        " (SELECT task_id, sum(octet_length(line)) AS bytes FROM task_log GROUP BY task_id) AS kept"
        " WHERE kept.task_id = tasks.id"
    )
    op.create_check_constraint(op.f('ck_tasks_waits_for'), 'tasks', "(state = 'Scheduled') = (waits_for IS NOT NULL)")
    op.create_index(
        'uq_tasks_unique_id', 'tasks', ['org_id', 'unique_id'],
        unique=True, postgresql_where=sa.text('unique_id IS NOT NULL'),
    )
    op.create_index('ix_tasks_newest_of_user', 'tasks', ['user_id', 'id'])
    op.drop_index('ix_tasks_user_id', table_name='tasks')
    op.create_index('ix_tasks_tags', 'tasks', ['tags'], postgresql_using='gin')
    op.execute(TELL)
    op.execute(TELL_ON_CHANGE)

    op.add_column('artifacts', sa.Column('ordinal', sa.Integer(), server_default=sa.text('0'), nullable=False))
    op.drop_constraint('pk_artifacts', 'artifacts')
    op.create_primary_key('pk_artifacts', 'artifacts', ['task_id', 'ordinal'])
    op.create_unique_constraint('uq_artifacts_task_id_file_name', 'artifacts', ['task_id', 'file_name'])

    op.create_table('idempotency_keys',
    sa.Column('caller', sa.Text(), nullable=False),
    sa.Column('key', sa.Text(), nullable=False),
    sa.Column('fingerprint', sa.LargeBinary(), nullable=False),
    sa.Column('answer', postgresql.JSONB(none_as_null=True), nullable=False),
    sa.Column('created_at', postgresql.TIMESTAMP(timezone=True), server_default=sa.text('now()'), nullable=False),
    sa.PrimaryKeyConstraint('caller', 'key', name=op.f('pk_idempotency_keys'))
    )
    op.create_index('ix_idempotency_keys_created_at', 'idempotency_keys', ['created_at'])
    op.create_table('callbacks',
    sa.Column('id', sa.Uuid(), nullable=False),
    sa.Column('task_id', sa.Uuid(), nullable=False),
    sa.Column('user_id', sa.Uuid(), nullable=True),
    sa.Column('url', sa.Text(), nullable=False),
    sa.Column('body', sa.LargeBinary(), nullable=False),
    sa.Column('state', sa.Text(), server_default='waiting', nullable=False),
    sa.Column('created_at', postgresql.TIMESTAMP(timezone=True), server_default=sa.text('now()'), nullable=False),
    sa.Column('due_at', postgresql.TIMESTAMP(timezone=True), server_default=sa.text('now()'), nullable=False),
    sa.Column('tries', sa.Integer(), server_default=sa.text('0'), nullable=False),
    sa.Column('attempts', postgresql.JSONB(), server_default=sa.text("'[]'"), nullable=False),
    sa.CheckConstraint("state IN ('waiting', 'delivered', 'given-up', 'refused')", name=op.f('ck_callbacks_state')),
    sa.ForeignKeyConstraint(['task_id'], ['tasks.id'], name=op.f('fk_callbacks_task_id'), ondelete='CASCADE'),
    sa.ForeignKeyConstraint(['user_id'], ['users.id'], name=op.f('fk_callbacks_user_id'), ondelete='SET NULL'),
    sa.PrimaryKeyConstraint('id', name=op.f('pk_callbacks'))
    )
    op.create_index('ix_callbacks_task_id', 'callbacks', ['task_id'])
    op.create_index('ix_callbacks_due', 'callbacks', ['due_at'], postgresql_where=sa.text("state = 'waiting'"))


def downgrade() -> None:
    """Revert the migration."""
    op.drop_table('callbacks')
    op.drop_table('idempotency_keys')
    op.execute("DELETE FROM artifacts WHERE ordinal > 0")
    op.drop_constraint('uq_artifacts_task_id_file_name', 'artifacts')
    op.drop_constraint('pk_artifacts', 'artifacts')
    op.create_primary_key('pk_artifacts', 'artifacts', ['task_id'])
    op.drop_column('artifacts', 'ordinal')
    op.execute("DROP TRIGGER tell_of_task ON tasks")
    op.execute("DROP FUNCTION aerotask_tell_of_task()")
    op.drop_index('ix_tasks_tags', table_name='tasks')
    op.drop_index('ix_tasks_newest_of_user', table_name='tasks')
    op.create_index('ix_tasks_user_id', 'tasks', ['user_id'])
    op.drop_index('uq_tasks_unique_id', table_name='tasks')
    op.drop_constraint('ck_tasks_waits_for', 'tasks')
    for column in task_columns():
        op.drop_column('tasks', column.name)
