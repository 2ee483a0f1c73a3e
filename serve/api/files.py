"""Results over HTTP: whole or in parts, named, never by a path that a request contains."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from starlette.requests import Request
from starlette.responses import FileResponse, RedirectResponse, Response

from serve.api.sending import unchanged
from swathe.errors import NotFoundError

if TYPE_CHECKING:
    from serve.desk.files import ResultFile
    from serve.desk.jobs import Jobs
    from swathe.user import Caller

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


def _headers(file: ResultFile, where: Path | str) -> dict[str, str]:
    shown = "inline" if Path(file.name).suffix.lower() in _SEEN else "attachment"
    headers = {
        "Cache-Control": "private, no-cache", "Content-Disposition": f'{shown}; filename="{file.name}"',
        "X-Content-Type-Options": "nosniff", "Accept-Ranges": "bytes",
    }  # fmt: skip
    tag = file.sha256 or (f"{where.stat().st_mtime_ns:x}-{file.bytes:x}" if isinstance(where, Path) else "")
    return headers | ({"ETag": f'"{tag}"'} if tag else {})
