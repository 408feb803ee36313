"""When somebody verified was last heard of waiting, and the label that tells namesakes apart."""

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"


def upgrade() -> None:
    """Apply."""
    op.add_column("verifications", sa.Column("waited_at", sa.Integer(), nullable=True))
    op.add_column("invitations", sa.Column("label", sa.LargeBinary(), nullable=True))
