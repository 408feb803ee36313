"""The audit log, which the database itself keeps from being changed."""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"

# By dialect: whoever adds another database says here how it refuses. REPLACE fires no delete trigger, so an insert
# that is not the next is refused too.
_SQLITE = "CREATE TRIGGER {} BEFORE {} BEGIN SELECT RAISE(ABORT, 'audit is append-only'); END"
_APPEND_ONLY = {
    "sqlite": (
        _SQLITE.format("audit_no_update", "UPDATE ON audit"),
        _SQLITE.format("audit_no_delete", "DELETE ON audit"),
        _SQLITE.format("audit_next", "INSERT ON audit WHEN EXISTS (SELECT 1 FROM audit WHERE seq >= NEW.seq)"),
    )
}


def upgrade() -> None:
    """Apply."""
    op.create_table(
        "audit",
        sa.Column("seq", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("entry", sa.String(), nullable=False),
        sa.Column("hash", sa.String(), nullable=False),
        sa.PrimaryKeyConstraint("seq", name=op.f("pk_audit")),
    )
    op.create_table(
        "audit_head",
        sa.Column("id", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("seq", sa.Integer(), nullable=False),
        sa.Column("hash", sa.String(), nullable=False),
        sa.Column("mac", sa.String(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_audit_head")),
    )
    for statement in _APPEND_ONLY[op.get_bind().dialect.name]:
        op.execute(statement)
