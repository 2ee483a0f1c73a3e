"""Blocks of a mosaic begin with those of its files, where that can change no pixel; else at the anchor."""

from dataclasses import replace

import pytest

from pipelines.mosaic.cells import first_cell
from pipelines.mosaic.frame import Frame
from swathe.composite import Composite
from swathe.mosaic import Mosaic, Slot
from swathe.scene import Asset, AssetGrid, Scene
from swathe.source import MaskRule, SourceMask

UTM = "EPSG:32632"


def grid(res=10.0, corner=(499_980.0, 4_600_020.0), crs=UTM):
    return AssetGrid(crs, (res, 0.0, corner[0], 0.0, -res, corner[1]), (1000, 1000))


def mosaic(*grids, composite=Composite.LATEST, mask=None, scl=None, resampling="bilinear"):
    """A scene with one band on each grid, and the classification on another, on an output grid of 10 m."""
    bands = tuple(Asset(f"b{n}", f"{n}.tif", grid=g, resampling=resampling) for n, g in enumerate(grids))
    classes = None if scl is None else Asset("scl", "scl.tif", grid=scl)
    scene = Scene("s", "c", "2024-07-04T00:00:00Z", b"", bands, classes)
    return Mosaic(
        (Slot("2024-07-04", ((scene,),)),), tuple(b.name for b in bands), composite, UTM,
        (10.0, 0.0, 500_000.0, 0.0, -10.0, 4_600_000.0), (900, 900), (-460_000, 50_000), "reflectance", "x",
        SourceMask(rule=MaskRule.SCL, asset="scl") if mask is None and scl is not None else mask,
    )  # fmt: skip


def cell(found):
    return first_cell(found, Frame.of(found))


OWN = (-460_002 % 512, 49_998 % 512)


def test_blocks_begin_with_those_of_the_files():
    assert cell(mosaic(grid(), grid())) == OWN


@pytest.mark.parametrize("scl", [grid(20.0), grid(60.0)])
def test_bands_and_masks_that_are_coarser_do_not_matter(scl):
    assert cell(mosaic(grid(20.0), grid(), scl=scl)) == OWN


def test_of_several_files_the_first_on_the_grid_decides():
    other = grid(corner=(499_980.0 + 1230.0, 4_600_020.0))
    assert cell(mosaic(grid(), other)) == OWN
    assert cell(mosaic(other, grid())) == (OWN[0], (OWN[1] + 123) % 512)


@pytest.mark.parametrize(
    "found",
    [
        mosaic(grid(), composite=Composite.BEST),  # distances to clouds reach beyond a block
        mosaic(grid(), scl=grid(20.0), mask=SourceMask(rule=MaskRule.SCL, asset="scl", buffer_m=60)),
        mosaic(grid(), grid(5.0)),  # averaged by GDAL
        mosaic(grid(), grid(crs="EPSG:32633")),  # warped
        mosaic(grid(), None),  # nobody knows before it is opened
        mosaic(grid(20.0)),  # no file has the pixels of the output
    ],
)
def test_where_a_pixel_may_depend_on_its_block_they_are_anchored(found):
    assert cell(found) == (0, 0)


def test_a_file_without_a_phase_of_its_own_is_no_reason_to_move():
    moved = mosaic(grid(corner=(499_984.0, 4_600_020.0)))
    assert cell(moved) == (0, 0)
    assert cell(replace(moved, composite=Composite.MEDIAN)) == (0, 0)
