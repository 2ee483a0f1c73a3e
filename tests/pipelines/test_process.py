"""The heart against an independent, naive blend of all tiles over the whole image."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from models.predictor import RuntimeInfo
from pipelines.pieces import Grain, groups, windows
from pipelines.process import Tally, process
from swathe.card import ClassLabel, Input, ModelCard, Output, Resources
from swathe.errors import ModelError, ReadError
from swathe.imagery import Acquisition, BandSource, Imagery
from swathe.lattice import Chunk, Lattice, cut
from swathe.plan import Work
from swathe.raster import Stack
from swathe.window import Window

BANDS = ("red", "nir")


def card(chip=16, overlap=4, batch=3, stride=1, depth=3):
    classes = tuple(ClassLabel(value=i, name=str(i), colour="#000000") for i in range(depth))
    return ModelCard(
        id="test", title="test", task="segmentation", adapter="artefact", licence="none", citation="none",
        input=Input(bands=BANDS, chip=chip, overlap=overlap, scale=0.001, mean=(0.2, 0.1), std=(2.0, 3.0)),
        output=Output(classes=classes, stride=stride), resources=Resources(batch=batch),
    )  # fmt: skip


def work_of(card_, shape, crop=(0, 0), full=None):
    """Work on a crop of an image of ``full`` pixels, all in cells of the output grid."""
    full = full or shape
    s = card_.output.stride
    band = [BandSource(name, "memory", i + 1, "int16", -1, 1.0, 0.0) for i, name in enumerate(BANDS)]
    imagery = Imagery(
        (Acquisition(None, tuple(band)),), "EPSG:32633", (10.0, 0, 0, 0, -10.0, 0),
        (full[0] * s, full[1] * s), "test", "reflectance", (16, 16), "x",
    )  # fmt: skip
    lattice = Lattice.of_file(card_.input.chip // s, card_.input.overlap // s, full, crop)
    return Work(card_, imagery, lattice, shape, (crop[0] * s, crop[1] * s))


class Image:
    """An image in memory, read with overhang, in which some windows may be lost."""

    def __init__(self, shape, seed=0, holes=0.0):
        rng = np.random.default_rng(seed)
        self.data = rng.integers(0, 3000, (1, len(BANDS), *shape)).astype(np.int16)
        self.valid = rng.random((1, *shape)) >= holes
        self.lost = []

    def read(self, window):
        if any(window.intersection(lost) for lost in self.lost):
            raise ReadError("lost")
        data = np.zeros((1, len(BANDS), window.height, window.width), np.int16)
        mask = np.zeros((1, window.height, window.width), bool)
        part = window.intersection(Window(0, 0, *self.data.shape[2:]))
        if part:
            rows, cols = part.within(window)
            data[:, :, rows, cols] = self.data[:, :, part.row : part.bottom, part.col : part.right]
            mask[:, rows, cols] = self.valid[:, part.row : part.bottom, part.col : part.right]
        return Stack(data, mask, np.ones(len(BANDS)), np.zeros(len(BANDS)))


class Position:
    """A network whose output depends on where in the tile a pixel lies and on all its neighbours: seams show."""

    info = RuntimeInfo("test", "fp32", "cpu", 1)

    def __init__(self, card_):
        self.card, self.sizes, self.poison = card_, [], None
        side = card_.input.chip // card_.output.stride
        rng = np.random.default_rng(1)
        self.pattern = rng.random((card_.output.depth, side, side)).astype(np.float32)

    def one(self, tile):
        s = self.card.output.stride
        signal = tile.mean(axis=(0, 1))
        side = signal.shape[0] // s
        signal = signal.reshape(side, s, side, s).mean(axis=(1, 3)) + signal.mean()
        scores = np.exp(self.pattern * (1 + signal))
        return (scores / scores.sum(axis=0)).astype(np.float32)

    def __call__(self, tiles):
        self.sizes.append(len(tiles))
        if self.poison is not None and any((tile == self.poison).any() for tile in tiles):
            raise ModelError("poisoned")
        return np.stack([self.one(tile) for tile in tiles])


def naive(image, card_, network):
    """Blend of all tiles of the whole image: one big array, weights as an outer product, float64."""
    s, (h, w) = card_.output.stride, image.data.shape[2:]
    rows, cols = -(-h // s), -(-w // s)
    tile, overlap = card_.input.chip // s, card_.input.overlap // s
    stride = tile - overlap
    sums = np.zeros((card_.output.depth, rows + 2 * tile, cols + 2 * tile))
    weight = np.zeros(sums.shape[1:])
    k = np.arange(overlap)
    rise = 0.5 - 0.5 * np.cos(np.pi * (k + 0.5) / overlap) if overlap else np.zeros(0)
    line = np.concatenate([rise, np.ones(tile - 2 * overlap), rise[::-1]])
    for i in range(max(1, -(-(rows - overlap) // stride))):
        for j in range(max(1, -(-(cols - overlap) // stride))):
            stack = image.read(Window(i * stride * s, j * stride * s, tile * s, tile * s))
            units = (stack.data * 0.001 - np.array([0.2, 0.1])[:, None, None]) / np.array([2.0, 3.0])[:, None, None]
            units[:, :, ~stack.mask[0]] = 0
            here = np.s_[i * stride : i * stride + tile, j * stride : j * stride + tile]
            sums[(slice(None), *here)] += network.one(units.astype(np.float32)) * np.outer(line, line)
            weight[here] += np.outer(line, line)
    return (sums / np.where(weight, weight, 1))[:, :rows, :cols]


def run(chunks, work, image, network, inside=lambda window: None, grain=None):
    """All chunks through the heart, into one array."""
    data = np.full((work.card.output.depth, *work.shape), np.nan, np.float32)
    mask = np.zeros(work.shape, bool)
    tally = Tally()
    for chunk in chunks:
        below = chunk.window.row
        for block in process(chunk, work, image.read, network, inside, tally, grain=grain):
            assert block.row == below  # rows come in order, none twice
            below += block.data.shape[1]
            here = np.s_[block.row : below, block.col : block.col + block.data.shape[2]]
            data[(slice(None), *here)] = block.data
            mask[here] = block.mask
        assert below == chunk.window.bottom
    return data, mask, tally


@settings(max_examples=40)
@given(
    shape=st.tuples(st.integers(1, 70), st.integers(1, 70)), overlap=st.sampled_from([0, 2, 4, 8]),
    batch=st.integers(1, 5), side=st.integers(5, 80), stride=st.sampled_from([1, 2]),
)  # fmt: skip
def test_equals_the_naive_blend_of_all_tiles(shape, overlap, batch, side, stride):
    c = card(overlap=overlap, batch=batch, stride=stride)
    network, image = Position(c), Image((shape[0] * stride, shape[1] * stride))
    work = work_of(c, shape)
    data, mask, tally = run(cut(shape, side, side), work, image, network)
    assert mask.all()
    assert np.abs(data - naive(image, c, network)).max() < 2e-6
    assert set(network.sizes) == {batch}  # every batch is full: padded, never short
    assert (tally.wanted, tally.lost) == (shape[0] * shape[1], 0)


@settings(max_examples=40)
@given(
    shape=st.tuples(st.integers(1, 70), st.integers(1, 70)), overlap=st.sampled_from([0, 2, 4, 8]),
    side=st.integers(5, 80), stride=st.sampled_from([1, 2]),
    grain=st.builds(Grain, st.integers(-40, 0), st.integers(-40, 0), st.integers(3, 60)), lanes=st.integers(1, 3),
)  # fmt: skip
def test_pieces_and_lanes_give_the_same_bits_as_rows(shape, overlap, side, stride, grain, lanes):
    c = card(overlap=overlap, stride=stride)
    image = Image((shape[0] * stride, shape[1] * stride), holes=0.3)
    work = work_of(c, shape)
    several = Position(c)
    several.lanes = tuple(Position(c) for _ in range(lanes))
    plain = run(cut(shape, side, side), work, image, Position(c))
    pieces = run(cut(shape, side, side), work, image, several, grain=grain)
    np.testing.assert_array_equal(pieces[0], plain[0])
    np.testing.assert_array_equal(pieces[1], plain[1])
    assert (pieces[2].tiles, pieces[2].skipped, pieces[2].wanted) == (
        plain[2].tiles, plain[2].skipped, plain[2].wanted)  # fmt: skip


def test_a_piece_needs_no_block_but_those_of_its_columns_and_the_one_before():
    c, shape = card(), (90, 100)
    work, grain, chunk = work_of(c, shape), Grain(-13, -7, 32), Chunk("c", Window(0, 0, *shape))
    done = [tile for _, pieces in groups(chunk, work, grain) for piece in pieces for row in piece.rows for tile in row]
    every = [tile for row in work.lattice.over(chunk.window) for tile in row]
    assert sorted((t.row, t.col) for t in done) == sorted((t.row, t.col) for t in every)
    for window in windows(chunk, work, grain):
        assert (window.right - 1 + 7) // 32 - (window.col + 7) // 32 <= 1
        assert (window.bottom - 1 + 13) // 32 - (window.row + 13) // 32 <= 1


@pytest.mark.parametrize(("top", "several"), [(0, 6), (30, 4), (45, 3)])
def test_a_chunk_begins_with_the_tiles_of_two_rows_of_blocks(top, several):
    work, grain, chunk = work_of(card(), (200, 200)), Grain(0, 0, 40), Chunk("c", Window(top, 0, 155, 200))
    rows, pieces = next(groups(chunk, work, grain))
    below = (rows[0][0].window.row // 40 + 2) * 40
    assert len(rows) == several
    assert rows[-1][0].window.bottom <= below < rows[-1][0].window.bottom + work.lattice.rows.stride
    assert {piece.window.height for piece in pieces} == {rows[-1][0].window.bottom - rows[0][0].window.row}


class Slope(Position):
    """The worst network for seams: it says where in the tile a pixel lies, from 0.2 to 0.8 along an axis."""

    def __init__(self, card_, axis):
        super().__init__(card_)
        line = np.linspace(0.2, 0.8, card_.input.chip, dtype=np.float32)
        one = np.broadcast_to(line if axis == 1 else line[:, None], (card_.input.chip, card_.input.chip))
        self.answer = np.stack([one, 1 - one, np.zeros_like(one)])

    def one(self, tile):
        return self.answer


@pytest.mark.parametrize("axis", [0, 1])
@pytest.mark.parametrize("overlap", [4, 8, 16])
def test_no_seam_is_steeper_than_the_ramp_at_tile_and_chunk_borders(axis, overlap):
    """The steepest step of the map: the ramp's slope times what two tiles disagree by, and the network's own slope."""
    side, shape = 48, (300, 310)
    c = card(chip=side, overlap=overlap)
    data, *_ = run(cut(shape, 100, 100), work_of(c, shape), Image(shape), Slope(c, axis))
    steps = np.abs(np.diff(data[0], axis=axis))
    own = 0.6 / (side - 1)
    disagreement = own * (side - overlap)
    hard_crop = disagreement - own
    assert steps.max() <= disagreement * (np.pi / 2) / overlap + own
    assert steps.max() < hard_crop * 2 / overlap + own
    # A border of chunks (at 100, 200, 300) is no steeper than any other place: the map repeats with the tiles alone.
    whole, *_ = run(cut(shape, 400, 400), work_of(c, shape), Image(shape), Slope(c, axis))
    assert np.array_equal(data, whole)


@settings(max_examples=30)
@given(sides=st.tuples(st.integers(5, 80), st.integers(5, 80)), holes=st.sampled_from([0.0, 0.5, 0.995]))
def test_cut_does_not_change_a_bit(sides, holes):
    c = card()
    image, network, shape = Image((70, 50), holes=holes), Position(c), (70, 50)
    whole = run(cut(shape, 100, 100), work_of(c, shape), image, network)
    chunked = run(cut(shape, *sides), work_of(c, shape), image, network)
    assert np.array_equal(whole[1], image.valid[0])
    assert np.array_equal(chunked[1], whole[1])
    assert np.array_equal(chunked[0][:, whole[1]], whole[0][:, whole[1]])


@settings(max_examples=30)
@given(st.data())
def test_a_crop_gives_the_same_pixels_as_the_whole(data):
    c, full = card(), (70, 50)
    image, network = Image(full), Position(c)
    row, col = data.draw(st.integers(0, 69)), data.draw(st.integers(0, 49))
    shape = data.draw(st.integers(1, 70 - row)), data.draw(st.integers(1, 50 - col))
    whole = run(cut(full, 100, 100), work_of(c, full), image, network)[0]
    crop = run(cut(shape, 30, 30), work_of(c, shape, (row, col), full), image, network)[0]
    assert np.array_equal(crop, whole[:, row : row + shape[0], col : col + shape[1]])


def test_only_pixels_inside_the_area_are_done_and_they_do_not_change():
    c, shape = card(), (64, 64)
    image, network = Image(shape), Position(c)
    whole = run(cut(shape, 64, 64), work_of(c, shape), image, network)
    disc = np.hypot(*np.mgrid[-20:44, -20:44]) < 15
    data, mask, tally = run(
        cut(shape, 32, 32), work_of(c, shape), image, network, lambda w: disc[w.within(Window(0, 0, 64, 64))]
    )
    assert np.array_equal(mask, disc)
    assert np.array_equal(data[:, disc], whole[0][:, disc])
    assert tally.skipped > 0
    assert tally.tiles < whole[2].tiles + 8


def test_a_lost_window_costs_its_tiles_only_and_is_counted():
    c, shape = card(), (64, 64)
    image, network = Image(shape), Position(c)
    whole = run(cut(shape, 64, 64), work_of(c, shape), image, network)[0]
    image.lost = [Window(30, 30, 1, 1)]
    data, mask, tally = run(cut(shape, 64, 64), work_of(c, shape), image, network)
    lost = {(f["row"], f["col"]) for f in tally.failed}
    assert lost == {(2, 2)}  # tile 2 covers 24..40
    assert not mask[28:36, 28:36].any()  # covered by that tile alone
    assert mask.sum() + (~mask).sum() == 64 * 64
    assert np.array_equal(data[:, :20, :], whole[:, :20, :])
    assert "read" in tally.failed[0]["error"]


@pytest.mark.parametrize("how", ["raise", "nan"])
def test_a_poisoned_tile_is_lost_alone(how):
    c, shape = card(overlap=0, batch=4), (64, 64)
    image, network = Image(shape), Position(c)
    image.data[0, :, 20, 20] = 32767
    value = np.float32((32767 * np.float32(0.001) - 0.2) / 2.0)
    if how == "raise":
        network.poison = max(process_units(image, c)[:, 0, 20, 20])
    else:
        one = network.one
        network.one = lambda tile: one(tile) * (np.nan if (np.abs(tile - value) < 1e-3).any() else 1)
    data, mask, tally = run(cut(shape, 64, 64), work_of(c, shape), image, network)
    assert [(f["row"], f["col"]) for f in tally.failed] == [(1, 1)]
    assert (~mask).sum() == 16 * 16 == tally.lost
    assert np.isfinite(data[:, mask]).all()


def process_units(image, c):
    from models.prepare import to_model_units

    return to_model_units(image.read(Window(0, 0, 64, 64)), c.input)


def test_nothing_valid_gives_rows_without_values():
    c, shape = card(), (40, 40)
    image, network = Image(shape, holes=1.1), Position(c)
    _, mask, tally = run(cut(shape, 40, 40), work_of(c, shape), image, network)
    assert not mask.any()
    assert (tally.tiles, tally.wanted) == (0, 0)
    assert not network.sizes


def test_all_reads_lost_is_no_result_and_says_so():
    c, shape = card(), (40, 40)
    image, network = Image(shape), Position(c)
    image.lost = [Window(0, 0, 40, 40)]
    _, mask, tally = run((Chunk("a", Window(0, 0, 40, 40)),), work_of(c, shape), image, network)
    assert not mask.any()
    assert len(tally.failed) == tally_tiles(c, shape)


def tally_tiles(c, shape):
    return Lattice.of_file(c.input.chip, c.input.overlap, shape).count_over(Window(0, 0, *shape))
