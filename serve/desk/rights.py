"""Who may do what, in one place. What somebody may not see does not exist for them."""

from __future__ import annotations

from collections.abc import Iterable

from swathe.errors import ForbiddenError, NotFoundError
from swathe.user import SCOPES_OF, Caller, Scope


def require(caller: Caller, scope: Scope) -> None:
    """Raises ForbiddenError (``access.scope``) where the key does not say it, or the role does not allow it."""
    if scope not in caller.scopes or scope not in SCOPES_OF[caller.user.role]:
        raise ForbiddenError(f"this needs the scope {scope}", code="access.scope",
                             hint=f"use a key with the scope {scope}")  # fmt: skip


def require_admin(caller: Caller) -> None:
    """Raises ForbiddenError (``access.admin``)."""
    if not caller.admin:
        raise ForbiddenError("this is for administrators", code="access.admin", hint="ask one of them")


def owns(caller: Caller, owner: str | None) -> bool:
    """Whether they may change it: their own, and for administrators everything."""
    return caller.admin or owner == caller.user.id


def see(caller: Caller, owner: str | None, what: str, *, shared: bool = False) -> None:
    """Raises NotFoundError unless it is theirs, shared with everybody, or they are an administrator."""
    if not (shared or owns(caller, owner)):
        raise missing(what)


def change(caller: Caller, owner: str | None, what: str, *, shared: bool = False) -> None:
    """Raises NotFoundError where they do not see it, ForbiddenError (``access.owner``) where they only see it."""
    see(caller, owner, what, shared=shared)
    if not owns(caller, owner):
        raise ForbiddenError(f"{what} is shared with you; its owner alone changes it", code="access.owner")


def missing(what: str) -> NotFoundError:
    """The same for what is not there and for what is somebody else's; to be raised."""
    kind = what.split(maxsplit=1)[0]
    return NotFoundError(f"there is no {what}", code=f"{kind}.unknown", hint="check the id")


def granted(caller: Caller, wanted: Iterable[Scope] | None, most: frozenset[Scope]) -> frozenset[Scope]:
    """Scopes of a new key: what is wanted, within what its user may do and what the caller's own key may do.

    Raises ForbiddenError (``access.scope``) for more than that: no key makes a stronger one.
    """
    able = most if caller.admin else most & caller.scopes
    scopes = able if wanted is None else frozenset(wanted)
    if excess := scopes - able:
        raise ForbiddenError(f"a key cannot be given {', '.join(sorted(excess))} here", code="access.scope",
                             field="scopes", hint="ask for scopes that your own key has")  # fmt: skip
    return scopes
