"""Wishes of batches that met trouble which passes: how often, and when they are tried again."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0010"
down_revision = "0009"


def upgrade() -> None:
    """Two columns more; wishes that wait have not been tried."""
    op.add_column("wishes", sa.Column("tries", sa.Integer(), nullable=False, server_default="0"))
    op.add_column("wishes", sa.Column("not_before", sa.Float(), nullable=False, server_default="0"))
