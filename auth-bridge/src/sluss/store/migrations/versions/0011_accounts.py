"""Roles instead of the auditor's mark, several authenticators, names, and what takes two admins."""

import sqlalchemy as sa
from alembic import op

revision = "0011"
down_revision = "0010"


def upgrade() -> None:
    """Apply."""
    op.create_table(
        "account_authenticators",
        sa.Column("id", sa.String(), nullable=False),
        sa.Column("organiser_id", sa.String(), nullable=False),
        sa.Column("name", sa.LargeBinary(), nullable=True),
        sa.Column("secret", sa.LargeBinary(), nullable=False),
        sa.Column("step", sa.Integer(), server_default="0", nullable=False),
        sa.Column("drift", sa.Float(), server_default="0", nullable=False),
        sa.Column("created_at", sa.Integer(), nullable=False),
        sa.Column("confirmed_at", sa.Integer(), nullable=True),
        sa.Column("used_at", sa.Integer(), nullable=True),
        sa.ForeignKeyConstraint(
            ["organiser_id"], ["organisers.id"], name=op.f("fk_account_authenticators_organiser_id_organisers")
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_account_authenticators")),
    )
    op.create_index(
        op.f("ix_account_authenticators_organiser_id"), "account_authenticators", ["organiser_id"], unique=False
    )
    # A secret is sealed for its organiser's id: its authenticator has the same one.
    op.execute(
        "INSERT INTO account_authenticators (id, organiser_id, secret, step, drift, created_at, confirmed_at) "
        "SELECT id, id, totp_secret, totp_step, totp_drift, created_at, enrolled_at FROM organisers"
    )
    op.create_table(
        "admin_requests",
        sa.Column("organiser_id", sa.String(), nullable=False),
        sa.Column("act", sa.String(), nullable=False),
        sa.Column("successor", sa.String(), nullable=False),
        sa.Column("asked_by", sa.String(), nullable=False),
        sa.Column("asked_at", sa.Integer(), nullable=False),
        sa.ForeignKeyConstraint(
            ["organiser_id"], ["organisers.id"], name=op.f("fk_admin_requests_organiser_id_organisers")
        ),
        sa.PrimaryKeyConstraint("organiser_id", name=op.f("pk_admin_requests")),
    )
    op.add_column("organisers", sa.Column("role", sa.String(), server_default="organiser", nullable=False))
    op.execute("UPDATE organisers SET role = 'auditor' WHERE auditor")
    op.add_column("organisers", sa.Column("signed_in_at", sa.Integer(), nullable=True))
    op.add_column("organisers", sa.Column("removed_at", sa.Integer(), nullable=True))
    for gone in ("totp_secret", "totp_step", "totp_drift", "auditor"):
        op.drop_column("organisers", gone)
    op.add_column("sessions", sa.Column("method", sa.String(), nullable=True))
    op.add_column("sessions", sa.Column("network", sa.LargeBinary(), nullable=True))
    op.add_column("passkeys", sa.Column("name", sa.LargeBinary(), nullable=True))
