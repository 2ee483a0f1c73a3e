"""A job of a service, as a program that awaits sees it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any, Self
from urllib.parse import quote

from swathe.client import opening, values
from swathe.client.download import Tell, save
from swathe.client.following import Following, News
from swathe.client.link import Call
from swathe.client.problems import rebuilt
from swathe.client.progress import Progressed, teller
from swathe.errors import ConflictError, NotFoundError, ServiceError
from swathe.job import ENDED, Job, JobState, Progress

if TYPE_CHECKING:
    from swathe.client.link import Link
    from swathe.state import Event


class AsyncJob:
    """A job, and what was last heard of it (``value``)."""

    def __init__(self, link: Link, value: Job) -> None:
        """As a client's methods make it."""
        self._link = link
        self.value = value

    def __repr__(self) -> str:
        """For notebooks."""
        return f"{type(self).__name__}({self.id}, {self.state.value}, {self.progress.share:.0%})"

    @property
    def id(self) -> str:
        """Opaque."""
        return self.value.id

    @property
    def state(self) -> JobState:
        """When last heard of."""
        return self.value.state

    @property
    def progress(self) -> Progress:
        """When last heard of."""
        return self.value.progress

    @property
    def ended(self) -> bool:
        """Whether nothing more happens by itself."""
        return self.state in ENDED

    async def refresh(self) -> Self:
        """Ask how it stands."""
        return self._stands(await self._link.told(Call("GET", self._path())))

    async def news(self, after: int = 0) -> AsyncGenerator[News]:
        """Events and progress until it has ended, over lost connections."""
        async for news in Following(self._link, self.id, after):
            self.value = news.job or self.value
            yield news

    async def events(self, after: int = 0) -> AsyncGenerator[Event]:
        """Each once and in order, until it has ended. ``after``: number of the last one known."""
        async for news in self.news(after):
            if news.event is not None:
                yield news.event

    async def wait(
        self,
        *,
        progress: bool | Progressed = False,
        timeout: float | None = None,  # noqa: ASYNC109  what whoever waits calls it
        check: bool = True,
    ) -> Self:
        """Until it has ended. Raises its own error where it failed (unless ``check`` is False), TimeoutError.

        ``progress``: True for a bar, or a function that is given the job.
        """
        tell = teller(progress)
        tell(self.value)
        if not self.ended:
            async with asyncio.timeout(timeout):
                async for _ in self.news(self.value.last_seq):
                    tell(self.value)
        return self.checked() if check else self

    def checked(self) -> Self:
        """Raises why it failed, ConflictError (``job.cancelled``) where it was cancelled."""
        if self.state is JobState.FAILED:
            raise rebuilt(self.value.problem or {"detail": "the job failed"})
        if self.state is JobState.CANCELLED:
            raise ConflictError(f"job {self.id} was cancelled", code="job.cancelled", hint="resume it, or submit again")
        return self

    async def cancel(self) -> Self:
        """Stop it; takes effect within a chunk. Raises ConflictError where it has ended."""
        return self._stands(await self._link.told(Call("POST", self._path("/cancel"))))

    async def resume(self) -> Self:
        """Once more, with what was done kept. Raises ConflictError where it is done or has not ended."""
        return self._stands(await self._link.told(Call("POST", self._path("/resume"))))

    async def again(self) -> AsyncJob:
        """A new job of the same request."""
        return AsyncJob(self._link, values.job_of(await self._link.told(Call("POST", self._path("/again")))))

    async def delete(self) -> None:
        """It and its results. Raises ConflictError where it has not ended."""
        await self._link.ask(Call("DELETE", self._path()))

    async def logs(self, after: int = 0) -> AsyncGenerator[values.LogLine]:
        """What was written while it ran, up to now."""
        while True:
            page = (await self._link.told(Call("GET", self._path("/logs"), {"after": after})) or {}).get("logs", [])
            for document in page:
                line = values.log_of(document)
                after = max(after, line.seq)
                yield line
            if not page:
                return

    # --- results ------------------------------------------------------------------------------------------------------

    async def files(self) -> list[values.ResultFile]:
        """Of its result."""
        answer = await self._link.told(Call("GET", self._path("/files")))
        return [values.file_of(document) for document in answer["files"]]

    async def download(
        self, folder: str | Path, names: Sequence[str] | None = None, tell: Tell | None = None
    ) -> list[Path]:
        """Its files into a folder, or those of some names. What is there is kept, what broke off goes on.

        Raises NotFoundError (``file.unknown``), OutputError, ServiceError.
        """
        files = await self.files()
        wanted = files if names is None else [_named(files, name) for name in names]
        return [await self._saved(file, folder, tell) for file in wanted]

    async def _saved(self, file: values.ResultFile, folder: str | Path, tell: Tell | None) -> Path:
        return await save(self._link, self._path(f"/files/{quote(file.name)}"), file, Path(folder), tell)

    async def archive(self, folder: str | Path, name: str = "archive.zip", tell: Tell | None = None) -> Path:
        """All its files and its log as one ZIP archive in a folder; what broke off goes on.

        Raises ConflictError (``job.active``) before its end, OutputError, ServiceError.
        """
        if not (await self.refresh()).ended:
            raise ConflictError(f"job {self.id} is {self.state}", code="job.active", hint="wait for its end")
        path = self._path("/archive.zip")
        head = await self._link.ask(Call("HEAD", path))
        file = values.ResultFile(name, int(head.headers["content-length"]), "application/zip", "")
        return await save(self._link, path, file, Path(folder), tell)

    async def link(self, name: str = "", *, hours: float = 8.0) -> values.SignedLink:
        """An address of one of its files, or of its archive, that opens without a key as long as that."""
        kind = {"kind": "file", "name": name} if name else {"kind": "archive"}
        body = {**kind, "id": self.id, "valid_s": round(hours * 3600)}
        return values.link_of(await self._link.told(Call("POST", "/api/links", json=body, pure=True)))

    async def to_xarray(self, name: str = "result.tif", *, folder: str | Path | None = None, **options: Any) -> Any:
        """A raster as ``xarray.DataArray``: in memory, or from ``folder``, where it is kept and read when needed.

        ``options`` go to ``rioxarray.open_rasterio``. Raises InputError (``client.extra``) without that library.
        """
        with TemporaryDirectory(prefix="swathe-") as passing:
            path = (await self.download(folder or passing, [name]))[0]
            return opening.raster(path, keep=folder is not None, **options)

    async def to_geodataframe(self, name: str = "features.parquet") -> Any:
        """Its polygons as ``geopandas.GeoDataFrame``. Raises InputError (``client.extra``) without that library."""
        with TemporaryDirectory(prefix="swathe-") as passing:
            return opening.polygons((await self.download(passing, [name]))[0])

    async def item(self) -> dict[str, Any]:
        """Its STAC item, as it stands in the catalogue."""
        document = await self._link.told(Call("GET", self._path("/item")))
        if not isinstance(document, dict):
            raise ServiceError("the service's answer is no STAC item", code="service.answer")
        return document

    async def stac_item(self) -> Any:
        """The same as ``pystac.Item``. Raises InputError (``client.extra``) without that library."""
        return opening.item(await self.item())

    def _path(self, below: str = "") -> str:
        return f"/api/jobs/{self.id}{below}"

    def _stands(self, document: Any) -> Self:
        if document is not None:
            self.value = values.job_of(document)
        return self


def _named(files: list[values.ResultFile], name: str) -> values.ResultFile:
    for file in files:
        if file.name == name:
            return file
    have = ", ".join(file.name for file in files) or "none yet"
    raise NotFoundError(f"the job has no file {name}", code="file.unknown", field="name", hint=f"it has: {have}")
