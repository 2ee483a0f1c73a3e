"""The catalogue as one caller sees it: results and imagery of their own, and what is everybody's."""

from __future__ import annotations

from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipelines.catalogue.register import IMAGERY
from pipelines.catalogue.search import Search
from serve.desk import rights
from serve.store import audit, catalogue, uploads
from swathe.errors import ConflictError, InputError
from swathe.project import UploadState
from swathe.user import Scope

if TYPE_CHECKING:
    from pipelines.catalogue.search import Page
    from pipelines.catalogue.store import Catalogue
    from serve.desk.uploads import Uploads
    from serve.settings import ServiceSettings
    from serve.store.store import Store
    from swathe.project import Upload
    from swathe.user import Caller

UPLOAD = "swathe:upload"
"""Property of an item that a user registered: the upload that its files belong to."""


class Holdings:
    """Collections and items: searched, registered, forgotten."""

    def __init__(self, settings: ServiceSettings, store: Store, brought: Uploads) -> None:
        """Nothing is read yet."""
        self._settings, self._store, self._uploads = settings, store, brought

    @cached_property
    def reader(self) -> Catalogue:
        """All of it, whoever asks: what an API shows of it goes through ``owner_of``."""
        return catalogue.reader(self._store, self._settings.service_dir)

    def owner_of(self, caller: Caller) -> str | None:
        """Whose items they see beside those of nobody in particular; None: everybody's."""
        rights.require(caller, Scope.CATALOGUE_READ)
        return None if caller.admin else caller.user.id
