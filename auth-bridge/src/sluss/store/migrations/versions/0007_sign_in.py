"""The organisation's own sign-in: who is at the provider, whose account it is, and which sessions it opened."""

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"


def upgrade() -> None:
    """Apply."""
    op.create_table(
        "sign_ins",
        sa.Column("state_hash", sa.String(), nullable=False),
        sa.Column("session_hash", sa.String(), nullable=False),
        sa.Column("errand", sa.LargeBinary(), nullable=False),
        sa.Column("created_at", sa.Integer(), nullable=False),
        sa.PrimaryKeyConstraint("state_hash", name=op.f("pk_sign_ins")),
    )
    op.create_index(op.f("ix_sign_ins_created_at"), "sign_ins", ["created_at"], unique=False)
    op.create_table(
        "used_logouts",
        sa.Column("jti_hash", sa.String(), nullable=False),
        sa.Column("used_at", sa.Integer(), nullable=False),
        sa.PrimaryKeyConstraint("jti_hash", name=op.f("pk_used_logouts")),
    )
    op.add_column("organisers", sa.Column("account_hash", sa.String(), nullable=True))
    op.create_index(op.f("ix_organisers_account_hash"), "organisers", ["account_hash"], unique=True)
    op.add_column("sessions", sa.Column("account_hash", sa.String(), nullable=True))
    op.add_column("sessions", sa.Column("sid_hash", sa.String(), nullable=True))
    op.create_index(op.f("ix_sessions_account_hash"), "sessions", ["account_hash"], unique=False)
