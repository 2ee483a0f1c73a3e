"""Attempts that brought nothing, counted apart from all that there were."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0009"
down_revision = "0008"


def upgrade() -> None:
    """A column more; open jobs begin to count anew."""
    op.add_column("jobs", sa.Column("fruitless", sa.Integer(), nullable=False, server_default="0"))
