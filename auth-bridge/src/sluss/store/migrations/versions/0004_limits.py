"""One table of limits, in place of counted failures and times of sent codes."""

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"


def upgrade() -> None:
    """Apply. What was locked for minutes is open again."""
    op.create_table(
        "limits",
        sa.Column("what", sa.String(), nullable=False),
        sa.Column("key", sa.String(), nullable=False),
        sa.Column("owner", sa.String(), nullable=False),
        sa.Column("free_at", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("what", "key", name=op.f("pk_limits")),
    )
    op.create_index(op.f("ix_limits_owner"), "limits", ["owner"], unique=False)
    op.create_index(op.f("ix_limits_free_at"), "limits", ["free_at"], unique=False)
    op.drop_table("failures")
    op.drop_table("sent_codes")
    op.create_index("ix_outbox_kind", "outbox", ["kind", "created_at"], unique=False)
