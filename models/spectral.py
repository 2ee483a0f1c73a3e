"""What the ``network`` block of a card says whose adapter is ``formula``: an index, a change of it, a threshold."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Literal, Self

from pydantic import Field, ValidationError, model_validator

from models.expression import Program, compiled
from models.index import resolver
from swathe.card import Frozen, ModelCard, Task
from swathe.errors import CardError

Range = tuple[float, float]
Expression = Annotated[str, Field(min_length=1)]
MOMENTS = ("pre", "post")
"""Names of the two dates in a change."""


class Limits(Frozen):
    """A test that a pixel must pass as well."""

    above: float | None = None
    """Greater than this."""
    below: float | None = None
    """Smaller than this."""

    @model_validator(mode="after")
    def _says_something(self) -> Self:
        if self.above is None and self.below is None:
            raise ValueError("give above, below or both")
        return self


class Change(Frozen):
    """What two dates make of an index."""

    formula: Expression
    """Arithmetic of the index before and after the event, ``pre`` and ``post``."""
    range: Range
    """Smallest and largest value; what lies outside is set to the nearer of the two."""


class Threshold(Frozen):
    """What makes classes of an index."""

    kind: Literal["fixed", "otsu", "two-gaussian"]
    """fixed: published values. otsu, two-gaussian: found once over the whole area, which the result then depends on."""
    value: tuple[float, ...] | float | None = None
    """Of a fixed one: the value, or rising values between more than two classes."""
    above: bool = True
    """Whether the second class lies above the value (water in MNDWI) or below it (burnt ground in NBR)."""
    fallback: float | None = None
    """Used instead where the area does not show two classes. None: what was found is used however unclear it is."""

    @property
    def levels(self) -> tuple[float, ...]:
        """The fixed values, one or more."""
        return self.value if isinstance(self.value, tuple) else () if self.value is None else (self.value,)

    @model_validator(mode="after")
    def _fits_its_kind(self) -> Self:
        if (self.kind == "fixed") != bool(self.levels):
            raise ValueError("a fixed threshold has a value, and no other has")
        if list(self.levels) != sorted(set(self.levels)):
            raise ValueError("the values of a threshold rise")
        if len(self.levels) > 1 and not self.above:
            raise ValueError("several values are counted from below: leave above true")
        if self.kind == "fixed" and self.fallback is not None:
            raise ValueError("a fixed threshold needs no fallback")
        return self


class Formula(Frozen):
    """The ``network`` block."""

    index: Expression
    """An index of spyndex (``MNDWI``) or arithmetic of bands, in spyndex's letters or common names."""
    constants: dict[str, float] = Field(default_factory=dict)
    """Constants of the index where they differ from spyndex's own."""
    range: Range = (-1.0, 1.0)
    """Smallest and largest value of the index; what lies outside is set to the nearer of the two."""
    change: Change | None = None
    """For two dates."""
    where: dict[Expression, Limits] = Field(default_factory=dict)
    """Further tests on the (last) date: band, index or arithmetic -> its limits; a pixel that fails is background."""
    threshold: Threshold | None = None
    """None: the index itself, or its change, is the result."""

    @model_validator(mode="after")
    def _ranges_rise(self) -> Self:
        for low, high in (self.range, self.span):
            if not low < high:
                raise ValueError("a range gives the smaller number first")
        return self

    @property
    def span(self) -> Range:
        """Range of the result."""
        return self.change.range if self.change else self.range

    @property
    def fits(self) -> bool:
        """Whether the threshold is found from the data."""
        return self.threshold is not None and self.threshold.kind != "fixed"

    @property
    def classes(self) -> int:
        """Of the result; 0 where it is a number."""
        return 0 if self.threshold is None else max(len(self.threshold.levels), 1) + 1

    def programs(self) -> tuple[Program, Program | None, tuple[tuple[Program, Limits], ...]]:
        """Compile the index, the change and the tests; raise CardError for what cannot be compiled."""
        names = resolver(self.constants)
        change = compiled(self.change.formula, _moment) if self.change else None
        return compiled(self.index, names), change, tuple((compiled(t, names), x) for t, x in self.where.items())


def settings(card: ModelCard) -> Formula:
    """Read and check the card's ``network`` block; raise CardError for whatever does not hold together."""
    try:
        block = Formula.model_validate(card.network)
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(["network", *map(str, first["loc"])])
        raise _invalid(card, f"{place}: {first['msg'].removeprefix('Value error, ')}", place) from error
    for why, field in (*_numbers_disagree(card, block), *_bands_disagree(card, block)):
        raise _invalid(card, why, field)
    return block


def _numbers_disagree(card: ModelCard, block: Formula) -> Iterator[tuple[str, str]]:
    """(what is wrong, field) for each place where the block and the rest of the card contradict each other."""
    eats, gives = card.input, card.output
    if eats.scale != 1 or eats.mean or eats.std or eats.modalities:
        yield "a formula takes physical units: leave scale, mean, std and modalities away", "input"
    if eats.times != (1 if block.change is None else 2):
        yield f"times is {eats.times}, but a change is of 2 dates and everything else of 1", "input.times"
    if card.task is not (Task.SEGMENTATION if block.threshold else Task.REGRESSION):
        yield f"a threshold makes a segmentation and its absence a regression, not a {card.task}", "task"
    if len(gives.classes) != block.classes:
        yield f"the thresholds make {block.classes} classes, the output names {len(gives.classes)}", "output.classes"
    if gives.classes and not gives.classes[0].background:
        yield "the first class is what the threshold leaves over: mark it as background", "output.classes"
    if gives.stride != 1 or (not gives.classes and gives.channels != 1):
        yield "a formula gives one number or class for each pixel", "output"
    if block.threshold and gives.scored != (block.threshold.kind == "two-gaussian"):
        yield "scored is true for a two-gaussian threshold and false for the others", "output.scored"
    if card.area_dependent != block.fits:
        yield "area_dependent is true where the threshold is found from the data, and only there", "area_dependent"
    if block.where and block.threshold is None:
        yield "tests make classes: they need a threshold", "network.where"


def _bands_disagree(card: ModelCard, block: Formula) -> Iterator[tuple[str, str]]:
    index, change, tests = block.programs()
    needed = set(index.operands).union(*(program.operands for program, _ in tests))
    if missing := needed - set(card.input.bands):
        yield f"the formula needs {_listed(missing)}, which the card's input does not have", "input.bands"
    if idle := set(card.input.bands) - needed:
        yield f"the formula does not use {_listed(idle)}: reading it would be for nothing", "input.bands"
    if change and set(change.operands) != set(MOMENTS):
        yield "a change is made of both pre and post", "network.change.formula"


def _moment(name: str) -> str:
    if name not in MOMENTS:
        raise CardError(
            f"a change knows pre and post, not {name!r}",
            hint="e.g. formula: pre - post",
            field="network.change.formula",
            code="card.expression",
        )
    return name


def _listed(names: set[str]) -> str:
    return ", ".join(sorted(names))


def _invalid(card: ModelCard, why: str, field: str) -> CardError:
    return CardError(f"{card.id}: {why}", hint="see docs/methods.md", field=field, code="card.formula")
