"""Inputs of a job, from what was asked to what is opened: uploads and items become files, other paths are refused."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipelines.imagery.inputs import moment, parse_input
from serve.desk import rights
from serve.desk.links import UPLOAD as LINKED
from serve.desk.links import Seal
from serve.desk.processors import settled_wish
from serve.desk.upload_images import came_as_netcdf
from serve.desk.wording import told
from serve.store import catalogue, uploads
from swathe.errors import ConflictError, ForbiddenError, ImageryError, InputError, SwatheError
from swathe.imagery import is_remote, shown, with_plain_scheme
from swathe.project import UploadState

if TYPE_CHECKING:
    from serve.desk.asking import Asking
    from serve.settings import ServiceSettings
    from serve.store.store import Store
    from swathe.postprocess import Postprocess
    from swathe.project import Upload
    from swathe.recipe import Recipe
    from swathe.user import Caller

UPLOAD, ITEM = "upload://", "item://"
_IMAGES = ("image/tiff", "image/jp2")
_SHAPES = "postprocess.mask_shapes.url"


@dataclass(frozen=True, slots=True)
class Settled:
    """A recipe that can be looked at."""

    recipe: Recipe
    """Its inputs are paths and addresses."""
    names: dict[str, str] = field(default_factory=dict)
    """Those paths -> what was asked for; for ``serve.desk.wording``."""


def settled(
    recipe: Recipe, settings: ServiceSettings, store: Store, caller: Caller | None = None, accepted: str = ""
) -> Settled:
    """The recipe with uploads and items put in. ``caller``: None where all that was looked at before.

    ``accepted``: the moment since which the wish waits, where it does; a processor that was deleted later still runs.

    Raises NotFoundError (``upload.unknown``, ``item.unknown``, ``processor.unknown``), ConflictError
    (``upload.state``), ImageryError (``url.*``), InputError (``source.unknown``, ``processor.parameters``).
    """
    door = _Door(settings, store, caller)
    _check_source(recipe, settings)
    inputs, names = [], {}
    for text in recipe.inputs:
        spec = parse_input(text)
        for href in door.opened(spec.href, spec.when):
            inputs.append(f"{spec.when}={href}" if spec.when else href)
            if href != spec.href:
                names[href] = spec.href
    processor = recipe.processor
    if processor is not None:
        processor = settled_wish(processor, settings, store, caller, accepted)
    postprocess = _masks(recipe, door, names)
    recipe = replace(recipe, inputs=tuple(inputs), postprocess=postprocess, processor=processor)
    return Settled(recipe, names)


def _masks(recipe: Recipe, door: _Door, names: dict[str, str]) -> Postprocess:
    """Mask files and files of shapes are read under the same rules as imagery."""
    masking = recipe.postprocess.masking
    if masking is None:
        return recipe.postprocess
    files = []
    for file in masking.files:
        for href in door.opened(file.href):
            files.append(replace(file, href=href))
            if href != file.href:
                names[href] = file.href
    shapes = masking.shapes
    if shapes is not None:
        with _about(_SHAPES):
            href = door.shapes(shapes.href)
        if href != shapes.href:
            shapes = replace(shapes, href=href, name=shapes.href)
            names[href] = shapes.name
    return replace(recipe.postprocess, masking=replace(masking, files=tuple(files), shapes=shapes))


@contextmanager
def _about(field: str) -> Iterator[None]:
    """What is wrong is that field."""
    try:
        yield
    except SwatheError as error:
        error.field = field
        raise


def at_home(asking: Asking, settings: ServiceSettings) -> Asking:
    """The same wish, in which links to uploads here are named as uploads.

    Under whatever name the service is reached, it does not ask itself over a network; what opens is not kept.
    Raises ForbiddenError (``link.expired``), ImageryError (``url.link``: it leads to something else).
    """
    seal = Seal.of(settings)
    with told():
        changed: dict[str, Any] = {"inputs": tuple(_at_home(text, seal) for text in asking.inputs)}
        shapes = asking.postprocess.mask_shapes
        if shapes is not None:
            with _about(_SHAPES):
                here = shapes.model_copy(update={"url": _at_home(shapes.url, seal)})
            changed["postprocess"] = asking.postprocess.model_copy(update={"mask_shapes": here})
        return asking.model_copy(update=changed)


def _at_home(text: str, seal: Seal) -> str:
    spec = parse_input(text)
    try:
        link = seal.of_address(spec.href)
    except ForbiddenError as error:
        error.field = "inputs"
        raise
    if link is None:
        return text
    if (link.kind, link.method) != (LINKED, "GET"):
        raise ImageryError("this link of the service leads to no upload that can be read", code="url.link",
                           field="inputs", hint=f"name it as {UPLOAD}ID or {ITEM}COLLECTION/ITEM")  # fmt: skip
    return f"{spec.when}={UPLOAD}{link.id}" if spec.when else f"{UPLOAD}{link.id}"


def _check_source(recipe: Recipe, settings: ServiceSettings) -> None:
    """Folders and files of this machine are no sources of a service."""
    source = recipe.search.source.strip() if recipe.search else ""
    if source and source not in settings.sources and not is_remote(source):
        raise InputError(f"there is no source {source[:80]!r}", code="source.unknown", field="search.source",
                         hint=f"known are {', '.join(sorted(settings.sources))}; or give an https address")  # fmt: skip


@dataclass(frozen=True, slots=True)
class _Door:
    settings: ServiceSettings
    store: Store
    caller: Caller | None

    def opened(self, href: str, when: str | None = None) -> tuple[str, ...]:
        """What one input stands for; a scheme may be written in capitals, and is read the same by all rules.

        ``when``: its date as typed, which chooses among the moments of what came as NetCDF.
        """
        href = with_plain_scheme(href)
        if href.startswith(UPLOAD):
            return self._upload(href.removeprefix(UPLOAD), when)
        if href.startswith(ITEM):
            return self._item(href.removeprefix(ITEM))
        if is_remote(href):
            return (self._elsewhere(href),)
        return (self._below_roots(href),)

    def shapes(self, href: str) -> str:
        """The same of a file of shapes. What an address says by itself is refused at once, not when the run begins.

        Raises as ``opened``, and ImageryError (``url.*``).
        """
        from pipelines.remote.address import look_at

        href = with_plain_scheme(href)
        if href.startswith(UPLOAD):
            found = self._ready(href.removeprefix(UPLOAD))
            if "shapes" not in found.facts:
                raise ImageryError(f"the upload {found.id} is no GeoJSON", code="mask.shapes.format",
                                   hint="bring one: ogr2ogr -t_srs EPSG:4326 shapes.geojson IN")  # fmt: skip
            return files_of(found, self.settings)[0]
        if not is_remote(href):
            return self._below_roots(href)
        look_at(href, self.settings.network_of_strangers)
        return self._elsewhere(href)

    def _ready(self, id_: str) -> Upload:
        with self.store.read() as c:
            found = uploads.get(c, id_)
        if self.caller is not None:
            rights.see(self.caller, found.owner, f"upload {id_}", shared=_shared(self.store, found.project))
        if found.state is not UploadState.READY:
            raise not_ready(found, "inputs")
        return found

    def _upload(self, text: str, when: str | None) -> tuple[str, ...]:
        id_, _, image = text.partition("/")
        found = self._ready(id_)
        if found.facts.get("plain"):
            raise ImageryError(f"the upload {id_} is no imagery", code="upload.kind", field="inputs",
                               hint="name one that is")  # fmt: skip
        if not image and came_as_netcdf(found.facts):
            return tuple(path for name in _of_moment(found, when) for path in files_of(found, self.settings, name))
        return files_of(found, self.settings, image)

    def _item(self, name: str) -> tuple[str, ...]:
        collection, _, id_ = name.partition("/")
        document = catalogue.item(self.store, self.settings.service_dir, collection, id_, visible_to=self._viewer())
        hrefs = tuple(href for asset in _images(document) for href in self._asset(str(asset.get("href", ""))))
        if not hrefs:
            raise ImageryError(f"the item {name[:200]} holds no imagery", code="imagery.missing", field="inputs",
                               hint="give an item with a GeoTIFF or JPEG 2000 of the role data")  # fmt: skip
        return hrefs

    def _asset(self, href: str) -> tuple[str, ...]:
        """What the service itself wrote into its catalogue: its own results are read where they lie."""
        own = href.startswith(f"{self.settings.place}/") and ".." not in href.split("/")
        return (href,) if own else self.opened(href)

    def _elsewhere(self, href: str) -> str:
        """An address that somebody wrote. Raises ImageryError (``url.private``) for what is kept for others."""
        from pipelines.remote.address import expect_open

        try:
            expect_open(href, self.settings.network_of_strangers)
        except ImageryError as error:
            error.field, error.hint = "inputs", f"name what lies there as {UPLOAD}ID or {ITEM}COLLECTION/ITEM"
            raise
        return href

    def _below_roots(self, href: str) -> str:
        """Links are followed first, so that none leads out."""
        path = Path(href) if "://" not in href and "\0" not in href else None
        if path is not None and path.is_absolute():
            real = path.resolve()
            if any(real.is_relative_to(root.resolve()) for root in self.settings.local_roots):
                return str(real)
        raise ImageryError(f"{shown(href)[:200]!r} is no address that the service reads", code="url.local",
                           field="inputs", hint=f"give https:// or s3://, or {UPLOAD}ID")  # fmt: skip

    def _viewer(self) -> Caller | None:
        return self.caller


def _of_moment(found: Upload, when: str | None) -> list[str]:
    """Names of the images of one moment. Raises InputError (``netcdf.moments``) where that could be several."""
    from pipelines.netcdf.inputs import chosen

    said = {one["name"]: moment(one["datetime"]) if one["datetime"] else None for one in found.facts["images"]}
    try:
        return chosen(f"{UPLOAD}{found.id}", said, None if when is None else moment(when).astimezone(UTC))
    except InputError as error:
        error.field = "inputs"
        raise


def files_of(upload: Upload, settings: ServiceSettings, image: str = "") -> tuple[str, ...]:
    """Where the images of an upload lie: one folder for several of them, which have no order of their own.

    ``image``: the name of one of them. Raises ImageryError (``imagery.missing``) where there is none of that name.
    """
    place, names = room_of(upload, settings), upload.facts.get("files", [])
    if image and image not in names:
        raise ImageryError(f"the upload {upload.id} holds no image {image[:100]!r}", code="imagery.missing",
                           field="inputs", hint=f"it holds {', '.join(names[:10])}")  # fmt: skip
    names = [image] if image else names
    if settings.place.startswith("s3://") or len(names) == 1:
        return tuple(f"{place}/{name}" for name in names)
    return (place,)


def not_ready(upload: Upload, field: str = "") -> ConflictError:
    """To be raised (``upload.state``). Of one that was refused it says why: nobody reads that elsewhere."""
    if upload.state is UploadState.REFUSED:
        why = upload.problem or {}
        return ConflictError(f"the upload {upload.id} was refused: {why.get('detail') or 'it is not usable'}",
                             code="upload.state", field=field, hint=str(why.get("hint", "")))  # fmt: skip
    return ConflictError(f"the upload {upload.id} is {upload.state}", code="upload.state", field=field,
                         hint="send its content, and wait until it is ready")  # fmt: skip


def room_of(upload: Upload, settings: ServiceSettings) -> str:
    """The folder of its files: that of the one writer whose bytes count."""
    return f"{settings.place}/uploads/{upload.id}/{upload.facts.get('room', '')}"


def _images(document: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """The result where it is one of ours, else all that is data."""
    assets: list[dict[str, Any]] = list(document.get("assets", {}).values())
    own = [asset for asset in assets if str(asset.get("href", "")).endswith("/result.tif")]
    if "swathe:model" in document.get("properties", {}) and own:
        yield own[0]
        return
    for asset in assets:
        kind = str(asset.get("type", ""))
        if kind.startswith(_IMAGES) and {"data", "reflectance"} & set(asset.get("roles", ["data"])):
            yield asset


def _shared(store: Store, project: str | None) -> bool:
    from serve.desk.projects import is_shared

    with store.read() as c:
        return is_shared(c, project)
