"""``swathe keys``: keys for people and programs, made on the machine of the service, directly in its database."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Annotated, Any

import typer

from swathe.errors import InputError, NotFoundError
from swathe.user import SCOPES_OF, Key, Role, Scope

if TYPE_CHECKING:
    from sqlalchemy import Connection

    from serve.settings import ServiceSettings
    from swathe.user import User

app = typer.Typer(name="keys", help="Keys of the service's users. A key is shown once, when it is made.",
                  no_args_is_help=True)  # fmt: skip
AsJson = Annotated[bool, typer.Option("--json", help="Machine-readable output.")]
User_ = Annotated[str, typer.Option("--user", help="E-mail address; whoever is not there yet is added.")]


@app.command()
def create(
    user: User_,
    scopes: Annotated[str | None, typer.Option(help="With commas. Default: all of the user's role.")] = None,
    days: Annotated[int | None, typer.Option(min=1, help="Until it expires. Default: never.")] = None,
    role: Annotated[Role | None, typer.Option(help="Of the user. Default: as it is; of a new one, member.")] = None,
    label: Annotated[str, typer.Option(help="What it is for.")] = "",
    as_json: AsJson = False,
) -> None:
    """Make a key."""
    from serve.store import audit, keys

    with _writing() as (c, settings):
        owner = _user(c, user.strip().lower(), role)
        chosen = _scopes(scopes, owner.role)
        made, text = keys.make(c, keys.Pepper(settings.pepper.encode()), owner.id, chosen, label, days)
        audit.note(c, None, "key.make", made.id, user=owner.id)
    facts = {"key": f"swk-{text}", **_facts(made, owner.email)}
    if as_json:
        _print(facts)
    else:
        sys.stdout.write(f"{facts['key']}\n")


@app.command("list")
def listing(
    user: Annotated[str | None, typer.Option("--user", help="E-mail address. Default: everybody.")] = None,
    as_json: AsJson = False,
) -> None:
    """List keys: what they are for, never what they are."""
    from serve.store import keys

    with _writing() as (c, _):
        rows = [_facts(key, owner.email) for owner in _owners(c, user) for key in keys.of_user(c, owner.id)]
    if as_json:
        _print(rows)
        return
    for row in rows:
        life = row["expires"] or "never expires"
        state = "" if row["active"] else "  (off)"
        sys.stdout.write(f"{row['id']:30} {row['prefix']}…  {row['user']:28} {life:26} {row['label']}{state}\n")


@app.command()
def drop(
    key: Annotated[str, typer.Argument(help="Id, as `list` shows it.")],
    as_json: AsJson = False,
) -> None:
    """Remove a key; it opens nothing from now on."""
    from serve.store import audit, keys

    with _writing() as (c, _):
        keys.drop(c, key)
        audit.note(c, None, "key.drop", key)
    if as_json:
        _print({"dropped": key})


@contextmanager
def _writing() -> Iterator[tuple[Connection, ServiceSettings]]:
    from serve.settings import ServiceSettings

    settings = ServiceSettings.read()
    store = settings.open_store()
    try:
        with store.begin() as c:
            yield c, settings
    finally:
        store.close()


def _user(c: Connection, email: str, role: Role | None) -> User:
    from serve.store import users

    found = users.by_email(c, email)
    if found is None:
        return users.add(c, email, role or Role.MEMBER)
    return users.change(c, found.id, role=role) if role and role is not found.role else found


def _owners(c: Connection, email: str | None) -> Sequence[User]:
    from serve.store import users

    if email is not None:
        found = users.by_email(c, email.strip().lower())
        if found is None:
            raise NotFoundError(f"there is no user {email}", field="--user")
        return [found]
    everybody: list[User] = []
    cursor = None
    while True:
        page = users.listed(c, 200, cursor)
        everybody += page.items
        if page.cursor is None:
            return everybody
        cursor = page.cursor


def _scopes(text: str | None, role: Role) -> frozenset[Scope]:
    """Those that were named; never more than the role has. Raises InputError."""
    if text is None:
        return SCOPES_OF[role]
    names = [name.strip() for name in text.split(",") if name.strip()]
    known = {scope.value for scope in SCOPES_OF[role]}
    strange = [name for name in names if name not in known]
    if strange or not names:
        raise InputError(f"a {role.value} has no scope {', '.join(strange) or '(none)'}", field="--scopes",
                         hint=f"of {', '.join(sorted(known))}", code="key.scopes")  # fmt: skip
    return frozenset(map(Scope, names))


def _facts(key: Key, email: str) -> dict[str, Any]:
    return {"id": key.id, "user": email, "prefix": key.prefix, "scopes": sorted(key.scopes), "label": key.label,
            "created": key.created, "expires": key.expires, "active": key.active, "used": key.used}  # fmt: skip


def _print(value: Any) -> None:
    sys.stdout.write(json.dumps(value, indent=1) + "\n")
