"""The tables. Times are UTC as RFC 3339 text with milliseconds, which sorts; ids are opaque text.

What has to be true is in constraints: an event's number is used once, a key's prefix is found once, an answer to a
repeated request is the first one.
"""

from __future__ import annotations

from sqlalchemy import (
    JSON,
    BigInteger,
    Boolean,
    Column,
    Float,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    Table,
    Text,
    UniqueConstraint,
)

metadata = MetaData(
    naming_convention={
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "fk": "fk_%(table_name)s_%(column_0_name)s",
        "pk": "pk_%(table_name)s",
    }
)

users = Table(
    "users", metadata,
    Column("id", Text, primary_key=True),
    Column("email", Text, nullable=False, unique=True),
    Column("name", Text, nullable=False, default=""),
    Column("role", Text, nullable=False),
    Column("active", Boolean, nullable=False, default=True),
    Column("quota", JSON, nullable=False, default=dict),
    Column("subject", Text, unique=True),
    Column("created", Text, nullable=False),
)  # fmt: skip

keys = Table(
    "keys", metadata,
    Column("id", Text, primary_key=True),
    Column("user_id", ForeignKey("users.id", ondelete="CASCADE"), nullable=False, index=True),
    Column("prefix", Text, nullable=False, unique=True),
    Column("digest", LargeBinary, nullable=False),
    Column("scopes", JSON, nullable=False),
    Column("label", Text, nullable=False, default=""),
    Column("created", Text, nullable=False),
    Column("expires", Text),
    Column("active", Boolean, nullable=False, default=True),
    Column("used", Text),
)  # fmt: skip

projects = Table(
    "projects", metadata,
    Column("id", Text, primary_key=True),
    Column("owner_id", ForeignKey("users.id", ondelete="CASCADE"), nullable=False),
    Column("name", Text, nullable=False),
    Column("description", Text, nullable=False, default=""),
    Column("shared", Boolean, nullable=False, default=False),
    Column("labels", JSON, nullable=False, default=dict),
    Column("created", Text, nullable=False),
    Column("updated", Text, nullable=False),
    UniqueConstraint("owner_id", "name"),
)  # fmt: skip

uploads = Table(
    "uploads", metadata,
    Column("id", Text, primary_key=True),
    Column("owner_id", ForeignKey("users.id", ondelete="CASCADE"), nullable=False, index=True),
    Column("project_id", ForeignKey("projects.id", ondelete="SET NULL"), index=True),
    Column("name", Text, nullable=False),
    Column("state", Text, nullable=False),
    Column("size", BigInteger, nullable=False, default=0),
    Column("sha256", Text, nullable=False, default=""),
    Column("facts", JSON, nullable=False, default=dict),
    Column("problem", JSON),
    Column("labels", JSON, nullable=False, default=dict),
    Column("created", Text, nullable=False),
)  # fmt: skip

models = Table(
    "models", metadata,
    Column("id", Text, primary_key=True),
    # The card, for models that were added while the service ran; empty for shipped ones that were switched on or off.
    Column("card", JSON),
    Column("enabled", Boolean, nullable=False),
    Column("owner_id", ForeignKey("users.id", ondelete="SET NULL")),
    Column("shared", Boolean, nullable=False, default=True),
    Column("problem", JSON),
    Column("version", Integer, nullable=False, default=1),
    Column("created", Text, nullable=False),
    Column("updated", Text, nullable=False),
)  # fmt: skip

jobs = Table(
    "jobs", metadata,
    Column("id", Text, primary_key=True),
    Column("owner_id", ForeignKey("users.id"), nullable=False),
    Column("project_id", ForeignKey("projects.id", ondelete="SET NULL")),
    Column("title", Text, nullable=False, default=""),
    Column("request", JSON, nullable=False),
    # The same without what is long of it: a page of a thousand areas in all detail would fill the memory.
    Column("listed", JSON, nullable=False, server_default="{}"),
    Column("model", Text, nullable=False),
    Column("labels", JSON, nullable=False, default=dict),
    Column("state", Text, nullable=False),
    Column("place", Text, nullable=False),
    Column("cost", JSON, nullable=False, default=dict),
    Column("cost_s", Float, nullable=False, default=0.0),
    Column("area_km2", Float, nullable=False, default=0.0),
    Column("progress", JSON, nullable=False, default=dict),
    Column("round", Integer, nullable=False, default=1),
    Column("attempts", Integer, nullable=False, default=0),
    # Of those, how many in a row have died or failed without a new chunk: so a job is given up, however long it is.
    Column("fruitless", Integer, nullable=False, default=0, server_default="0"),
    Column("cancelling", Boolean, nullable=False, default=False),
    Column("problem", JSON),
    Column("result", JSON, nullable=False, default=dict),
    Column("result_bytes", BigInteger, nullable=False, default=0),
    Column("ray_job", Text),
    Column("last_seq", Integer, nullable=False, default=0),
    Column("created", Text, nullable=False),
    Column("updated", Text, nullable=False),
    Column("started", Text),
    Column("ended", Text),
    # Who is at work on it, and until when that is believed. ``epoch`` counts the holders: what a former one still
    # writes carries an old number and is refused.
    Column("epoch", Integer, nullable=False, default=0),
    Column("holder", Text),
    Column("held_until", Float),
    # The queue counts by these: no attempt before this moment (seconds since 1970).
    Column("not_before", Float, nullable=False, default=0.0),
    Index("ix_jobs_owner", "owner_id", "id"),
    Index("ix_jobs_project", "project_id", "id"),
    Index("ix_jobs_state", "state", "id"),
    Index("ix_jobs_ended", "ended", "id"),
    # A user's quotas are sums over this one alone.
    Index("ix_jobs_sums", "owner_id", "created", "area_km2", "result_bytes", "started", "ended"),
)  # fmt: skip
# Of all jobs that there ever were, few are open.
Index("ix_jobs_open", jobs.c.owner_id, jobs.c.place, jobs.c.id, sqlite_where=jobs.c.ended.is_(None),
      postgresql_where=jobs.c.ended.is_(None))  # fmt: skip

shares = Table(
    # Work that users were given of late, as it was at that moment; it fades (serve/store/turns.py).
    "shares", metadata,
    Column("user_id", ForeignKey("users.id", ondelete="CASCADE"), primary_key=True),
    Column("place", Text, primary_key=True),
    Column("seconds", Float, nullable=False),
    Column("at", Float, nullable=False),
)  # fmt: skip

events = Table(
    "events", metadata,
    Column("job_id", ForeignKey("jobs.id", ondelete="CASCADE"), primary_key=True),
    Column("seq", Integer, primary_key=True, autoincrement=False),
    Column("at", Text, nullable=False),
    Column("kind", Text, nullable=False),
    Column("facts", JSON, nullable=False),
    # Names the fact: noted again after a crash, it is found here and not doubled.
    Column("key", Text),
    UniqueConstraint("job_id", "key"),
)  # fmt: skip

logs = Table(
    "logs", metadata,
    Column("job_id", ForeignKey("jobs.id", ondelete="CASCADE"), primary_key=True),
    Column("seq", Integer, primary_key=True, autoincrement=False),
    Column("at", Text, nullable=False),
    Column("level", Text, nullable=False),
    Column("message", Text, nullable=False),
    Column("facts", JSON, nullable=False, default=dict),
)  # fmt: skip

hooks = Table(
    "hooks", metadata,
    Column("id", Text, primary_key=True),
    Column("job_id", ForeignKey("jobs.id", ondelete="CASCADE"), nullable=False, index=True),
    Column("url", Text, nullable=False),
    Column("secret", Text, nullable=False, default=""),
    Column("kinds", JSON, nullable=False),
    # Events up to this number were delivered (or given up).
    Column("sent_seq", Integer, nullable=False, default=0),
    Column("tries", Integer, nullable=False, default=0),
    Column("next_at", Float, nullable=False, default=0.0, index=True),
    Column("given_up", Boolean, nullable=False, default=False),
    Column("problem", Text),
)  # fmt: skip

publications = Table(
    "publications", metadata,
    Column("id", Text, primary_key=True),
    # None: the job was removed, and what was published of it is to be taken away.
    Column("job_id", ForeignKey("jobs.id", ondelete="SET NULL"), index=True),
    Column("workspace", Text, nullable=False),
    Column("name", Text, nullable=False),
    Column("files", JSON, nullable=False),
    Column("colours", JSON, nullable=False),
    Column("kind", Text, nullable=False),
    Column("begun", Boolean, nullable=False, default=False),
    # The job's events up to this number are in what is shown.
    Column("sent_seq", Integer, nullable=False, default=0),
    Column("tries", Integer, nullable=False, default=0),
    Column("next_at", Float, nullable=False, default=0.0, index=True),
    Column("given_up", Boolean, nullable=False, default=False),
    Column("url", Text, nullable=False, default=""),
    Column("problem", JSON),
    UniqueConstraint("workspace", "name"),
)  # fmt: skip

replies = Table(
    "replies", metadata,
    Column("user_id", ForeignKey("users.id", ondelete="CASCADE"), primary_key=True),
    Column("operation", Text, primary_key=True),
    Column("key", Text, primary_key=True),
    Column("body_hash", Text, nullable=False),
    # None while the first request is still at work.
    Column("status", Integer),
    Column("headers", JSON),
    Column("body", LargeBinary),
    Column("created", Float, nullable=False, index=True),
)  # fmt: skip

audit = Table(
    "audit", metadata,
    Column("seq", BigInteger().with_variant(Integer, "sqlite"), primary_key=True, autoincrement=True),
    Column("at", Text, nullable=False),
    Column("user_id", Text),
    Column("key_id", Text),
    Column("action", Text, nullable=False),
    Column("subject", Text, nullable=False, default=""),
    Column("facts", JSON, nullable=False, default=dict),
    Index("ix_audit_user", "user_id", "seq"),
)  # fmt: skip

counters = Table(
    "counters", metadata,
    Column("name", Text, primary_key=True),
    Column("value", Integer, nullable=False),
)  # fmt: skip

leases = Table(
    "leases", metadata,
    Column("name", Text, primary_key=True),
    Column("holder", Text, nullable=False),
    Column("until", Float, nullable=False),
    Column("epoch", Integer, nullable=False),
)  # fmt: skip

processors = Table(
    "processors", metadata,
    Column("id", Text, primary_key=True),
    Column("owner_id", ForeignKey("users.id", ondelete="CASCADE"), nullable=False, index=True),
    Column("project_id", ForeignKey("projects.id", ondelete="SET NULL"), index=True),
    Column("name", Text, nullable=False),
    Column("description", Text, nullable=False, default=""),
    Column("file", Text, nullable=False),
    Column("call", Text, nullable=False),
    Column("parameters", JSON, nullable=False, default=dict),
    Column("size", BigInteger, nullable=False, default=0),
    Column("sha256", Text, nullable=False, default=""),
    Column("labels", JSON, nullable=False, default=dict),
    Column("created", Text, nullable=False),
    Column("deleted", Text),
)  # fmt: skip

catalogue_writes = Table(
    # What has become of catalogue documents, in order: on PostgreSQL each node's search index follows it.
    "catalogue_writes", metadata,
    Column("seq", BigInteger().with_variant(Integer, "sqlite"), primary_key=True, autoincrement=True),
    Column("kind", Text, nullable=False),
    Column("collection", Text, nullable=False),
    Column("item", Text, nullable=False, default=""),
    Column("document", JSON),
    Index("ix_catalogue_writes_name", "collection", "item"),
)  # fmt: skip

batches = Table(
    "batches", metadata,
    Column("id", Text, primary_key=True),
    Column("owner_id", ForeignKey("users.id", ondelete="CASCADE"), nullable=False),
    Column("title", Text, nullable=False, default=""),
    Column("labels", JSON, nullable=False, default=dict),
    Column("cancelled", Boolean, nullable=False, default=False),
    # Its user has removed it; it is kept until the last of its jobs has ended and is removed as well.
    Column("dropped", Boolean, nullable=False, default=False),
    Column("created", Text, nullable=False),
    Column("updated", Text, nullable=False),
    Index("ix_batches_owner", "owner_id", "id"),
)  # fmt: skip
Index("ix_batches_dropped", batches.c.id, sqlite_where=batches.c.dropped.is_(True),
      postgresql_where=batches.c.dropped.is_(True))  # fmt: skip

wishes = Table(
    # What a batch consists of, one job each; those that are not settled wait to be planned.
    "wishes", metadata,
    Column("batch_id", ForeignKey("batches.id", ondelete="CASCADE"), primary_key=True),
    Column("number", Integer, primary_key=True, autoincrement=False),
    Column("request", JSON, nullable=False),
    Column("settled", Text),
    Column("job_id", ForeignKey("jobs.id", ondelete="SET NULL"), index=True),
    Column("problem", JSON),
    # How often planning it met trouble that passes, and when it is tried again (seconds since 1970).
    Column("tries", Integer, nullable=False, default=0, server_default="0"),
    Column("not_before", Float, nullable=False, default=0.0, server_default="0"),
)  # fmt: skip
Index("ix_wishes_open", wishes.c.batch_id, wishes.c.number, sqlite_where=wishes.c.settled.is_(None),
      postgresql_where=wishes.c.settled.is_(None))  # fmt: skip

presets = Table(
    "presets", metadata,
    Column("id", Text, primary_key=True),
    Column("owner_id", ForeignKey("users.id", ondelete="CASCADE"), nullable=False),
    Column("kind", Text, nullable=False),
    Column("name", Text, nullable=False),
    Column("model", Text),
    Column("shared", Boolean, nullable=False, default=False),
    Column("labels", JSON, nullable=False, default=dict),
    Column("created", Text, nullable=False),
    Column("updated", Text, nullable=False),
    Index("ix_presets_owner", "owner_id", "kind", "id"),
)  # fmt: skip
