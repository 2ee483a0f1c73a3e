"""The first look: from a recipe to a plan, with files opened or scenes found, but no pixel used yet."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from pipelines.imagery import as_it_is
from pipelines.imagery.archive import AS_USUAL, Unpacking
from pipelines.imagery.area import crop
from pipelines.imagery.gdal import Access
from pipelines.imagery.inputs import parse_input
from pipelines.imagery.inspect import Declared, inspect
from pipelines.imagery.sensors import choose
from pipelines.planning import Place, plan
from pipelines.remote.network import Network
from pipelines.search.places import read_place
from pipelines.searched import place_in
from swathe.card import ModelCard
from swathe.errors import InputError
from swathe.imagery import Imagery
from swathe.mosaic import Mosaic
from swathe.plan import Plan
from swathe.recipe import Recipe
from swathe.sensor import SensorProfile
from swathe.window import Window

HARDLY = 0.999
"""Share of the area that the imagery covers, below which the user is told."""


def look(
    recipe: Recipe, card: ModelCard, sensors: Mapping[str, SensorProfile], access: Access | None = None,
    network: Network | None = None, unpacking: Unpacking = AS_USUAL,
) -> Imagery:  # fmt: skip
    """Open the files and settle what they hold; ``network`` is for those at addresses. Raises InputError, its kin."""
    if not recipe.inputs:
        raise InputError("no imagery is named", code="input.none", field="--input", hint="add --input PATH_OR_URL")
    declared = Declared(choose(sensors, recipe.sensor), recipe.radiometry, sensors)
    inputs = [parse_input(text) for text in recipe.inputs]
    return inspect(inputs, card.input, declared, access, unpacking, network)


def begin(recipe: Recipe, card: ModelCard, imagery: Imagery | Mosaic, actors: int) -> Plan:
    """Plan the run on imagery that was looked at. Raises AreaError where the area has nothing to do with it.

    The plan's card says what comes out: of an image that is handed on that follows from the image.
    """
    card = as_it_is.card_for(card, imagery)
    if isinstance(imagery, Mosaic):
        return plan(recipe, card, imagery, place_in(imagery, recipe, card), actors)
    if recipe.aoi is None:
        return plan(recipe, card, imagery, Place(Window(0, 0, *imagery.shape)), actors)
    found = crop(imagery, read_place(recipe.aoi))
    made = plan(recipe, card, imagery, Place(found.window, found.geometry), actors)
    if found.covered >= HARDLY:
        return made
    return replace(made, warnings=(*made.warnings, f"the imagery covers {found.covered:.1%} of the area"))
