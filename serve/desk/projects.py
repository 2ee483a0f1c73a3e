"""Projects: folders for jobs and uploads, which their owner may share with everybody here."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from serve.desk import rights
from serve.desk.labels import check_labels
from serve.desk.usage import check_count
from serve.store import audit, projects, users
from swathe.errors import NotFoundError
from swathe.user import Scope

if TYPE_CHECKING:
    from sqlalchemy import Connection

    from serve.settings import ServiceSettings
    from serve.store.pages import Page
    from serve.store.store import Store
    from swathe.project import Project
    from swathe.user import Caller


def is_shared(c: Connection, project: str | None) -> bool:
    """Whether what is in it is seen by all; what is in none is not."""
    if project is None:
        return False
    try:
        return projects.get(c, project).shared
    except NotFoundError:  # it went a moment ago
        return False


def check_into(c: Connection, caller: Caller, project: str | None) -> None:
    """Whether they may put something into it. Raises NotFoundError, ForbiddenError."""
    if project is not None:
        found = projects.get(c, project)
        rights.change(caller, found.owner, f"project {project}", shared=found.shared)


class Projects:
    """Own ones are changed, shared ones are seen."""

    def __init__(self, settings: ServiceSettings, store: Store) -> None:
        self._most, self._store = settings.limits.projects_per_user, store

    def add(
        self, caller: Caller, name: str, description: str = "", *, shared: bool = False,
        labels: dict[str, Any] | None = None,
    ) -> Project:  # fmt: skip
        """Add a project. Raises ConflictError (``project.taken``) where its owner has one of that name.

        Raises LimitError (``limit.projects``, ``limit.labels``).
        """
        rights.require(caller, Scope.PROJECTS)
        check_labels(labels)
        with self._store.begin() as c:
            users.hold(c, caller.user.id)  # two requests at once do not both make the last one
            check_count(projects.count(c, caller.user.id), self._most, "projects", "limit.projects")
            made = projects.add(c, caller.user.id, name, description=description, shared=shared, labels=labels or {})
            audit.note(c, caller, "project.add", made.id)
        return made

    def get(self, caller: Caller, id_: str) -> Project:
        """A project that the caller sees. Raises NotFoundError."""
        rights.require(caller, Scope.JOBS_READ)
        with self._store.read() as c:
            found = projects.get(c, id_)
        rights.see(caller, found.owner, f"project {id_}", shared=found.shared)
        return found

    def listed(self, caller: Caller, limit: int = 100, cursor: str | None = None) -> Page[Project]:
        """Projects that the caller sees."""
        rights.require(caller, Scope.JOBS_READ)
        with self._store.read() as c:
            return projects.listed(c, limit, cursor, visible_to=None if caller.admin else caller.user.id)

    def change(self, caller: Caller, id_: str, **changes: Any) -> Project:
        """``name``, ``description``, ``shared``, ``labels``.

        Raises NotFoundError, ForbiddenError, ConflictError (``project.taken``), LimitError (``limit.labels``).
        """
        rights.require(caller, Scope.PROJECTS)
        check_labels(changes.get("labels"))
        with self._store.begin() as c:
            found = projects.get(c, id_)
            rights.change(caller, found.owner, f"project {id_}", shared=found.shared)
            made = projects.change(c, id_, **changes)
            audit.note(c, caller, "project.change", id_, fields=sorted(changes))
        return made

    def drop(self, caller: Caller, id_: str) -> None:
        """Remove a project: its jobs and uploads stay with their owners. Raises NotFoundError, ForbiddenError."""
        rights.require(caller, Scope.PROJECTS)
        with self._store.begin() as c:
            found = projects.get(c, id_)
            rights.change(caller, found.owner, f"project {id_}", shared=found.shared)
            projects.drop(c, id_)
            audit.note(c, caller, "project.drop", id_)
