"""Who uses a service, and with what rights: users, keys, quotas. Secrets are never part of a value."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum


class Role(StrEnum):
    """What somebody is."""

    ADMIN = "admin"
    """Everything, of everybody."""
    MEMBER = "member"
    """Own things, and what is shared."""
    VIEWER = "viewer"
    """Looks at what is shared and own; changes nothing."""


class Scope(StrEnum):
    """What a key may be used for; a key never has more rights than its user."""

    JOBS_READ = "jobs:read"
    JOBS_WRITE = "jobs:write"
    PREDICT = "predict"
    MODELS_READ = "models:read"
    MODELS_WRITE = "models:write"
    CATALOGUE_READ = "catalogue:read"
    CATALOGUE_WRITE = "catalogue:write"
    UPLOADS = "uploads"
    PROJECTS = "projects"
    KEYS = "keys"
    ADMIN = "admin"


SCOPES_OF: dict[Role, frozenset[Scope]] = {
    Role.ADMIN: frozenset(Scope),
    Role.MEMBER: frozenset(Scope) - {Scope.ADMIN},
    Role.VIEWER: frozenset({Scope.JOBS_READ, Scope.MODELS_READ, Scope.CATALOGUE_READ}),
}
"""The most that a key of such a user can do."""


@dataclass(frozen=True, slots=True)
class Quota:
    """What one user may have; None: the service's own limit."""

    running_jobs: int | None = None
    """At a time; more wait in the queue. Small ones are counted for themselves: as many again."""
    queued_jobs: int | None = None
    """Waiting; more are refused with 429."""
    storage_mb: int | None = None
    """Of results and uploads."""
    area_km2: float | None = None
    """Of all jobs of the last 30 days."""


@dataclass(frozen=True, slots=True)
class User:
    """Somebody, or some program."""

    id: str
    """Opaque."""
    email: str
    """Lower case; unique."""
    name: str
    """For people."""
    role: Role
    """See :class:`Role`."""
    active: bool
    """Whether their keys open anything."""
    created: str
    """UTC, RFC 3339."""
    quota: Quota = field(default=Quota())
    """Where it differs from the service's."""
    subject: str = ""
    """``issuer|sub`` at an external identity provider; empty: none."""


@dataclass(frozen=True, slots=True)
class Key:
    """A key's record. The key itself is shown once, when it is made; only an HMAC of it is kept."""

    id: str
    """Opaque."""
    user: str
    """Id of its user."""
    prefix: str
    """The first eight characters of the 32: what it is found by, and what people see of it."""
    scopes: frozenset[Scope]
    """What it may do."""
    label: str
    """What it is for."""
    created: str
    """UTC, RFC 3339."""
    expires: str | None
    """UTC; None: never."""
    active: bool
    """Whether it opens anything."""
    used: str | None = None
    """When it was last used, to the minute."""


@dataclass(frozen=True, slots=True)
class Caller:
    """Who asks, as far as this request goes."""

    user: User
    """Them."""
    scopes: frozenset[Scope]
    """Of the key or token that they came with, cut to their role."""
    key: str | None = None
    """Id of that key; None: a token of an identity provider, or the service itself."""

    @property
    def admin(self) -> bool:
        """Whether they see what is not theirs."""
        return self.user.role is Role.ADMIN and Scope.ADMIN in self.scopes
