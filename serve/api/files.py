"""Results over HTTP: whole or in parts, named, never by a path that a request contains."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import Path as InPath

BYTES: dict[int | str, dict[str, Any]] = {
    200: {"content": {"*/*": {"schema": {"type": "string", "format": "binary"}}}, "description": "The file."},
    206: {"content": {"*/*": {"schema": {"type": "string", "format": "binary"}}}, "description": "The part asked for."},
    304: {"description": "The client has it already."},
    307: {"description": "The file lies in object storage: Location is a signed address."},
}
FileName = Annotated[str, InPath(max_length=255, description="Name of a file, as the list of files says it.")]
