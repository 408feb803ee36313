"""Whose BankID it must be, as a keyed hash, and when somebody else's was used."""

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"


def upgrade() -> None:
    """Apply."""
    op.add_column("invitations", sa.Column("person_hash", sa.String(), nullable=True))
    op.add_column("invitations", sa.Column("other_person_at", sa.Integer(), nullable=True))
