"""Attendance is sealed; auditors; what was purged."""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"


def upgrade() -> None:
    """Apply. Rows of `attendance` cannot be sealed here, where no key is: they are dropped, and none was released."""
    op.drop_table("attendance")
    op.create_table(
        "attendance",
        sa.Column("gate_session", sa.String(), nullable=False),
        sa.Column("invitation_id", sa.String(), nullable=False),
        sa.Column("epoch", sa.String(), nullable=False),
        sa.Column("open", sa.Boolean(), nullable=False),
        sa.Column("record", sa.LargeBinary(), nullable=False),
        sa.ForeignKeyConstraint(["invitation_id"], ["invitations.id"], name=op.f("fk_attendance_invitation_id")),
        sa.PrimaryKeyConstraint("gate_session", name=op.f("pk_attendance")),
    )
    op.create_index(op.f("ix_attendance_invitation_id"), "attendance", ["invitation_id"], unique=False)
    op.create_index(op.f("ix_attendance_open"), "attendance", ["open"], unique=False)
    op.add_column("tickets", sa.Column("origin", sa.LargeBinary(), nullable=True))
    op.add_column("meetings", sa.Column("purged_at", sa.Integer(), nullable=True))
    op.add_column("organisers", sa.Column("auditor", sa.Boolean(), server_default="0", nullable=False))
