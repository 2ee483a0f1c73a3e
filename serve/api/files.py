"""Results over HTTP: whole or in parts, named, never by a path that a request contains."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from fastapi import Path as InPath
from starlette.requests import Request
from starlette.responses import FileResponse, RedirectResponse, Response

from serve.api.sending import unchanged
from serve.desk.files import ResultFile, media_type
from swathe.errors import NotFoundError

if TYPE_CHECKING:
    from serve.desk.jobs import Jobs
    from serve.desk.uploads import Uploads
    from swathe.user import Caller

BYTES: dict[int | str, dict[str, Any]] = {
    200: {"content": {"*/*": {"schema": {"type": "string", "format": "binary"}}}, "description": "The file."},
    206: {"content": {"*/*": {"schema": {"type": "string", "format": "binary"}}}, "description": "The part asked for."},
    304: {"description": "The client has it already."},
    307: {"description": "The file lies in object storage: Location is a signed address."},
}
FileName = Annotated[str, InPath(max_length=255, description="Name of a file, as the list of files says it.")]
_SEEN = frozenset({".png", ".json", ".geojson"})
"""Endings that a browser may show; others, and HTML that would run on our address, are saved."""


def file_answer(request: Request, jobs: Jobs, caller: Caller, job: str, name: str) -> Response:
    """One file of a job. Raises NotFoundError."""
    file = next((f for f in jobs.files(caller, job) if f.name == name), None)
    if file is None:
        raise NotFoundError(f"there is no file {name[:100]!r} of the job {job}", code="file.unknown",
                            hint="GET /api/jobs/ID/files lists all")  # fmt: skip
    where = jobs.open(caller, job, name)
    headers = _headers(file, where)
    if unchanged(request, headers.get("ETag", "")):
        return Response(status_code=304, headers=headers)
    if isinstance(where, Path):
        return FileResponse(where, headers=headers, media_type=file.media_type)
    if request.method == "HEAD":  # the signature is for GET alone
        return Response(headers=headers | {"Content-Length": str(file.bytes)}, media_type=file.media_type)
    return RedirectResponse(where, 307, {"Cache-Control": "no-store"})


def upload_answer(request: Request, uploads: Uploads, caller: Caller, upload: str, name: str) -> Response:
    """One image of an upload. Raises NotFoundError, ConflictError before it is ready."""
    path = next((p for p in uploads.images(caller, upload) if p.name == name), None)
    if path is None:
        raise NotFoundError(f"there is no file {name[:100]!r} of the upload {upload}", code="file.unknown",
                            hint="facts.files of the upload lists all")  # fmt: skip
    file = ResultFile(name, path.stat().st_size, media_type(name), "")
    headers = _headers(file, path)
    if unchanged(request, headers["ETag"]):
        return Response(status_code=304, headers=headers)
    return FileResponse(path, headers=headers, media_type=file.media_type)


def _headers(file: ResultFile, where: Path | str) -> dict[str, str]:
    shown = "inline" if Path(file.name).suffix.lower() in _SEEN else "attachment"
    headers = {
        "Cache-Control": "private, no-cache", "Content-Disposition": f'{shown}; filename="{file.name}"',
        "X-Content-Type-Options": "nosniff", "Accept-Ranges": "bytes",
    }  # fmt: skip
    tag = file.sha256 or (f"{where.stat().st_mtime_ns:x}-{file.bytes:x}" if isinstance(where, Path) else "")
    return headers | ({"ETag": f'"{tag}"'} if tag else {})
