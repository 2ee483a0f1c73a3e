"""Requests of jobs as lists show them: without what is long."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from serve.store.rows import listed_of

revision = "0011"
down_revision = "0010"
_JOBS = sa.table("jobs", sa.column("id", sa.Text()), sa.column("request", sa.JSON()), sa.column("listed", sa.JSON()))


def upgrade() -> None:
    """A column more, filled job by job: a request may have eight megabytes."""
    op.add_column("jobs", sa.Column("listed", sa.JSON(), nullable=False, server_default="{}"))
    c, last = op.get_bind(), ""
    while row := c.execute(sa.select(_JOBS).where(_JOBS.c.id > last).order_by(_JOBS.c.id).limit(1)).first():
        c.execute(sa.update(_JOBS).where(_JOBS.c.id == row.id).values(listed=listed_of(row.request)))
        last = row.id
