"""Predictions at once: who may, with which model, over what."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from serve.desk import rights
from serve.desk.inputs import at_home, settled
from serve.desk.wording import told
from swathe.errors import InputError
from swathe.recipe import Recipe
from swathe.user import Scope

if TYPE_CHECKING:
    from serve.desk.asking import Asking
    from serve.desk.models import Models
    from serve.settings import ServiceSettings
    from serve.store.store import Store
    from swathe.recipe import Radiometry
    from swathe.user import Caller


_HEEDED = frozenset({"model", "inputs", "search", "aoi", "sensor", "radiometry"})
"""Fields of a wish that an answer at once heeds; whoever holds the models refuses a search by a name of its own."""


@dataclass(frozen=True, slots=True)
class Order:
    """What may be predicted; who holds the models does it."""

    recipe: Recipe
    """Its inputs can be opened; none where the image comes with the request."""
    max_pixels: int
    """Pixels that the imagery may have."""
    max_seconds: float
    """Seconds that the answer may take, estimated by whoever holds the model."""
    model_shared: bool
    """Whether all users see the model; numbers that anybody can read do not name another one."""
    names: dict[str, str] = field(default_factory=dict)
    """Paths of this machine -> what was asked for."""

    @contextmanager
    def worded(self) -> Iterator[None]:
        """Errors of the prediction in the words of the request."""
        with told(self.names):
            yield


class Predictions:
    """Says which images are answered at once: for whom, with which model, and how large they may be."""

    def __init__(self, settings: ServiceSettings, store: Store, models: Models) -> None:
        self._settings, self._store, self._models = settings, store, models

    def of_image(self, caller: Caller, model: str, sensor: str | None, radiometry: Radiometry) -> Order:
        """Of an image that comes with the request. Raises UnknownModelError, ConflictError, ForbiddenError."""
        rights.require(caller, Scope.PREDICT)
        self._models.usable(caller, model)
        return self._order(Recipe(model, (), sensor, radiometry))

    def of_asking(self, caller: Caller, asking: Asking) -> Order:
        """Of imagery that has a name.

        Raises as ``of_image``, what a submission raises about its inputs, and InputError (``predict.field``) for wishes
        that only a job carries out.
        """
        rights.require(caller, Scope.PREDICT)
        _expect_heeded(asking)
        self._models.usable(caller, asking.model)
        with told():
            found = settled(at_home(asking, self._settings).to_recipe(), self._settings, self._store, caller)
        return self._order(found.recipe, found.names)

    def _order(self, recipe: Recipe, names: dict[str, str] | None = None) -> Order:
        limits = self._settings.limits
        shared = recipe.model in self._models.shared()
        return Order(recipe, limits.max_predict_pixels, limits.max_predict_s, shared, names or {})


def _expect_heeded(asking: Asking) -> None:
    """Raises InputError for fields that say something, and that a prediction would pass over in silence."""
    unheeded = sorted(set(asking.record()) - _HEEDED)
    if unheeded:
        raise InputError(f"an answer at once does nothing about {', '.join(unheeded)}", code="predict.field",
                         field=unheeded[0], hint="leave it out, or submit the wish as a job")  # fmt: skip
