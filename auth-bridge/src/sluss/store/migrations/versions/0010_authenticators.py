"""Participants' authenticators; by how much each authenticator's clock is off; how many codes were sent in a row."""

import sqlalchemy as sa
from alembic import op

revision = "0010"
down_revision = "0009"


def upgrade() -> None:
    """Apply."""
    op.create_table(
        "authenticators",
        sa.Column("id", sa.String(), nullable=False),
        sa.Column("owner", sa.String(), nullable=False),
        sa.Column("secret", sa.LargeBinary(), nullable=False),
        sa.Column("step", sa.Integer(), nullable=False),
        sa.Column("drift", sa.Float(), nullable=False),
        sa.Column("enrolled_by", sa.String(), nullable=False),
        sa.Column("enrolled_as", sa.String(), nullable=False),
        sa.Column("created_at", sa.Integer(), nullable=False),
        sa.Column("used_at", sa.Integer(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_authenticators")),
    )
    op.create_index(op.f("ix_authenticators_owner"), "authenticators", ["owner"], unique=True)
    op.add_column("challenges", sa.Column("sent", sa.Integer(), server_default="1", nullable=False))
    op.add_column("passkeys", sa.Column("model", sa.String(), nullable=True))
    op.add_column("organisers", sa.Column("totp_drift", sa.Float(), server_default="0", nullable=False))
