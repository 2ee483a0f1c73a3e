"""The client for scripts and notebooks: the one that awaits, waited for."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self, TypeVar, Unpack

from swathe.background import Background
from swathe.client.asynchronous import AsyncClient
from swathe.client.environment import address_and_key
from swathe.client.progress import Progressed

if TYPE_CHECKING:
    import httpx2

    from swathe.client.download import Tell
    from swathe.client.following import News
    from swathe.client.link import Patience
    from swathe.client.remote import AsyncJob
    from swathe.client.values import Estimate, LogLine, ModelInfo, Prediction, ResultFile, SignedLink
    from swathe.client.wish import Wish
    from swathe.job import Job, JobState, Progress
    from swathe.project import Upload
    from swathe.state import Event

T = TypeVar("T")


class Client:
    """One service, one key. ``Client(url, key)``; may be used as a context manager, and by several threads.

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
        self._client = AsyncClient(url, key, patience, transport)
        self._background = Background("swathe-client")
        self._background.at_end(self._client.close)

    @classmethod
    def from_environment(cls) -> Self:
        """The service of ``SWATHE_URL``, with the key of ``SWATHE_KEY``."""
        return cls(*address_and_key())

    def __repr__(self) -> str:
        """Never with the key."""
        return f"{type(self).__name__}({self.url!r})"

    @property
    def url(self) -> str:
        """Of the service."""
        return self._client.url

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Let go of all connections."""
        self._background.close()

    # --- jobs ---------------------------------------------------------------------------------------------------------

    def submit(self, model: str, **wish: Unpack[Wish]) -> RemoteJob:
        """Ask for a run. Files of this machine are uploaded first. A lost answer does not make two jobs of one."""
        return self._job(self._background.run(self._client.submit(model, **wish)))

    def estimate(self, model: str, **wish: Unpack[Wish]) -> Estimate:
        """What it would take; nothing is kept, but files of this machine are uploaded."""
        return self._background.run(self._client.estimate(model, **wish))

    def job(self, id: str) -> RemoteJob:  # noqa: A002  the field's own name
        """One of them. Raises NotFoundError."""
        return self._job(self._background.run(self._client.job(id)))

    def jobs(
        self,
        *,
        state: str | Sequence[str] | None = None,
        model: str | None = None,
        project: str | None = None,
        limit: int | None = None,
    ) -> Iterator[RemoteJob]:
        """Own and shared ones, newest first, fetched page by page as they are needed."""
        found = self._client.jobs(state=state, model=model, project=project, limit=limit)
        return map(self._job, _waited(self._background, found))

    # --- everything else ----------------------------------------------------------------------------------------------

    def predict(self, image: str | Path | bytes, model: str, *, form: str = "tiff", **how: Any) -> Prediction:
        """One image at once: a file of this machine or its bytes. ``form``: tiff, png or json.

        ``how``: sensor, bands, scale, offset, nodata, where the file does not say it.
        """
        return self._background.run(self._client.predict(image, model, form=form, **how))

    def upload(self, path: str | Path, *, name: str | None = None, project: str | None = None) -> Upload:
        """A file of this machine, streamed; jobs name it as ``upload://ID``. Raises ImageryError where it is unfit."""
        return self._background.run(self._client.upload(path, name=name, project=project))

    def register(self, upload: str, *, when: str | None = None, title: str = "") -> list[dict[str, Any]]:
        """Images of an upload, by its id, as items of one's own catalogue; jobs name one as ``item://imagery/ID``.

        ``when``: RFC 3339 or a date; else the time in a file's name. Gives the STAC items.
        """
        return self._background.run(self._client.register(upload, when=when, title=title))

    def add_processor(self, script: str | Path, **about: Any) -> dict[str, Any]:
        """A Python script that jobs can run over their results, by its ``id``.

        ``about``: name, description, parameters, call, project, labels. Raises InputError for what is no such script.
        """
        return self._background.run(self._client.add_processor(script, **about))

    def processors(self) -> list[dict[str, Any]]:
        """Own and shared ones, newest first: the latest 100."""
        return self._background.run(self._client.processors())

    def processor(self, id: str) -> dict[str, Any]:  # noqa: A002  the field's own name
        """One of them; ``links.content`` is its script. Raises NotFoundError."""
        return self._background.run(self._client.processor(id))

    def delete_processor(self, id: str) -> None:  # noqa: A002  the field's own name
        """No new job runs it. Raises NotFoundError."""
        self._background.run(self._client.delete_processor(id))

    def models(self) -> list[ModelInfo]:
        """All that may be used, and those that are switched off."""
        return self._background.run(self._client.models())

    def me(self) -> dict[str, Any]:
        """Whose key this is, what it may do, what is used of what is allowed."""
        return self._background.run(self._client.me())

    def _job(self, inner: AsyncJob) -> RemoteJob:
        return RemoteJob(self._background, inner)


class RemoteJob:
    """A job of a service, and what was last heard of it (``value``)."""

    def __init__(self, background: Background, inner: AsyncJob) -> None:
        """As a client's methods make it."""
        self._background = background
        self._inner = inner

    def __repr__(self) -> str:
        """For notebooks."""
        return repr(self._inner).replace(type(self._inner).__name__, type(self).__name__, 1)

    @property
    def value(self) -> Job:
        """All that was last heard of it."""
        return self._inner.value

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
        return self._inner.ended

    def refresh(self) -> Self:
        """Ask how it stands."""
        self._background.run(self._inner.refresh())
        return self

    def news(self, after: int = 0) -> Iterator[News]:
        """Events and progress until it has ended, over lost connections."""
        return _waited(self._background, self._inner.news(after))

    def events(self, after: int = 0) -> Iterator[Event]:
        """Each once and in order, until it has ended. ``after``: number of the last one known."""
        return _waited(self._background, self._inner.events(after))

    def wait(self, *, progress: bool | Progressed = False, timeout: float | None = None, check: bool = True) -> Self:
        """Until it has ended. Raises its own error where it failed (unless ``check`` is False), TimeoutError.

        ``progress``: True for a bar, or a function that is given the job.
        """
        self._background.run(self._inner.wait(progress=progress, timeout=timeout, check=check))
        return self

    def checked(self) -> Self:
        """Raises why it failed, ConflictError (``job.cancelled``) where it was cancelled."""
        self._inner.checked()
        return self

    def cancel(self) -> Self:
        """Stop it; takes effect within a chunk. Raises ConflictError where it has ended."""
        self._background.run(self._inner.cancel())
        return self

    def resume(self) -> Self:
        """Once more, with what was done kept. Raises ConflictError where it is done or has not ended."""
        self._background.run(self._inner.resume())
        return self

    def again(self) -> RemoteJob:
        """A new job of the same request."""
        return RemoteJob(self._background, self._background.run(self._inner.again()))

    def delete(self) -> None:
        """It and its results. Raises ConflictError where it has not ended."""
        self._background.run(self._inner.delete())

    def logs(self, after: int = 0) -> Iterator[LogLine]:
        """What was written while it ran, up to now."""
        return _waited(self._background, self._inner.logs(after))

    # --- results ------------------------------------------------------------------------------------------------------

    @property
    def files(self) -> list[ResultFile]:
        """Of its result, as the service lists them now."""
        return self._background.run(self._inner.files())

    def download(self, folder: str | Path, names: Sequence[str] | None = None, tell: Tell | None = None) -> list[Path]:
        """Its files into a folder, or those of some names. What is there is kept, what broke off goes on.

        Raises NotFoundError (``file.unknown``), OutputError, ServiceError.
        """
        return self._background.run(self._inner.download(folder, names, tell))

    def archive(self, folder: str | Path, name: str = "archive.zip", tell: Tell | None = None) -> Path:
        """All its files and its log as one ZIP archive in a folder; what broke off goes on.

        Raises ConflictError (``job.active``) before its end, OutputError, ServiceError.
        """
        return self._background.run(self._inner.archive(folder, name, tell))

    def link(self, name: str = "", *, hours: float = 8.0) -> SignedLink:
        """An address of one of its files, or of its archive, that opens without a key as long as that."""
        return self._background.run(self._inner.link(name, hours=hours))

    def to_xarray(self, name: str = "result.tif", *, folder: str | Path | None = None, **options: Any) -> Any:
        """A raster as ``xarray.DataArray``: in memory, or from ``folder``, where it is kept and read when needed.

        ``options`` go to ``rioxarray.open_rasterio``. Raises InputError (``client.extra``) without that library.
        """
        return self._background.run(self._inner.to_xarray(name, folder=folder, **options))

    def to_geodataframe(self, name: str = "features.parquet") -> Any:
        """Its polygons as ``geopandas.GeoDataFrame``. Raises InputError (``client.extra``) without that library."""
        return self._background.run(self._inner.to_geodataframe(name))

    @property
    def item(self) -> dict[str, Any]:
        """Its STAC item, as it stands in the catalogue."""
        return self._background.run(self._inner.item())

    @property
    def stac_item(self) -> Any:
        """The same as ``pystac.Item``. Raises InputError (``client.extra``) without that library."""
        return self._background.run(self._inner.stac_item())


def _waited(background: Background, found: AsyncGenerator[T]) -> Iterator[T]:
    """One after the other; whoever stops listening closes what stands open."""
    try:
        while True:
            try:
                yield background.run(_next(found.__anext__))
            except _Over:
                return
    finally:
        # Where a signal broke in, the last step may still be ending by itself.
        with suppress(RuntimeError):
            background.run(found.aclose())


class _Over(Exception):  # noqa: N818  not an error: StopAsyncIteration cannot leave a coroutine
    """The end of an iteration."""


async def _next(step: Callable[[], Any]) -> Any:
    try:
        return await step()
    except StopAsyncIteration:
        raise _Over from None
