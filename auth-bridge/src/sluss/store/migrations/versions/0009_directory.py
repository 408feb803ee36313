"""Which organisers are of the directory, by which entry, and when it last said that they may be."""

import sqlalchemy as sa
from alembic import op

revision = "0009"
down_revision = "0008"


def upgrade() -> None:
    """Apply."""
    op.add_column("organisers", sa.Column("entry", sa.LargeBinary(), nullable=True))
    op.add_column("organisers", sa.Column("entry_seen_at", sa.Integer(), nullable=True))
