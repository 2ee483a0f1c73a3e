"""Batches that were removed while jobs of theirs were at work."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0008"
down_revision = "0006"


def upgrade() -> None:
    """A column more; no batch that is there was removed."""
    op.add_column("batches", sa.Column("dropped", sa.Boolean(), nullable=False, server_default=sa.false()))
    op.create_index("ix_batches_dropped", "batches", ["id"], unique=False, sqlite_where=sa.text("dropped IS 1"),
                    postgresql_where=sa.text("dropped IS true"))  # fmt: skip
