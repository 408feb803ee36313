"""When somebody last proved to be the invited person in a way that is not accepted."""

import sqlalchemy as sa
from alembic import op

revision = "0012"
down_revision = "0011"


def upgrade() -> None:
    """Apply."""
    op.add_column("invitations", sa.Column("too_weak_at", sa.Integer(), nullable=True))
