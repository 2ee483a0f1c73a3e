"""Results over HTTP: whole or in parts, named, never by a path that a request contains."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

from fastapi import Path as InPath
from starlette.requests import Request
from starlette.responses import Response

from serve.api.ranges import content_answer
from serve.desk.content import of_path
from swathe.errors import NotFoundError

if TYPE_CHECKING:
    from serve.desk.uploads import Uploads
    from swathe.user import Caller

BYTES: dict[int | str, dict[str, Any]] = {
    200: {"content": {"*/*": {"schema": {"type": "string", "format": "binary"}}}, "description": "The file."},
    206: {"content": {"*/*": {"schema": {"type": "string", "format": "binary"}}}, "description": "The part asked for."},
    304: {"description": "The client has it already."},
    307: {"description": "The file lies in object storage: Location is a signed address."},
}
FileName = Annotated[str, InPath(max_length=255, description="Name of a file, as the list of files says it.")]


def upload_answer(request: Request, uploads: Uploads, caller: Caller, upload: str, name: str) -> Response:
    """One image of an upload. Raises NotFoundError, ConflictError before it is ready."""
    path = next((p for p in uploads.images(caller, upload) if p.name == name), None)
    if path is None:
        raise NotFoundError(f"there is no file {name[:100]!r} of the upload {upload}", code="file.unknown",
                            hint="facts.files of the upload lists all")  # fmt: skip
    return content_answer(request, of_path(path))
