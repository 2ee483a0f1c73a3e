"""Networks that somebody trained elsewhere, taken in: a config and a checkpoint become a card of one's own."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from models.safety import LARGEST_CONFIG
from models.trained import About, common_name, trained_card
from models.weights import looks_like_weights
from pipelines.imagery.peek import printable
from pipelines.store.scratch import scratch
from serve.desk import rights
from serve.desk.inputs import UPLOAD
from serve.desk.links import UPLOAD as LINKED
from serve.desk.links import Seal
from serve.desk.wording import told
from swathe.errors import CardError, ImageryError
from swathe.imagery import shown
from swathe.user import Scope

if TYPE_CHECKING:
    from serve.desk.models import Models, ModelState
    from serve.desk.uploads import Uploads
    from serve.settings import ServiceSettings
    from swathe.user import Caller

__all__ = ["About", "Adoption", "common_name"]
_CONFIG_MB = 1.0


class Adoption:
    """The config is read at once, weights are looked at; they are fetched when the model is first made ready."""

    def __init__(self, settings: ServiceSettings, models: Models, uploads: Uploads) -> None:
        self._settings, self._models, self._uploads = settings, models, uploads

    def adopt(self, caller: Caller, about: About, config: str, checkpoint: str, *, shared: bool = False) -> ModelState:
        """``config``, ``checkpoint``: ``https://…``, ``upload://ID``, or a link of this service to an upload.

        ``shared``: whether all are to see it, where an administrator adopts it.

        Raises CardError (also ``weights.content``: no checkpoint is there), UnsafeModelError (the config), ImageryError
        (``url.*``), ReadError, NotFoundError and ConflictError (an upload), LimitError.
        """
        rights.require(caller, Scope.MODELS_WRITE)
        kept = self._own(caller, checkpoint)
        if not kept:
            self._glance(checkpoint)
        about = replace(about, weights=kept or checkpoint)
        with scratch() as folder, told({str(folder): "the config"}):
            document = trained_card(self._config(caller, config, folder), about)
        # Whoever tries a network out now and then need not keep it in everybody's memory.
        document["resources"] = {"warm": 0, "memory_gb": 2}
        return self._models.add(caller, document, kept=kept, shared=shared)

    def _own(self, caller: Caller, href: str) -> str:
        """Where an upload lies that this address means; empty: it means something else."""
        if href.startswith(UPLOAD):
            return self._uploads.uri(caller, href.removeprefix(UPLOAD))
        link = Seal.of(self._settings).of_address(href)
        if link is None:
            return ""
        if link.kind != LINKED:
            raise CardError("this link of the service leads to no upload", code="card.path")
        return self._uploads.uri(caller, link.id)

    def _config(self, caller: Caller, href: str, folder: Path) -> Path:
        own, path = self._own(caller, href), folder / "config.yaml"
        path.write_bytes(self._stored(own) if own else self._fetched(href))
        return path

    def _stored(self, uri: str) -> bytes:
        prefix, _, name = uri.removeprefix(f"{self._settings.place}/").rpartition("/")
        return self._settings.blobs(prefix).get_range(name, 0, LARGEST_CONFIG + 1)  # what is longer is refused

    def _fetched(self, href: str) -> bytes:
        from pipelines.remote.fetch import Fetcher

        with Fetcher(self._settings.network_of_strangers) as fetcher:
            return fetcher.whole(href, limit_mb=_CONFIG_MB)

    def _glance(self, href: str) -> None:
        """Whether a checkpoint may lie at an address of the web; of other places the first use tells."""
        from pipelines.remote.fetch import Fetcher

        if not href.lower().startswith(("https://", "http://")):
            return
        with Fetcher(self._settings.network_of_strangers) as fetcher:
            try:
                head = fetcher.facts(href).head
            except ImageryError as error:
                if error.problem.code != "imagery.no_ranges":  # weights are fetched whole: that is no fault of theirs
                    raise
                return
        if not looks_like_weights(head):
            hint = "give the address of the file itself: PyTorch's .ckpt or .pt, or .safetensors"
            what = f"{shown(href)} is no checkpoint: it begins with {printable(head)!r}"
            raise CardError(what, code="weights.content", hint=hint)
