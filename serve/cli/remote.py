"""A run on a service, as if it were here: files go up, the same files come down."""

from __future__ import annotations

import hashlib
import json
import sys
import zipfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from swathe.errors import InputError, Interrupted, NotFoundError, OutputError
from swathe.job import JobState, may_resume
from swathe.masking import Mask

if TYPE_CHECKING:
    from pipelines.run import Observer, Outcome
    from serve.cli.work import Way
    from swathe.client.blocking import Client, RemoteJob
    from swathe.masking import Shapes
    from swathe.recipe import Recipe

_RECORD = ".swathe/remote.json"
_STAYS = ("http://", "https://", "s3://", "upload://", "item://")


@dataclass(frozen=True, slots=True)
class Server:
    """Which service, and who asks."""

    url: str
    """Address."""
    key: str | None
    """What opens it."""


@contextmanager
def connected(server: Server) -> Iterator[Client]:
    """A client of it. Raises InputError."""
    from swathe import Client

    with Client(server.url, server.key) as client:
        yield client


def server_of(url: str | None, key: str | None, data_dir: Path) -> Server:
    """What was named, else the service that runs on this machine. Raises InputError (``service.none``)."""
    from serve.deployments import record

    up = None if url else record.living(data_dir)
    if not url and up is None:
        raise InputError("no service was named, and none runs here", code="service.none", field="--server",
                         hint="give --server or SWATHE_URL, or start one: swathe up")  # fmt: skip
    return Server(url or (up.url if up else ""), key)


def run(recipe: Recipe, way: Way, server: Server) -> Outcome:
    """Submit, follow, fetch. The same command goes on where it was left, with the same job.

    Raises what the job failed with, Interrupted (``job.cancelled``), OutputError, and what a client raises.
    """
    from pipelines.run import Outcome
    from swathe.state import State

    out = _folder(way)
    with connected(server) as client:
        job, already = _job(client, recipe, way, out)
        _tell(way, {"event": "job", "id": job.id, "url": client.url}, f"job {job.id} at {client.url}")
        with left_running(job, client.url):
            follow(job, as_json=way.as_json)
            expect_result(job)
            job.download(out)
    return Outcome(State(job.state.value), json.loads((out / "report.json").read_bytes()), 0, already)


def follow(job: RemoteJob, *, as_json: bool) -> None:
    """Show what happens until it has ended."""
    from serve.cli.watch import watching

    with watching(as_json=as_json, title=job.value.title or job.value.model) as observer:
        for news in job.news():
            if news.event is not None:
                observer.event(news.event)
            _progress(job, observer)


def expect_result(job: RemoteJob) -> None:
    """Raises why it failed, Interrupted (``job.cancelled``) where somebody cancelled it."""
    if job.state is JobState.CANCELLED:
        raise Interrupted(f"job {job.id} was cancelled", code="job.cancelled", hint=f"swathe jobs resume {job.id}")
    job.checked()


def wish_of(client: Client, recipe: Recipe, precision: str | None = None) -> dict[str, Any]:
    """A recipe in the words of a client; files of this machine are uploaded."""
    wish: dict[str, Any] = {
        "sensor": recipe.sensor, "chunk": recipe.chunk, "precision": precision,
        "aoi": _place(recipe.aoi), "min_area": recipe.products.min_area_px, "simplify": recipe.products.simplify_px,
        "gpkg": recipe.products.gpkg, "probabilities": recipe.products.probabilities,
        **{name: value for name, value in asdict(recipe.radiometry).items() if value not in (None, ())},
    }  # fmt: skip
    wish |= _after(client, recipe)
    if recipe.search is not None:
        return wish | asdict(recipe.search)
    return wish | {"inputs": [_lifted(client, text) for text in recipe.inputs]}


def _after(client: Client, recipe: Recipe) -> dict[str, Any]:
    """Steps after the model, in the words of a client."""
    masking, regularity = recipe.postprocess.masking, recipe.postprocess.regularity
    found: dict[str, Any] = {}
    if masking is not None:
        words = [(mask.value, origin) for mask, origin in masking.masks if mask is not Mask.SHAPES]
        found["mask"] = [f"{mask}={origin}" if origin else mask for mask, origin in words]
        found["mask_buffer"] = masking.buffer_px
        found["mask_files"] = [f"{file.rule.value}={_lifted(client, file.href)}" for file in masking.files]
        found |= _shapes(client, masking.shapes)
    if regularity is not None:
        found["regularise"] = f"{regularity.manner.value}={regularity.tolerance_px}"
    if recipe.processor is not None:
        script = Path(recipe.processor.script)
        found["processor"] = {"id": client.add_processor(script)["id"], "parameters": recipe.processor.parameters}
    return found


def _shapes(client: Client, shapes: Shapes | None) -> dict[str, Any]:
    """A file of this machine goes up, whatever its name ends in, as what it is taken for."""
    if shapes is None:
        return {}
    href = shapes.href
    if not href.startswith(_STAYS):
        path = Path(href).expanduser()
        href = f"upload://{client.upload(path, name=f'{path.stem}.geojson').id}"
    return {"mask_shapes": {"url": href, "buffer_m": shapes.buffer_m, "code": shapes.code}}


def _progress(job: RemoteJob, observer: Observer) -> None:
    if job.progress.of_pixels:
        observer.progress(job.progress.pixels, job.progress.of_pixels)


@contextmanager
def left_running(job: RemoteJob, url: str) -> Iterator[None]:
    """Whoever stops waiting does not stop the job."""
    try:
        yield
    except KeyboardInterrupt:
        raise Interrupted(
            f"job {job.id} goes on at {url}",
            hint=f"swathe jobs watch {job.id} follows it, swathe jobs cancel {job.id} stops it; the same command "
            "fetches its result",
        ) from None


# --- before -----------------------------------------------------------------------------------------------------------


def _folder(way: Way) -> Path:
    if "://" in str(way.out):
        raise InputError("results of a service are fetched into a folder of this machine", code="output.remote",
                         field="--out", hint="name a folder")  # fmt: skip
    return Path(way.out)


def _job(client: Client, recipe: Recipe, way: Way, out: Path) -> tuple[RemoteJob, bool]:
    """The job that this folder waits for, or a new one; and whether it was done before."""
    asked = _asked(client.url, recipe, way)
    known = _kept(client, out, asked) if not way.overwrite else None
    if known is None:
        _clear(out, overwrite=way.overwrite)
        known = client.submit(recipe.model, **wish_of(client, recipe, way.precision))
        _keep(out, {"url": client.url, "job": known.id, "asked": asked})
        return known, False
    if may_resume(known.state):
        known.resume()
    return known, known.ended


def _asked(url: str, recipe: Recipe, way: Way) -> str:
    """Hash of all that decides the result, with the state of files of this machine."""
    masking = recipe.postprocess.masking
    shapes = masking.shapes.href if masking and masking.shapes else ""
    files = [(text, _stamp(text)) for text in (*recipe.inputs, recipe.aoi or "", shapes)]
    return hashlib.sha256(repr((url, recipe, way.precision, files)).encode()).hexdigest()


def _stamp(text: str) -> tuple[int, int] | None:
    from swathe.client.wish import dated

    path = Path(dated(text)[1]).expanduser()
    try:
        facts = path.stat()
    except (OSError, ValueError):
        return None
    return facts.st_size, facts.st_mtime_ns


def _kept(client: Client, out: Path, asked: str) -> RemoteJob | None:
    try:
        record = json.loads((out / _RECORD).read_bytes())
        return client.job(record["job"]) if record["asked"] == asked else None
    except (OSError, ValueError, KeyError, TypeError, NotFoundError):
        return None


def _keep(out: Path, record: Mapping[str, str]) -> None:
    path = out / _RECORD
    path.parent.mkdir(parents=True, exist_ok=True)
    fresh = path.with_suffix(".new")
    fresh.write_text(json.dumps(record, indent=1))
    fresh.replace(path)


def _clear(out: Path, *, overwrite: bool) -> None:
    """Nothing of another run may stay beside this one's files. Raises OutputError (``output.taken``)."""
    from pipelines.products.assets import ASSETS

    there = [path for name in (*(kind.name for kind in ASSETS), "item.json") if (path := out / name).exists()]
    if (there or (out / ".swathe").exists()) and not overwrite:
        raise OutputError(f"{out} holds another run", code="output.taken", field="--out",
                          hint="choose another folder, or add --overwrite")  # fmt: skip
    for path in (*there, *((out / ".swathe").glob("*.json*"))):
        path.unlink(missing_ok=True)


# --- what is taken along ----------------------------------------------------------------------------------------------


def _place(aoi: str | None) -> Any:
    """As text, unless it is a file of this machine."""
    if aoi is None or not _is_file(aoi):
        return aoi
    from shapely.geometry import mapping

    from pipelines.imagery.area import read_area

    return mapping(read_area(aoi).geometry)


def _is_file(text: str) -> bool:
    try:
        return Path(text).expanduser().is_file()
    except (OSError, ValueError):
        return False


def _lifted(client: Client, text: str) -> str:
    from swathe.client.wish import dated

    date, href = dated(text.strip())
    if href.startswith(_STAYS):
        return text
    path = Path(href).expanduser()
    if not path.is_dir():
        return f"{date}upload://{client.upload(path).id}"
    with TemporaryDirectory(prefix="swathe-") as passing:
        return f"{date}upload://{client.upload(_packed(path, Path(passing))).id}"


def _packed(folder: Path, into: Path) -> Path:
    """The images of a folder as one file, as they are: imagery is compressed already."""
    from pipelines.imagery.inputs import IMAGES

    packed = into / f"{folder.resolve().name}.zip"
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_STORED) as archive:
        for path in sorted(p for p in folder.iterdir() if p.suffix.lower() in IMAGES and p.is_file()):
            archive.write(path, path.name)
        if not archive.namelist():
            raise InputError(f"the folder {folder} holds no imagery", code="imagery.missing", field="--input",
                             hint="folders are not searched deeper than one level; give the files")  # fmt: skip
    return packed


def _tell(way: Way, line: Mapping[str, Any], text: str) -> None:
    if way.as_json:
        sys.stdout.write(json.dumps(line) + "\n")
        sys.stdout.flush()
    else:
        sys.stderr.write(f"  {text}\n")
