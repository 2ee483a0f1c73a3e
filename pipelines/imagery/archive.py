"""Archives and files of strangers: what may not be in them is refused by name, before anything is decoded.

Only imagery is taken out of an archive, regular files with an image's ending and an image's first bytes. Side files
(.aux.xml, .ovr, .tfw, …) stay inside: they can point elsewhere or change what a file means.
"""

from __future__ import annotations

import calendar
import hashlib
import os
import shutil
import stat
import struct
import tempfile
import time
import zipfile
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath
from typing import IO, Self

from pipelines.imagery.peek import driver_of
from swathe.errors import ImageryError, OutputError

MB = 1_000_000
ENDINGS = {
    ".tif": "GTiff", ".tiff": "GTiff", ".gtif": "GTiff", ".gtiff": "GTiff", ".cog": "GTiff",
    ".jp2": "JP2OpenJPEG", ".j2k": "JP2OpenJPEG",
}  # fmt: skip
"""Endings of imagery -> GDAL's driver."""
_ARCHIVES = {".zip", ".tar", ".gz", ".tgz", ".bz2", ".xz", ".zst", ".7z", ".rar", ".kmz", ".safe"}
_SMALL = 10 * MB
"""An entry up to this size may be packed as tightly as it likes: an empty image is."""
PARTIAL = ".partial-"
"""In the name of a folder that something is still being put into."""
_KEPT_S = 7 * 86400
"""What was unpacked and not used for so long is removed."""


@dataclass(frozen=True, slots=True)
class Limits:
    """What is taken from strangers."""

    archive_mb: float = 20_000
    """Of an archive, packed."""
    total_mb: float = 50_000
    """Of everything in it, unpacked."""
    file_mb: float = 20_000
    """Of one file."""
    ratio: float = 200
    """Unpacked over packed bytes, of an entry over 10 MB and of all together."""
    entries: int = 10_000
    """Of an archive, whatever they are."""
    side: int = 4_000_000
    """Rows or columns of an image."""
    pixels: int = 20_000_000_000
    """Of an image: rows x columns."""
    bands: int = 4096
    """Of an image."""

    @classmethod
    def of(cls, archive_mb: float, side: int) -> Self:
        """For archives of so many megabytes, with all other sizes in the same proportion to that."""
        usual = cls()
        share = archive_mb / usual.archive_mb
        total, file = usual.total_mb * share, usual.file_mb * share
        return replace(usual, archive_mb=archive_mb, total_mb=total, file_mb=file, side=side)


LIMITS = Limits()


@dataclass(frozen=True, slots=True)
class Unpacking:
    """What is done about archives among the inputs."""

    room: Path | None = None
    """Where their images go, each archive into a folder of its own; every worker must see it. None: a private one
    below the system's folder for temporary files."""
    limits: Limits = LIMITS
    """What is taken."""
    room_mb: float | None = None
    """No further archive is unpacked while the room holds so much; None: as much as the disk takes."""


AS_USUAL = Unpacking()
"""For the user's own machine."""


def is_archive(path: Path) -> bool:
    """Whether this is named like an archive that is taken."""
    return path.suffix.lower() == ".zip"


def is_zip(head: bytes) -> bool:
    """Whether a file that begins so is one, whatever it is called."""
    return head.startswith((b"PK\3\4", b"PK\5\6"))


def unpacked(archive: Path, unpacking: Unpacking = AS_USUAL) -> Path:
    """The folder of an archive's images: unpacked once, all or nothing, and found again by the archive's content.

    Raises ImageryError (``archive.*``, ``image.*``), OutputError (``output.full``); then nothing is left behind.
    """
    with disk(archive.name):
        check_size(archive.name, archive.stat().st_size, unpacking.limits)
        with archive.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
    folder = place_of(archive.name, digest, unpacking)
    return folder if folder.is_dir() else unpack(archive, folder, unpacking.limits)


def place_of(name: str, digest: str, unpacking: Unpacking) -> Path:
    """The folder of the images of one archive, which may be there: then it is kept for longer. The room above is made.

    ``name`` is for messages, ``digest`` tells archives apart.

    Raises ImageryError (``archive.failed``, ``archive.room``), OutputError (``output.full``).
    """
    with disk(name):
        room = unpacking.room or _own_room()
        folder = room / digest[:32]
        if folder.is_dir():
            os.utime(folder)
        else:
            room.mkdir(parents=True, exist_ok=True)
            _sweep(room)
            _check_room(room, unpacking.room_mb)
    return folder


def images_in(folder: Path) -> list[str]:
    """What was unpacked, sorted by name."""
    return sorted(str(path) for path in folder.rglob("*") if path.is_file())


def unpack(archive: Path, folder: Path, limits: Limits = LIMITS) -> Path:
    """Take the images of a zip out into a new folder, which appears when it is whole.

    Raises ImageryError, OutputError (``output.full``).
    """
    with disk(archive.name):
        check_size(archive.name, archive.stat().st_size, limits)
        partial = Path(tempfile.mkdtemp(prefix=f"{folder.name}{PARTIAL}", dir=folder.parent))
        try:
            with _zip(archive, limits) as source:
                images = _images(archive, source, limits)
                for info in images:
                    _check_begin(archive, source, info)
                for info in images:
                    _take_out(source, info, partial)
            for info in images:
                check_image(partial / info.filename, limits)
            _appear(partial, folder)
        finally:
            shutil.rmtree(partial, ignore_errors=True)
    return folder


def names_in(archive: Path, limits: Limits = LIMITS) -> list[str]:
    """Of all files in a zip, after all entries were looked at. Raises ImageryError (``archive.*``)."""
    with disk(archive.name):
        check_size(archive.name, archive.stat().st_size, limits)
        with _zip(archive, limits) as source:
            return [info.filename for info in _entries(archive, source, limits) if not _hidden(info)]


def check_image(path: Path, limits: Limits = LIMITS) -> None:
    """Whether a file is the image that its name says, of a size that can be meant; its header alone is read.

    Raises ImageryError (``image.ending``, ``image.content``, ``image.size``, ``imagery.unreadable``).
    """
    wanted = ENDINGS.get(path.suffix.lower())
    if wanted is None:
        raise ImageryError(f"{path.name} does not end as imagery does ({', '.join(sorted(ENDINGS))})",
                           code="image.ending", field="--input", hint="give GeoTIFF or JPEG 2000")  # fmt: skip
    if path.stat().st_size > limits.file_mb * MB:
        raise _size(path.name, f"has more than {limits.file_mb:,.0f} MB")
    with path.open("rb") as file:
        _check_content(path.name, file.read(16))
    rows, cols, bands = _shape(path, wanted)
    if max(rows, cols) > limits.side or rows * cols > limits.pixels or bands > limits.bands:
        raise _size(path.name, f"says it has {cols} x {rows} pixels and {bands} bands")


# --- before anything is taken out -------------------------------------------------------------------------------------


@contextmanager
def disk(name: str) -> Iterator[None]:
    """What the disk refuses while the archive ``name`` is brought or unpacked.

    Raises OutputError (``output.full``) where there is no room, which passes; else ImageryError (``archive.failed``).
    """
    try:
        yield
    except OSError as error:
        from pipelines.products.parts import disk_full

        if disk_full(error):
            raise OutputError(f"{name} cannot be unpacked: {error.strerror}", code="output.full", field="--input",
                              hint="make room, or unpack it yourself") from error  # fmt: skip
        raise ImageryError(f"{name} cannot be unpacked: {error.strerror or error}", code="archive.failed",
                           field="--input", hint="unpack it yourself") from error  # fmt: skip


def check_size(name: str, size: int, limits: Limits) -> None:
    """Of the archive as it is packed. Raises ImageryError (``archive.size``)."""
    if size > limits.archive_mb * MB:
        raise _refused(Path(name), f"has more than {limits.archive_mb:,.0f} MB", "size")


@contextmanager
def _zip(archive: Path, limits: Limits) -> Iterator[zipfile.ZipFile]:
    """The open archive. Its directory is read whole, so that its size is looked at first."""
    try:
        with archive.open("rb") as file:
            count, size = _directory(file)
            if count > limits.entries or size > limits.entries * 1024:
                raise _refused(archive, f"has more than {limits.entries:,} entries", "entries")
            with zipfile.ZipFile(file) as source:
                yield source
    except (zipfile.BadZipFile, zlib.error, NotImplementedError, RuntimeError, EOFError, struct.error) as error:
        raise _refused(archive, f"is damaged, or no zip: {error}", "unreadable") from None


def _directory(file: IO[bytes]) -> tuple[int, int]:
    """Entries and bytes of the directory, from the record at the end of the archive."""
    size = file.seek(0, os.SEEK_END)
    file.seek(max(0, size - (1 << 16) - 22))
    tail = file.read()
    at = tail.rfind(b"PK\5\6")
    if at < 0 or len(tail) - at < 22:  # noqa: PLR2004  the record's length
        raise zipfile.BadZipFile("it has no directory")
    count, length = struct.unpack("<HI", tail[at + 10 : at + 16])
    locator = tail[at - 20 : at] if at >= 20 else b""  # noqa: PLR2004  the locator's length
    if locator[:4] == b"PK\6\7":
        file.seek(struct.unpack("<Q", locator[8:16])[0])
        record = file.read(56)
        count, length = struct.unpack("<QQ", record[32:48])
    file.seek(0)
    return count, length


def _images(archive: Path, source: zipfile.ZipFile, limits: Limits) -> list[zipfile.ZipInfo]:
    """The entries that are taken, after all were looked at."""
    found = [info for info in _entries(archive, source, limits) if _suffix(info) in ENDINGS and not _hidden(info)]
    if not found:
        raise _refused(archive, f"holds no imagery ({', '.join(sorted(ENDINGS))})", "empty")
    return found


def _entries(archive: Path, source: zipfile.ZipFile, limits: Limits) -> list[zipfile.ZipInfo]:
    """All files of it, after they were looked at."""
    entries = source.infolist()
    if len(entries) > limits.entries:
        raise _refused(archive, f"has more than {limits.entries:,} entries", "entries")
    seen: set[str] = set()
    for info in entries:
        _check_name(archive, info, seen)
        _check_kind(archive, info)
        _check_ratio(archive, info, limits)
    _check_total(archive, entries, limits)
    _check_overlaps(archive, source, entries)
    return [info for info in entries if not info.is_dir()]


def _check_name(archive: Path, info: zipfile.ZipInfo, seen: set[str]) -> None:
    # The name as it stands in the archive: zipfile has cut it at a null byte and turned separators.
    name = info.orig_filename
    parts = name.removesuffix("/").split("/")
    outside = name.startswith("/") or ".." in parts or "\\" in name or (len(name) > 1 and name[1] == ":")
    if outside:
        raise _refused(archive, f"holds {_quoted(name)}, a name that leads out of it", "path")
    if any(part in ("", ".") for part in parts) or not name.isprintable() or len(name.encode()) > 900:  # noqa: PLR2004
        raise _refused(archive, f"holds {_quoted(name)}, which is no name of a file", "path")
    # Two names that a disk may take for one, and a file that is a folder as well.
    key = "/".join(parts).casefold()
    above = {"/".join(parts[:n]).casefold() for n in range(1, len(parts))}
    if key in seen or any(f"{a}\0" in seen for a in above) or (not info.is_dir() and f"{key}/" in seen):
        raise _refused(archive, f"holds {_quoted(name)} twice", "twice")
    seen |= {f"{a}/" for a in above} | ({f"{key}/"} if info.is_dir() else {key, f"{key}\0"})


def _check_kind(archive: Path, info: zipfile.ZipInfo) -> None:
    name, mode = _quoted(info.filename), info.external_attr >> 16
    kind = stat.S_IFMT(mode)
    if kind not in (0, stat.S_IFREG, stat.S_IFDIR):
        what = "a link" if kind == stat.S_IFLNK else "no regular file"
        raise _refused(archive, f"holds {name}, which is {what}", "link")
    if info.flag_bits & 0x1:
        raise _refused(archive, f"holds {name}, which is encrypted", "encrypted")
    if not info.is_dir() and _suffix(info) in _ARCHIVES:
        raise _refused(archive, f"holds {name}, an archive in the archive", "nested")
    if info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        raise _refused(archive, f"holds {name}, packed in a way that is not read (method {info.compress_type})",
                       "method")  # fmt: skip


def _check_ratio(archive: Path, info: zipfile.ZipInfo, limits: Limits) -> None:
    name = _quoted(info.filename)
    if info.file_size > limits.file_mb * MB:
        raise _refused(archive, f"holds {name} of more than {limits.file_mb:,.0f} MB", "size")
    if info.file_size > _SMALL and info.file_size > limits.ratio * max(1, info.compress_size):
        raise _refused(archive, f"holds {name}, packed more than {limits.ratio:,.0f} times", "ratio")


def _check_total(archive: Path, entries: Sequence[zipfile.ZipInfo], limits: Limits) -> None:
    total = sum(i.file_size for i in entries)
    if total > limits.total_mb * MB:
        raise _refused(archive, f"holds more than {limits.total_mb:,.0f} MB", "size")
    if total > _SMALL and total > limits.ratio * archive.stat().st_size:
        raise _refused(archive, f"is packed more than {limits.ratio:,.0f} times", "ratio")


def _check_overlaps(archive: Path, source: zipfile.ZipFile, entries: Sequence[zipfile.ZipInfo]) -> None:
    """Entries that share their bytes: the way to pack a thousand times what a ratio tells."""
    end = source.start_dir
    for info in sorted(entries, key=lambda i: i.header_offset, reverse=True):
        if info.header_offset + 30 + info.compress_size > end:  # 30: the least that a local header takes
            raise _refused(archive, f"holds {_quoted(info.filename)}, which shares its bytes with another", "overlap")
        end = info.header_offset


def _check_begin(archive: Path, source: zipfile.ZipFile, info: zipfile.ZipInfo) -> None:
    with source.open(info) as file:
        try:
            _check_content(info.filename, file.read(16))
        except ImageryError as error:
            raise ImageryError(f"{archive.name}: {error.detail}", code=error.refined, hint=error.hint,
                               field=error.field) from None  # fmt: skip


def _check_content(name: str, head: bytes) -> None:
    wanted = ENDINGS[PurePosixPath(name).suffix.lower()]
    found = driver_of(head)
    if found != wanted:
        what = "is empty" if not head else f"is {found or 'something else'} inside"
        raise ImageryError(f"{_quoted(name)} {what}, not what its ending says", code="image.content", field="--input",
                           hint="give GeoTIFF as .tif and JPEG 2000 as .jp2")  # fmt: skip


# --- taking out -------------------------------------------------------------------------------------------------------


def _take_out(source: zipfile.ZipFile, info: zipfile.ZipInfo, folder: Path) -> None:
    """One file, no longer than announced, with the time it has in the archive: it is told by it later on."""
    path = folder / info.filename
    path.parent.mkdir(parents=True, exist_ok=True)
    with source.open(info) as packed, path.open("xb") as file:
        shutil.copyfileobj(packed, file, 1 << 20)  # zipfile stops at the announced size, and checks the CRC
    when = calendar.timegm(info.date_time) if 1 <= info.date_time[1] <= 12 else 0  # noqa: PLR2004  months
    os.utime(path, (when, when))


def _appear(partial: Path, folder: Path) -> None:
    try:
        partial.rename(folder)
    except OSError:
        if not folder.is_dir():  # else another process was as fast
            raise


def _shape(path: Path, driver: str) -> tuple[int, int, int]:
    from pipelines.imagery.gdal import FAILURES, Access, explain

    access = Access()
    try:
        with access.env(str(path)), access.open(str(path), driver) as file:
            return file.height, file.width, file.count
    except FAILURES as error:
        raise ImageryError(f"{path.name} cannot be read: {explain(error)}", code="imagery.unreadable", field="--input",
                           hint="the file is damaged or incomplete") from None  # fmt: skip


def _own_room() -> Path:
    """Private: what lies there is read as if the user had given it."""
    room = Path(tempfile.gettempdir()) / f"swathe-unpacked-{os.getuid()}"
    room.mkdir(mode=0o700, exist_ok=True)
    facts = room.lstat()
    if not stat.S_ISDIR(facts.st_mode) or facts.st_uid != os.getuid() or facts.st_mode & 0o022:
        raise ImageryError(f"{room} belongs to somebody else", code="archive.failed", field="--input",
                           hint="remove it, or set TMPDIR to a folder of your own")  # fmt: skip
    return room


def _sweep(room: Path) -> None:
    for folder in room.iterdir():
        try:
            old = time.time() - folder.stat().st_mtime > _KEPT_S
        except OSError:
            continue
        if old:
            shutil.rmtree(folder, ignore_errors=True)


def _check_room(room: Path, bound_mb: float | None) -> None:
    if bound_mb is None:
        return
    held = sum(map(_size_now, room.rglob("*")))
    if held > bound_mb * MB:
        raise ImageryError(f"there is no room for another archive: {held / MB:,.0f} MB of them are kept",
                           code="archive.room", field="--input",
                           hint="give the addresses of its images, or upload it")  # fmt: skip


def _size_now(path: Path) -> int:
    """Of a file; 0 of a folder, and of what another process has just moved."""
    try:
        facts = path.lstat()
    except OSError:
        return 0
    return facts.st_size if stat.S_ISREG(facts.st_mode) else 0


def _suffix(info: zipfile.ZipInfo) -> str:
    return PurePosixPath(info.filename).suffix.lower()


def _hidden(info: zipfile.ZipInfo) -> bool:
    """What systems leave in archives beside the files: ``__MACOSX/._a.tif``."""
    return any(part.startswith((".", "__MACOSX")) for part in PurePosixPath(info.filename).parts)


def _quoted(name: str) -> str:
    return repr(name if len(name) < 100 else f"{name[:97]}…")  # noqa: PLR2004  fits on a line


def _size(name: str, why: str) -> ImageryError:
    return ImageryError(f"{_quoted(name)} {why}: more than is taken", code="image.size", field="--input",
                        hint="cut it into smaller images")  # fmt: skip


def _refused(archive: Path, why: str, code: str) -> ImageryError:
    return ImageryError(f"{archive.name} {why}", code=f"archive.{code}", field="--input",
                        hint="give a plain zip of GeoTIFFs, or the files themselves")  # fmt: skip
