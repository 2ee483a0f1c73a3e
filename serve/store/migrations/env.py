"""What alembic runs: our connection, inside the transaction that ``serve.store.migrate`` has begun."""

from __future__ import annotations

from alembic import context

from serve.store.tables import metadata

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=metadata,
    render_as_batch=True,
    compare_type=True,
)
context.run_migrations()
