"""The catalogue as one caller sees it: results and imagery of their own, and what is everybody's."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pipelines.catalogue.register import IMAGERY, stub
from serve.desk import rights
from serve.desk.inputs import room_of
from serve.desk.projects import is_shared
from serve.desk.wording import told
from serve.store import audit, catalogue, uploads
from swathe.errors import ConflictError
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
        self._settings, self._store, self._uploads = settings, store, brought

    def owner_of(self, caller: Caller) -> str | None:
        """Whose items they see, beside shared ones and those of nobody in particular; None: everybody's."""
        rights.require(caller, Scope.CATALOGUE_READ)
        return None if caller.admin else caller.user.id

    def view(self, caller: Caller) -> Catalogue:
        """The catalogue as they see it now, to be read from."""
        return catalogue.seen(self._store, self._settings.service_dir, self.owner_of(caller))

    def item(self, caller: Caller, collection: str, id_: str) -> Json:
        """One that they see. Raises NotFoundError (``item.unknown``)."""
        rights.require(caller, Scope.CATALOGUE_READ)
        return catalogue.item(self._store, self._settings.service_dir, collection, id_, caller)

    def register(self, caller: Caller, upload: str, when: str | None = None, title: str = "") -> list[Json]:
        """Imagery of one's own, an Item per file of an upload; again: it is renewed.

        ``when``: RFC 3339 or a date; else the time in a file's name or, in a folder of this machine, of the file. What
        lies in object storage is looked at there, and not fetched. Raises NotFoundError, ConflictError
        (``upload.state``), ImageryError, ReadError, InputError (``catalogue.datetime``).
        """
        from pipelines.catalogue.plain import image_items
        from pipelines.imagery.remote_files import RemoteFiles

        rights.require(caller, Scope.CATALOGUE_WRITE)
        room = room_of(self._uploads.get(caller, upload), self._settings)
        files = self._uploads.images(caller, upload)
        said = {UPLOAD: upload, **({"title": title} if title else {})}
        network = self._settings.network
        with told({href: href.rpartition("/")[2] for href in files}), RemoteFiles(network, network.retry) as remote:
            found = image_items(files, when, remote=remote)
        items = [_item(item, item_id(upload, n), room, said) for n, item in enumerate(found)]
        with self._store.begin() as c:
            found = uploads.get(c, upload)
            rights.change(caller, found.owner, f"upload {upload}", shared=is_shared(c, found.project))
            catalogue.put_collection(c, stub(IMAGERY))
            for item in items:
                catalogue.put_item(c, item, found.owner, found.project)
            audit.note(c, caller, "catalogue.register", upload, items=len(items))
        return items

    def drop(self, caller: Caller, collection: str, id_: str) -> None:
        """Forget imagery that was registered; its upload stays. Raises NotFoundError, ConflictError, ForbiddenError."""
        rights.require(caller, Scope.CATALOGUE_WRITE)
        found = catalogue.item(self._store, self._settings.service_dir, collection, id_, caller)["properties"]
        rights.change(caller, found.get(catalogue.OWNER), f"item {id_}", shared=True)  # it was seen
        if UPLOAD not in found:
            raise ConflictError(f"the item {id_} is the result of a job", code="item.result",
                                hint="remove the job")  # fmt: skip
        with self._store.begin() as c:
            catalogue.drop_item(c, collection, id_)
            audit.note(c, caller, "catalogue.drop", f"{collection}/{id_}")


def _item(item: Json, id_: str, room: str, said: Json) -> Json:
    """Under an id that follows from the upload, so that it goes with it; its file is where all processes find it."""
    assets = {key: {**a, "href": f"{room}/{a['href'].rpartition('/')[2]}"} for key, a in item["assets"].items()}
    return {**item, "id": id_, "collection": IMAGERY, "properties": {**item["properties"], **said}, "assets": assets}


def item_id(upload: str, n: int) -> str:
    """Of the n-th image of an upload."""
    return f"{upload}-{n}" if n else upload
