"""The promises of the lattice: partition, coverage, weights, and independence of the area asked for."""

from itertools import product

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from swathe.lattice import Axis, Lattice, cut, ramp, tile_weight
from swathe.window import Window

sizes = st.integers(1, 700)
places = st.tuples(st.integers(-(10**7), 10**7), st.integers(-(10**7), 10**7))


@st.composite
def tilings(draw):
    tile = draw(st.integers(1, 96))
    return tile, draw(st.integers(0, tile // 2))


@given(tilings(), sizes)
def test_every_pixel_is_covered_and_weights_sum_to_one_inside(tiling, length):
    tile, overlap = tiling
    axis = Axis.of_file(tile, overlap, length)
    total = np.zeros(length + 3 * tile)
    covered = np.zeros_like(total, dtype=int)
    for index in axis.over(0, length):
        start = axis.start(index)
        total[start : start + tile] += tile_weight(tile, overlap)
        covered[start : start + tile] += 1
    assert (covered[:length] >= 1).all()
    assert (covered[:length] <= 2).all()
    assert np.allclose(total[overlap : max(overlap, length - overlap)], 1)
    assert (total[:length] > 0).all()


@given(tilings(), sizes, st.data())
def test_over_gives_exactly_the_tiles_that_touch(tiling, length, data):
    tile, overlap = tiling
    axis = Axis.of_file(tile, overlap, length)
    start = data.draw(st.integers(0, length - 1))
    stop = data.draw(st.integers(start + 1, length))
    touching = [i for i in range(axis.count) if axis.start(i) < stop and axis.start(i) + tile > start]
    assert list(axis.over(start, stop)) == touching


@given(tilings(), st.integers(50, 700), st.data())
def test_a_crop_sees_the_same_tiles_as_the_file(tiling, length, data):
    tile, overlap = tiling
    crop = data.draw(st.integers(0, length - 1))
    pixel = data.draw(st.integers(crop, length - 1))
    whole, cropped = Axis.of_file(tile, overlap, length), Axis.of_file(tile, overlap, length, crop)
    assert whole.over(pixel, pixel + 1) == cropped.over(pixel - crop, pixel - crop + 1)


@given(tilings(), places, places, places)
def test_an_endless_lattice_hangs_on_the_origin_of_the_crs(tiling, corner, other, pixel):
    """Whatever the corner of the grid: the tiles over a pixel of the CRS start at multiples of the stride."""
    tile, overlap = tiling
    starts = [[s for s in range(p - tile + 1, p + 1) if s % (tile - overlap) == 0] for p in pixel]
    expected = set(product(*starts))
    assert on_the_crs(Lattice.of_grid(tile, overlap, corner), corner, pixel) == expected
    assert on_the_crs(Lattice.of_grid(tile, overlap, other), other, pixel) == expected


@given(tilings(), st.tuples(sizes, sizes), st.data())
def test_a_crop_hangs_on_the_first_pixel_of_its_file(tiling, shape, data):
    tile, overlap = tiling
    crop = tuple(data.draw(st.integers(0, side - 1)) for side in shape)
    pixel = tuple(data.draw(st.integers(at, side - 1)) for at, side in zip(crop, shape, strict=True))
    found = on_the_crs(Lattice.of_file(tile, overlap, shape, crop), crop, pixel)
    assert found == on_the_crs(Lattice.of_file(tile, overlap, shape), (0, 0), pixel)
    assert all(row % (tile - overlap) == col % (tile - overlap) == 0 for row, col in found)


def on_the_crs(lattice, corner, pixel):
    """Corners of the tiles over a pixel; all but the lattice's own positions are counted from one fixed origin."""
    window = Window(pixel[0] - corner[0], pixel[1] - corner[1], 1, 1)
    tiles = [tile for row in lattice.over(window) for tile in row]
    return {(tile.window.row + corner[0], tile.window.col + corner[1]) for tile in tiles}


@given(sizes, sizes, st.integers(7, 300), st.integers(7, 300))
def test_chunks_partition_the_grid(rows, cols, height, width):
    owned = np.zeros((rows, cols), dtype=int)
    keys = set()
    for chunk in cut((rows, cols), height, width):
        owned[chunk.window.within(Window(0, 0, rows, cols))] += 1
        keys.add(chunk.key)
    assert (owned == 1).all()
    assert len(keys) == -(-rows // height) * -(-cols // width)


@given(st.integers(1, 200))
def test_ramp_and_its_mirror_sum_to_one(overlap):
    rise = ramp(overlap)
    assert (rise > 0).all()
    assert np.allclose(rise + rise[::-1], 1, atol=1e-7)


def test_no_tile_is_shifted_inwards():
    lattice = Lattice.of_file(224, 32, (300, 300))
    starts = [tile.window.col for tile in lattice.over(Window(0, 0, 300, 300))[0]]
    assert starts == [0, 192]  # the second overhangs to 416


@pytest.mark.parametrize("overlap", [-1, 17])
def test_three_tiles_never_meet(overlap):
    with pytest.raises(ValueError, match="overlap"):
        Axis(32, overlap, 0)
