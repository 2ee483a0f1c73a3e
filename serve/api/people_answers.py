"""Users, keys and the audit log, as they are answered."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Any, Self

from pydantic import Field

from serve.api.answers import Answered, Link, shown
from swathe.user import Role, Scope

if TYPE_CHECKING:
    from serve.desk.usage import Allowed, Used
    from serve.store.audit import Entry
    from swathe.user import Caller, Key, User


class QuotaAnswer(Answered):
    """What a user may have; null: the service's own limit."""

    running_jobs: int | None = None
    queued_jobs: int | None = None
    storage_mb: float | None = None
    area_km2: float | None = None


class UserAnswer(Answered):
    """Somebody, or some program."""

    model_config = shown("user")

    id: str
    email: str
    name: str
    role: Role
    active: bool
    created: str
    quota: QuotaAnswer = Field(description="Where it differs from the service's.")
    subject: str = Field(description="issuer|sub at an identity provider; empty: none.")

    @classmethod
    def of(cls, user: User) -> Self:
        """As the store has it."""
        return cls(**asdict(user))


class UsersAnswer(Answered):
    """A page of users."""

    model_config = shown("users")

    users: list[UserAnswer]
    links: list[Link]


class MeAnswer(Answered):
    """Who asks, and what they may and have."""

    model_config = shown("me")

    user: UserAnswer
    scopes: list[Scope] = Field(description="Of the key or token that this request came with.")
    key: str | None = Field(description="Id of that key; null: a token.")
    quota: QuotaAnswer
    usage: QuotaAnswer

    @classmethod
    def of(cls, caller: Caller, may: Allowed, has: Used) -> Self:
        """As the desk has it."""
        return cls(user=UserAnswer.of(caller.user), scopes=sorted(caller.scopes), key=caller.key,
                   quota=QuotaAnswer(**asdict(may)), usage=QuotaAnswer(**asdict(has)))  # fmt: skip


class KeyAnswer(Answered):
    """A key's record."""

    model_config = shown("key")

    id: str
    user: str
    prefix: str = Field(description="Its first eight characters after swk-.")
    scopes: list[Scope]
    label: str
    created: str
    expires: str | None
    active: bool
    used: str | None

    @classmethod
    def of(cls, key: Key) -> Self:
        """As the store has it."""
        return cls.model_validate(asdict(key) | {"scopes": sorted(key.scopes)})


class NewKeyAnswer(KeyAnswer):
    """A new key. What opens is shown this once and kept nowhere."""

    model_config = shown("new_key")

    secret: str = Field(description="The key itself: swk- and 32 letters and digits.")


class KeysAnswer(Answered):
    """All keys of a user."""

    model_config = shown("keys")

    keys: list[KeyAnswer]


class EntryAnswer(Answered):
    """A change, and who made it."""

    seq: int
    at: str
    user: str | None
    key: str | None
    action: str
    subject: str
    facts: dict[str, Any]

    @classmethod
    def of(cls, entry: Entry) -> Self:
        """As the store has it."""
        return cls(**asdict(entry))


class AuditAnswer(Answered):
    """A page of the audit log, newest first."""

    model_config = shown("audit")

    audit: list[EntryAnswer]
    links: list[Link]
