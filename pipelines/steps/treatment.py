"""What a step is to those who write one: a treatment of the model's products, and the bench that it works on."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

from pipelines.imagery.gdal import Access
from pipelines.products.layer import LayerSpec
from pipelines.remote.network import Network
from swathe.errors import SwatheError
from swathe.plan import Plan

if TYPE_CHECKING:
    from pipelines.store.place import Place


@dataclass(frozen=True, slots=True)
class Bench:
    """All that a treatment has to work with."""

    out: Path
    """Folder of the products. A treatment adds files, each renamed into place when it is whole, and changes none."""
    plan: Plan
    """The run: card, imagery, grid, area."""
    layer: LayerSpec
    """What ``result.tif`` holds."""
    raster: str
    """Name of the raster to work on: what the step before it published; ``result.tif`` at first."""
    say: Callable[[str], None]
    """A line of the step's log, which its user reads: no paths of this machine."""
    note: Callable[..., None]
    """Facts for the step's record by name, kept also where it fails: plain JSON values."""
    check: Callable[[], None]
    """Raises Interrupted where the run is to stop; called about once a second by whatever takes long."""
    access: Access = field(default=Access())
    """How imagery is read."""
    network: Network | None = None
    """How whatever lies elsewhere is fetched."""


@dataclass(frozen=True, slots=True)
class Made:
    """What a treatment leaves behind."""

    files: tuple[str, ...] = ()
    """Names in the bench's folder, each in ``pipelines.products.assets.ASSETS``."""
    raster: str | None = None
    """That of them which is the result from now on: the next step's input, and what is published."""
    detail: dict[str, Any] = field(default_factory=dict)
    """For the record, as plain JSON values."""
    skipped: str = ""
    """Why there was nothing to do; then there are no files."""
    missing: SwatheError | None = None
    """What is missing from the files: they stay, and the step has failed."""


class Treatment(Protocol):
    """One step of a kind."""

    @property
    def name(self) -> str:
        """Of its kind; its log is the file ``<name>.log`` of the result."""
        ...

    @property
    def key(self) -> str:
        """Of all that decides what it makes from a given raster: a finished step of the same key is not repeated."""
        ...

    def carry_out(self, bench: Bench) -> Made:
        """Do it. Raises SwatheError, which fails the step and leaves the rest of the result available."""
        ...


@dataclass(frozen=True, slots=True)
class Start:
    """A run that is about to begin, for treatments that need something from elsewhere."""

    plan: Plan
    """The run."""
    place: Place
    """Where its folder lasts."""
    folder: Path
    """That folder (``.swathe``), here."""
    check: Callable[[], None]
    """Raises Interrupted where the run is to stop."""


@runtime_checkable
class Preparing(Protocol):
    """A treatment that fetches what it works with, before anything is computed; a resumed run has it still."""

    def prepared(self, start: Start) -> Treatment:
        """The same with what it needs. Raises SwatheError, which ends the run."""
        ...


def prepared(treatments: tuple[Treatment, ...], start: Start) -> tuple[Treatment, ...]:
    """All of them, those prepared that want it."""
    return tuple(one.prepared(start) if isinstance(one, Preparing) else one for one in treatments)
