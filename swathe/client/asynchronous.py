"""The client for programs that await: all that a service can be asked, and its jobs."""

from __future__ import annotations

import uuid
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self, Unpack
from urllib.parse import parse_qs, quote, urlsplit

from swathe.client import values
from swathe.client.environment import address_and_key
from swathe.client.link import Call, Link, Patience
from swathe.client.problems import rebuilt
from swathe.client.remote import AsyncJob
from swathe.client.wish import Wish, asking, dated, named
from swathe.errors import ConflictError, ImageryError, NotFoundError
from swathe.project import Upload, UploadState

if TYPE_CHECKING:
    import httpx2

PAGE = 100
"""Jobs of one answer."""
_PIECE = 1 << 20
_LARGE = 8 << 20
"""Bytes of a file above which a service does not let it wait for its turn, but refuses it."""
_FORMS = {"tiff": "image/tiff", "png": "image/png", "json": "application/json"}


class AsyncClient:
    """One service, one key. ``async with AsyncClient(url, key) as client: …``.

    Every call raises errors of ``swathe.errors`` alone: those that the service tells, and ServiceError where it cannot
    be reached. What is safe is tried again (:class:`~swathe.client.link.Patience`).
    """

    def __init__(
        self,
        url: str | None = None,
        key: str | None = None,
        patience: Patience | None = None,
        transport: httpx2.AsyncBaseTransport | None = None,
    ) -> None:
        """``url``: where the service listens, this machine unless told otherwise. Raises InputError."""
        self._link = Link(url, key, patience, transport)

    @classmethod
    def from_environment(cls) -> Self:
        """The service of ``SWATHE_URL``, with the key of ``SWATHE_KEY``."""
        return cls(*address_and_key())

    def __repr__(self) -> str:
        """Never with the key."""
        return f"{type(self).__name__}({self._link.url!r})"

    @property
    def url(self) -> str:
        """Of the service."""
        return self._link.url

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def close(self) -> None:
        """Let go of all connections."""
        await self._link.close()

    # --- jobs ---------------------------------------------------------------------------------------------------------

    async def submit(self, model: str, **wish: Unpack[Wish]) -> AsyncJob:
        """Ask for a run. Files of this machine are uploaded first. A lost answer does not make two jobs of one."""
        body = asking(model, await self._located(wish))
        headers = {"Idempotency-Key": uuid.uuid4().hex, "Prefer": "respond-async"}
        return self._job(await self._link.told(Call("POST", "/api/jobs", json=body, headers=headers)))

    async def estimate(self, model: str, **wish: Unpack[Wish]) -> values.Estimate:
        """What it would take; nothing is kept, but files of this machine are uploaded."""
        body = asking(model, await self._located(wish))
        return values.estimate_of(await self._link.told(Call("POST", "/api/estimates", json=body, pure=True)))

    async def job(self, id: str) -> AsyncJob:  # noqa: A002  the field's own name
        """One of them. Raises NotFoundError."""
        return self._job(await self._link.told(Call("GET", f"/api/jobs/{quote(id, safe='')}")))

    async def jobs(
        self,
        *,
        state: str | Sequence[str] | None = None,
        model: str | None = None,
        project: str | None = None,
        limit: int | None = None,
    ) -> AsyncGenerator[AsyncJob]:
        """Own and shared ones, newest first, fetched page by page as they are needed."""
        cursor, left = None, limit
        while left is None or left > 0:
            which = {"state": state, "model": model, "project": project}
            params = {**which, "cursor": cursor, "limit": min(PAGE, left or PAGE)}
            page = await self._link.told(Call("GET", "/api/jobs", params))
            for document in page["jobs"][:left]:
                yield self._job(document)
            left = None if left is None else left - len(page["jobs"])
            cursor = _next(page)
            if cursor is None:
                return

    # --- one small image ----------------------------------------------------------------------------------------------

    async def predict(
        self, image: str | Path | bytes, model: str, *, form: str = "tiff", **how: Any
    ) -> values.Prediction:
        """One image at once: a file of this machine or its bytes. ``form``: tiff, png or json.

        ``how``: sensor, bands, scale, offset, nodata, where the file does not say it.
        """
        content = image if isinstance(image, bytes) else _bytes(Path(image))
        call = Call("POST", "/api/predict", {"model": model, **how}, content=content, pure=True,
                    headers={"Content-Type": "image/tiff", "Accept": _FORMS.get(form, form)})  # fmt: skip
        answer = await self._link.ask(call)
        return values.Prediction(answer.content, answer.headers.get("content-type", ""), _seconds(answer))

    # --- everything else ----------------------------------------------------------------------------------------------

    async def upload(self, path: str | Path, *, name: str | None = None, project: str | None = None) -> Upload:
        """A file of this machine, streamed; jobs name it as ``upload://ID``. Raises ImageryError where it is unfit."""
        path = Path(path)
        _expect_file(path)
        body = {"name": name or path.name, **({"project": project} if project else {})}
        begun = values.upload_of(await self._link.told(Call("POST", "/api/uploads", json=body)))
        size = _size(path)
        headers = {"Content-Type": "application/octet-stream", "Content-Length": str(size)}
        call = Call("PUT", f"/api/uploads/{begun.id}/content", content=lambda: _pieces(path), headers=headers)
        if size > _LARGE:
            await self._turn(begun.id)
        return _usable(await self._sent(call, begun.id))

    async def _turn(self, upload: str) -> None:
        """Wait until the service would read a large file: whoever sends it in vain sends all of it."""
        with suppress(NotFoundError):  # an older service does not say
            await self._link.ask(Call("GET", f"/api/uploads/{upload}/turn"))

    async def _sent(self, call: Call, upload: str) -> Upload:
        try:
            return values.upload_of(await self._link.told(call))
        except ConflictError as error:
            if error.problem.code != "upload.state":
                raise
            # It had all come, and only the answer was lost.
            return values.upload_of(await self._link.told(Call("GET", f"/api/uploads/{upload}")))

    async def register(self, upload: str, *, when: str | None = None, title: str = "") -> list[dict[str, Any]]:
        """Images of an upload, by its id, as items of one's own catalogue; jobs name one as ``item://imagery/ID``.

        ``when``: RFC 3339 or a date; else the time in a file's name. Gives the STAC items.
        """
        body = {"upload": upload, "datetime": when, "title": title}
        return (await self._link.told(Call("POST", "/api/imagery", json=body, pure=True)))["items"]

    async def add_processor(self, script: str | Path, **about: Any) -> dict[str, Any]:
        """A Python script that jobs can run over their results, by its ``id``.

        ``about``: name, description, parameters, call, project, labels. Raises InputError for what is no such script.
        """
        script = Path(script)
        _expect_file(script)
        source = _bytes(script).decode(errors="replace")
        body = {"file": script.name, "source": source, **about}
        return await self._link.told(Call("POST", "/api/processors", json=body))

    async def processors(self) -> list[dict[str, Any]]:
        """Own and shared ones, newest first: the latest 100."""
        return (await self._link.told(Call("GET", "/api/processors", {"limit": PAGE})))["processors"]

    async def processor(self, id: str) -> dict[str, Any]:  # noqa: A002  the field's own name
        """One of them; ``links.content`` is its script. Raises NotFoundError."""
        return await self._link.told(Call("GET", f"/api/processors/{quote(id, safe='')}"))

    async def delete_processor(self, id: str) -> None:  # noqa: A002  the field's own name
        """No new job runs it. Raises NotFoundError."""
        await self._link.ask(Call("DELETE", f"/api/processors/{quote(id, safe='')}"))

    async def models(self) -> list[values.ModelInfo]:
        """All that may be used, and those that are switched off."""
        answer = await self._link.told(Call("GET", "/api/models"))
        return [values.model_of(document) for document in answer["models"]]

    async def me(self) -> dict[str, Any]:
        """Whose key this is, what it may do, what is used of what is allowed."""
        return await self._link.told(Call("GET", "/api/me"))

    def _job(self, document: Any) -> AsyncJob:
        return AsyncJob(self._link, values.job_of(document))

    async def _located(self, wish: Wish) -> Wish:
        """With every input as an address that the service can read."""
        if "inputs" not in wish:
            return wish
        texts = [await self._lifted(path, text) for path, text in named(wish)]
        return {**wish, "inputs": texts}

    async def _lifted(self, path: Path | None, text: str) -> str:
        if path is None:
            return text
        return f"{dated(text)[0]}upload://{(await self.upload(path)).id}"


def _usable(upload: Upload) -> Upload:
    """Raises what the service found wrong with it."""
    if upload.state is not UploadState.READY:
        raise rebuilt(upload.problem or {"code": "imagery", "detail": f"the upload {upload.id} is {upload.state}"})
    return upload


def _next(page: dict[str, Any]) -> str | None:
    """Only the cursor of the link is used: its address is the service's as somebody else may see it."""
    for link in page.get("links") or ():
        if link.get("rel") == "next":
            return next(iter(parse_qs(urlsplit(link["href"]).query).get("cursor", ())), None)
    return None


def _seconds(answer: httpx2.Response) -> dict[str, float]:
    """``total``, and stages from ``Server-Timing: read;dur=12.3, …`` (milliseconds); what is not understood is left."""
    found: dict[str, float] = {}
    with suppress(ValueError):
        found["total"] = float(answer.headers.get("swathe-seconds", ""))
    for part in answer.headers.get("server-timing", "").split(","):
        name, _, duration = part.strip().partition(";dur=")
        with suppress(ValueError):
            found[name] = float(duration) / 1000
    return found


def _expect_file(path: Path) -> None:
    if not path.is_file():
        raise ImageryError(f"there is no file {path}", code="imagery.missing", hint="check the path", field="inputs")


def _bytes(path: Path) -> bytes:
    _expect_file(path)
    return path.read_bytes()


async def _pieces(path: Path) -> AsyncIterator[bytes]:
    with path.open("rb") as file:
        while piece := file.read(_PIECE):
            yield piece


def _size(path: Path) -> int:
    return path.stat().st_size
