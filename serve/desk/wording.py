"""Problems of the engine in the words of the API: fields of JSON for options, what was asked for paths."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace

from swathe.errors import Problem, SwatheError

FIELDS = {
    "input": "inputs", "source": "search.source", "dates": "search.dates", "collection": "search.collection",
    "max-cloud": "search.max_cloud", "composite": "search.composite", "res": "search.res", "crs": "search.crs",
    "max-loss": "search.max_loss", "bands": "radiometry.bands", "scale": "radiometry.scale",
    "offset": "radiometry.offset", "nodata": "radiometry.nodata", "min-area": "products.min_area_px",
    "simplify": "products.simplify_px", "gpkg": "products.gpkg", "probabilities": "products.probabilities",
    "mask": "postprocess.mask", "mask-buffer": "postprocess.mask_buffer_px", "mask-file": "postprocess.mask_files",
    "regularise": "postprocess.regularise", "mask-shapes": "postprocess.mask_shapes",
    "shapes-buffer": "postprocess.mask_shapes.buffer_m", "shapes-code": "postprocess.mask_shapes.code",
}  # fmt: skip
"""Option of the command line -> field of an asking, where they differ."""
_AWAY = "the service's storage cannot be used now"
_LATER = "come again later; whoever runs the service finds the reason in its log"
STORAGE = {
    "output.full": "the service's storage is full", "output.failed": _AWAY, "output.readonly": _AWAY,
    "output.unreachable": _AWAY, "output.denied": _AWAY, "output.credentials": _AWAY,
    "output.bucket": _AWAY,
}  # fmt: skip
"""Code of a trouble with the place of results -> what it is to those who ask a service: none of their doing."""
_OPTION = re.compile(r"--([a-z]+(?:-[a-z]+)*)")


@contextmanager
def told(names: Mapping[str, str] | None = None) -> Iterator[None]:
    """Errors that come out of the block are reworded; ``names`` as in ``reworded``."""
    try:
        yield
    except SwatheError as error:
        raise reworded(error, names or {}) from error.__cause__


def reworded(error: SwatheError, names: Mapping[str, str]) -> SwatheError:
    """The same error. ``names``: what inputs turned out to be, mostly paths of this machine -> what was asked for."""
    error.detail, error.hint = (in_words(text, names) for text in (error.detail, error.hint))
    error.field = _OPTION.sub(lambda m: FIELDS.get(m[1], m[1].replace("-", "_")), error.field)
    error.args = (error.detail,)
    return error


def in_words(text: str, names: Mapping[str, str]) -> str:
    """One text of it. The longest names first, since a folder's path begins those of its files."""
    for found in sorted(names, key=len, reverse=True):
        text = text.replace(found, names[found])
    return _OPTION.sub(lambda m: FIELDS.get(m[1], m[1].replace("-", "_")), text)


def of_storage(problem: Problem) -> Problem:
    """Trouble with the service's own storage, without its paths and without advice for its operator; others as are."""
    if problem.code not in STORAGE:
        return problem
    return replace(problem, detail=STORAGE[problem.code], hint=_LATER, field="")
