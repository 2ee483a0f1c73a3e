"""The catalogue as one caller sees it: results and imagery of their own, and what is everybody's."""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING, Any

from pipelines.catalogue.register import IMAGERY, stub
from serve.desk import rights
from serve.store import audit, catalogue, uploads
from swathe.user import Scope

if TYPE_CHECKING:
    from pipelines.catalogue.store import Catalogue
    from serve.desk.uploads import Uploads
    from serve.settings import ServiceSettings
    from serve.store.store import Store
    from swathe.user import Caller

Json = dict[str, Any]
UPLOAD = "swathe:upload"
"""Property of an item that a user registered: the upload that its file belongs to."""


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

    def register(self, caller: Caller, upload: str, when: str | None = None, title: str = "") -> list[Json]:
        """Imagery of one's own, an Item per file of an upload; again: it is renewed.

        ``when``: RFC 3339 or a date; else the time in a file's name or tags. Raises NotFoundError, ConflictError
        (``upload.state``), ImageryError, InputError (``catalogue.datetime``).
        """
        from pipelines.catalogue.plain import image_items

        rights.require(caller, Scope.CATALOGUE_WRITE)
        files = self._uploads.images(caller, upload)
        items = [self._item(upload, n, item, title) for n, item in enumerate(image_items(files, when))]
        with self._store.begin() as c:
            owner = uploads.get(c, upload).owner
            rights.change(caller, owner, f"upload {upload}")
            catalogue.put_collection(c, stub(IMAGERY))
            for item in items:
                catalogue.put_item(c, item, owner)
            audit.note(c, caller, "catalogue.register", upload, items=len(items))
        return items

    def _item(self, upload: str, n: int, item: Json, title: str) -> Json:
        """Under an id that follows from the upload, so that it goes with it."""
        properties = {**item["properties"], UPLOAD: upload, **({"title": title} if title else {})}
        place = f"{self._settings.place}/uploads/{upload}"
        assets = {key: {**a, "href": f"{place}/{a['href'].rpartition('/')[2]}"} for key, a in item["assets"].items()}
        return {**item, "id": item_id(upload, n), "collection": IMAGERY, "properties": properties, "assets": assets}


def item_id(upload: str, n: int) -> str:
    """Of the n-th image of an upload."""
    return f"{upload}-{n}" if n else upload
