"""Files that users bring: taken in a stream within bounds, looked at as files of strangers are, then kept."""

from __future__ import annotations

import hashlib
import secrets
import shutil
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from datetime import datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipelines.imagery.archive import is_archive
from pipelines.products.parts import refusals
from pipelines.store.blobs import is_stored
from pipelines.store.scratch import scratch
from serve.desk import rights, usage
from serve.desk.archives import bundled
from serve.desk.catalogue import IMAGERY, item_id
from serve.desk.content import Content, of_path
from serve.desk.inputs import UPLOAD, not_ready, room_of
from serve.desk.labels import check_labels
from serve.desk.links import UPLOAD as LINKED
from serve.desk.links import Seal
from serve.desk.projects import check_into, is_shared
from serve.desk.upload_images import (
    Drawn,
    Moment,
    drawn_of,
    looked_at,
    moments_of,
    safe_name,
    shapes_in,
    was_converted,
)
from serve.desk.wording import told
from serve.store import audit, batches, catalogue, jobs, uploads, users
from swathe.errors import (
    ConflictError,
    ForbiddenError,
    ImageryError,
    LimitError,
    NotFoundError,
    OutputError,
    SwatheError,
)  # fmt: skip
from swathe.project import Upload, UploadState
from swathe.user import Scope

if TYPE_CHECKING:
    from serve.settings import ServiceSettings
    from serve.store.pages import Page
    from serve.store.store import Store
    from swathe.user import Caller

MB = 1_000_000
ARRIVING = "arriving"
"""Name of an object that a client writes by a signed address."""
VALID = timedelta(hours=1)
"""That such an address is good for."""
PLAIN = frozenset({".yaml", ".yml", ".ckpt", ".pt", ".pth", ".bin", ".safetensors"})
"""Endings of files that are no imagery, but what a training left: kept as they came, never named as inputs of a job."""
SHAPES = ".geojson"
"""Ending of files of shapes, which results are masked by: kept as they came, too, where they can be used."""


def scratch_of(settings: ServiceSettings) -> Path:
    """Where uploads lie while they come and are looked at."""
    return settings.service_dir / "scratch"


class Uploads:
    """Bring a file, look what became of it, name it in a job."""

    def __init__(self, settings: ServiceSettings, store: Store) -> None:
        self._settings, self._store = settings, store

    def begin(
        self, caller: Caller, name: str, project: str | None = None, labels: dict[str, Any] | None = None
    ) -> Upload:
        """A place for a file. Raises LimitError (``quota.storage``, ``limit.uploads``, ``limit.labels``).

        Raises NotFoundError (project), ImageryError (``imagery.virtual``).
        """
        rights.require(caller, Scope.UPLOADS)
        _refuse_virtual(name)
        check_labels(labels)
        with self._store.begin() as c:
            check_into(c, caller, project)
            users.hold(c, caller.user.id)  # two requests at once do not both take the last place
            usage.check_storage(c, caller.user, self._settings.limits)
            usage.check_count(uploads.awaited(c, caller.user.id), self._settings.limits.open_uploads_per_user,
                              "uploads that await their bytes", "limit.uploads",
                              "send them, or remove those that are no longer needed")  # fmt: skip
            made = uploads.add(c, caller.user.id, name[:200], project=project, labels=labels or {})
            audit.note(c, caller, "upload.begin", made.id)
        return made

    def write(self, caller: Caller, id_: str, chunks: Iterable[bytes]) -> Upload:
        """Its bytes, all of them. The upload comes back ready, or refused with the reason.

        Raises LimitError (``limit.upload``, ``quota.storage``: it stays open), ConflictError (``upload.state``),
        OutputError (``output.full``).
        """
        found = self._open(caller, id_)
        with self._room() as folder:
            path = folder / safe_name(found.name)
            with told({str(folder): "the service's disk"}):
                sha256 = _take(chunks, path, self._settings.limits.max_upload_mb)
            return self._settle(caller, found, path, sha256)

    def address(self, caller: Caller, id_: str) -> str | None:
        """A signed address for its bytes (PUT), where results are kept in object storage; then ``arrived``."""
        self._open(caller, id_)
        return self._settings.blobs(f"uploads/{id_}").sign(ARRIVING, "PUT", VALID)

    def arrived(self, caller: Caller, id_: str) -> Upload:
        """The bytes were written to that address. Raises as ``write``, and ConflictError where nothing lies there.

        They stay there until the upload is settled, unless they are too many: trouble that passes (a full disk, a
        store or a database out of reach, a quota that has no room yet) costs nobody another transfer.
        """
        found, blobs = self._open(caller, id_), self._settings.blobs(f"uploads/{id_}")
        seen, most = blobs.look(ARRIVING), self._settings.limits.max_upload_mb
        if seen is None:
            raise ConflictError("nothing has arrived yet", code="upload.state", hint="write to its address first")
        if seen.size > most * MB:
            blobs.delete([ARRIVING])
            raise _too_large(seen.size, most)
        try:
            with self._room() as folder:
                path = folder / safe_name(found.name)
                blobs.fetch(ARRIVING, path)
                with path.open("rb") as file:
                    sha256 = hashlib.file_digest(file, "sha256").hexdigest()
                made = self._settle(caller, found, path, sha256)
        except ConflictError:  # another writer has settled it
            blobs.delete([ARRIVING])
            raise
        with suppress(OutputError):  # it is settled; what is left goes with the upload
            blobs.delete([ARRIVING])
        return made

    def get(self, caller: Caller, id_: str) -> Upload:
        """An upload that the caller sees. Raises NotFoundError."""
        rights.require(caller, Scope.UPLOADS)
        with self._store.read() as c:
            found = uploads.get(c, id_)
            rights.see(caller, found.owner, f"upload {id_}", shared=is_shared(c, found.project))
        return found

    def listed(self, caller: Caller, limit: int = 100, cursor: str | None = None) -> Page[Upload]:
        """Uploads that the caller sees, newest first."""
        rights.require(caller, Scope.UPLOADS)
        with self._store.read() as c:
            return uploads.listed(c, limit, cursor, visible_to=None if caller.admin else caller.user.id)

    def drop(self, caller: Caller, id_: str) -> None:
        """Remove an upload with its bytes and items. Raises ConflictError (``upload.used``) while work waits for it."""
        rights.require(caller, Scope.UPLOADS)
        with self._store.begin() as c:
            found = uploads.get(c, id_)
            rights.change(caller, found.owner, f"upload {id_}", shared=is_shared(c, found.project))
            # As upload://ID, as item://imagery/ID, among its masks: whichever way. Wishes first, as they become jobs.
            if batches.mentioned(c, id_):
                raise ConflictError(f"a batch waits to work on the upload {id_}", code="upload.used",
                                    hint="cancel it, or wait for its end")  # fmt: skip
            if jobs.mentioned(c, id_):
                raise ConflictError(f"a job works on the upload {id_}", code="upload.used",
                                    hint="cancel it, or wait for its end")  # fmt: skip
            for n in range(len(found.facts.get("files", ()))):
                catalogue.drop_item(c, IMAGERY, item_id(id_, n))
            uploads.drop(c, id_)
            audit.note(c, caller, "upload.drop", id_)
        self._remove(id_)

    def expire(self, id_: str) -> None:
        """Remove one whose bytes were never settled, with those that came of it; for whoever clears up.

        Raises NotFoundError, ConflictError (``upload.state``) where it was settled meanwhile, OutputError.
        """
        with self._store.begin() as c:
            users.hold(c, uploads.get(c, id_).owner)  # whoever settles it at this moment goes first, or finds it gone
            _expect_open(uploads.get(c, id_))
            uploads.drop(c, id_)
            audit.note(c, None, "upload.expire", id_)
        self._remove(id_)

    def images(self, caller: Caller, id_: str) -> list[str]:
        """All: paths, or addresses in object storage. Raises NotFoundError, ConflictError (``upload.state``)."""
        found = self._ready(caller, id_)
        return [f"{room_of(found, self._settings)}/{name}" for name in found.facts["files"]]

    def uri(self, caller: Caller, id_: str) -> str:
        """Of the one file of an upload that is no imagery, for cards and workers: a path, or an address in storage.

        Raises NotFoundError, ConflictError (``upload.state``, ``upload.kind``).
        """
        found = self._ready(caller, id_)
        if not found.facts.get("plain"):
            raise ConflictError(f"the upload {id_} is imagery", code="upload.kind", hint="bring a config or weights")
        return f"{room_of(found, self._settings)}/{found.facts['files'][0]}"

    def one_by_one(self, caller: Caller, href: str) -> tuple[str, ...]:
        """Names, as inputs of a job, of each image of an upload that a link of ours leads to.

        Empty where the link leads to one image alone, or to nothing that they see, or is none of ours.
        """
        found = self._behind(caller, href)
        names = found.facts.get("files", ()) if found is not None else ()
        return tuple(f"{UPLOAD}{found.id}/{name}" for name in names) if found and len(names) > 1 else ()

    def moments(self, caller: Caller, href: str) -> tuple[Moment, ...]:
        """Of an upload that came as NetCDF, and that a link of ours leads to: each variable at each moment.

        Empty where the link leads to something else, or to nothing that they see, or is none of ours.
        """
        found = self._behind(caller, href)
        return moments_of(found.facts, f"{UPLOAD}{found.id}/") if found is not None else ()

    def drawn(self, caller: Caller, href: str) -> tuple[Drawn, ...]:
        """Of an upload that came as vectors, and that a link of ours leads to: each layer, and its numbers.

        Empty where the link leads to something else, or to nothing that they see, or is none of ours.
        """
        found = self._behind(caller, href)
        return drawn_of(found.facts, f"{UPLOAD}{found.id}/") if found is not None else ()

    def content_name(self, caller: Caller, id_: str, name: str = "") -> str:  # noqa: ARG002  its own is taken
        """What its content is called: as it came, or as what became of it. Raises NotFoundError."""
        return _content_name(self.get(caller, id_))

    def content(self, caller: Caller, id_: str, name: str) -> Content:
        """What came, to be sent; of an archive, NetCDF and vectors the images, as an archive where they are several.

        Raises ConflictError (``upload.state``).
        """
        found = self._ready(caller, id_)
        name = _content_name(found) if was_converted(found.facts) else name
        if is_archive(Path(name)):
            return self._archive(found, name)
        return self._lying(found, found.facts["files"][0], name, found.sha256)

    def file(self, caller: Caller, id_: str, name: str) -> Content:
        """One of its images, to be sent from where it lies: nothing is copied for it.

        Raises NotFoundError (``file.unknown``), ConflictError (``upload.state``).
        """
        found = self._ready(caller, id_)
        if name not in found.facts["files"]:
            raise NotFoundError(f"there is no file {name[:100]!r} of the upload {id_}", code="file.unknown",
                                hint="facts.files of the upload lists all")  # fmt: skip
        return self._lying(found, name, name)

    # --- pieces ---

    def _behind(self, caller: Caller, href: str) -> Upload | None:
        """The upload that a link of ours leads to, where it is ready and they see it."""
        with suppress(ForbiddenError, NotFoundError):
            link = Seal.of(self._settings).of_address(href)
            if link is not None and (link.kind, link.method) == (LINKED, "GET"):
                found = self.get(caller, link.id)
                return found if found.state is UploadState.READY else None
        return None

    def _lying(self, found: Upload, file: str, name: str, tag: str = "") -> Content:
        blobs = self._settings.blobs(f"uploads/{found.id}/{found.facts['room']}")
        signed = blobs.sign(file, "GET", VALID)
        if signed is None:
            return of_path(Path(room_of(found, self._settings)) / file, name, tag)
        if len(found.facts["files"]) == 1:
            return Content(name, found.size, signed, tag)
        if (blob := blobs.look(file)) is None:
            raise rights.missing(f"file {file!r} of the upload {found.id}")
        return Content(name, blob.size, signed, tag)

    @contextmanager
    def _room(self) -> Iterator[Path]:
        """A private folder on the disk of the service's data: uploads are large. Raises OutputError."""
        root = scratch_of(self._settings)
        with ExitStack() as stack:
            with told({str(root): "the service's disk"}), refusals(root):
                folder = stack.enter_context(scratch(root))
            yield folder

    def _archive(self, found: Upload, name: str) -> Content:
        blobs, room = self._settings.blobs(f"uploads/{found.id}"), found.facts["room"]
        members = {image: f"{room}/{image}" for image in found.facts["files"]}
        bundle = bundled(blobs, room, datetime.fromisoformat(found.created), members)
        return Content(name, bundle.size, bundle, bundle.tag)

    def _ready(self, caller: Caller, id_: str) -> Upload:
        found = self.get(caller, id_)
        if found.state is not UploadState.READY:
            raise not_ready(found)
        return found

    def _open(self, caller: Caller, id_: str) -> Upload:
        rights.require(caller, Scope.UPLOADS)
        with self._store.read() as c:
            found = uploads.get(c, id_)
            rights.change(caller, found.owner, f"upload {id_}", shared=is_shared(c, found.project))
            _expect_open(found)
        return found

    def _settle(self, caller: Caller, found: Upload, path: Path, sha256: str) -> Upload:
        """Looked at, kept, and told: in this order, so that what is ready is there."""
        size, limits = path.stat().st_size, self._settings.limits
        with self._store.read() as c:
            usage.check_storage(c, users.get(c, found.owner), limits, size / MB)
        try:
            with told({str(path): found.name, path.name: found.name}):
                images, facts = self._looked_at(path)
        except (ImageryError, LimitError) as error:
            return self._told(caller, found, UploadState.REFUSED, size, sha256, problem=error.problem.as_dict())
        room = secrets.token_hex(4)  # of this writer: whoever else writes at the same time has another
        blobs = self._settings.blobs(f"uploads/{found.id}/{room}")
        try:
            size = sum(image.stat().st_size for image in images)
            for image in images:
                blobs.put_file(image.name, image, keep=False)
            return self._told(caller, found, UploadState.READY, size, sha256, facts={**facts, "room": room})
        except SwatheError:
            blobs.delete([image.name for image in images])
            raise

    def _looked_at(self, path: Path) -> tuple[list[Path], dict[str, Any]]:
        """What it holds, in files of their own, and what is to be known of it. Raises ImageryError, LimitError."""
        kept = {"files": [path.name], "plain": True}
        if path.suffix == SHAPES:
            return [path], kept | {"shapes": shapes_in(path, self._settings.shape_limits)}
        if path.suffix in PLAIN:
            return [path], kept
        settings = self._settings
        return looked_at(path, settings.unpacking.limits, settings.image_limits, settings.limits.bounds)

    def _told(
        self, caller: Caller, found: Upload, state: UploadState, size: int, sha256: str, **more: Any
    ) -> Upload:  # fmt: skip
        with self._store.begin() as c:
            users.hold(c, found.owner)  # the first of two writers settles it
            _expect_open(uploads.get(c, found.id))
            if state is UploadState.READY:  # what was written beside it has taken its room by now
                usage.check_storage(c, users.get(c, found.owner), self._settings.limits, size / MB)
            made = uploads.settle(c, found.id, state, size, sha256, more.get("facts", {}), more.get("problem"))
            audit.note(c, caller, f"upload.{state}", found.id, size=size)
        return made

    def _remove(self, id_: str) -> None:
        if is_stored(self._settings.place):
            blobs = self._settings.blobs(f"uploads/{id_}")
            blobs.delete([blob.name for blob in blobs.list()])
        else:
            shutil.rmtree(Path(self._settings.place) / "uploads" / id_, ignore_errors=True)


def _content_name(found: Upload) -> str:
    name = safe_name(found.name)
    if not was_converted(found.facts):
        return name
    return f"{Path(name).stem}{'.tif' if len(found.facts['files']) == 1 else '.zip'}"


def _expect_open(found: Upload) -> None:
    if found.state is not UploadState.OPEN:
        raise ConflictError(f"the upload {found.id} is {found.state} already", code="upload.state",
                            hint="begin another one")  # fmt: skip


def _refuse_virtual(name: str) -> None:
    if name.lower().endswith((".vrt", ".xml")):
        raise ImageryError(f"{name[:100]!r} is a virtual file, which can point at any other file",
                           code="imagery.virtual", field="name", hint="bring the GeoTIFF itself")  # fmt: skip


def _take(chunks: Iterable[bytes], path: Path, max_mb: float) -> str:
    digest, size = hashlib.sha256(), 0
    with _writing(path) as write:
        for chunk in chunks:
            size += len(chunk)
            if size > max_mb * MB:
                raise _too_large(size, max_mb)
            digest.update(chunk)
            write(chunk)
    return digest.hexdigest()


@contextmanager
def _writing(path: Path) -> Iterator[Callable[[bytes], None]]:
    """Problems of the disk are ours to tell; what the connection says passes through."""
    with refusals(path.parent):
        file = path.open("wb")

    def write(chunk: bytes) -> None:
        with refusals(path.parent):
            file.write(chunk)

    try:
        yield write
    finally:
        with refusals(path.parent):
            file.close()


def _too_large(size: int, max_mb: float) -> LimitError:
    return LimitError(f"the file has {size / MB:,.1f} MB or more, {max_mb:,.1f} MB are allowed", code="limit.upload",
                      hint="cut it, or give its address instead")  # fmt: skip
