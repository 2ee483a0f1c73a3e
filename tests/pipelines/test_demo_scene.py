"""The demo scene: what its files say, that truth and pixels agree, and that the parts do what they claim."""

from __future__ import annotations

import json

import numpy as np
import pytest
import rasterio
from scipy import ndimage

from pipelines.demo import msi, spectra, terrain
from pipelines.demo.files import VERSION
from pipelines.demo.lines import Lines
from pipelines.demo.mirror import folded, write_large
from pipelines.demo.noise import Field, Texture, hashed, spectral
from pipelines.demo.quicklook import SHORTWAVE, quicklook
from pipelines.demo.scene import write
from pipelines.demo.truth import Score, score
from pipelines.demo.world import imagine
from swathe.bands import NAMES
from swathe.errors import GridError, ImageryError, InputError, OutputError

SIZE = 1024


@pytest.fixture(scope="module")
def scene(tmp_path_factory):
    return write(tmp_path_factory.mktemp("demo"), SIZE, 2024)


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    return write(tmp_path_factory.mktemp("small"), 320, 5)


def read(path):
    with rasterio.open(path) as file:
        return file.read()


def reflectance(path):
    """(6, rows, cols) masked by rasterio itself, scaled by the tags of the file."""
    with rasterio.open(path) as file:
        return file.read(masked=True).astype(np.float64) * file.scales[0] + file.offsets[0]


def difference(a, b):
    return (a - b) / (a + b)


def median(values):
    return np.median(values.compressed())


def agreement(found, real, scored):
    found, real = found[scored], real[scored]
    return (found & real).sum() / (found | real).sum()


def water_map(scene):
    post = reflectance(scene.post)
    return (difference(post[1], post[4]) > 0).filled(False)


def burn_map(scene, threshold=0.27):
    pre, post = reflectance(scene.pre), reflectance(scene.post)
    return (difference(pre[3], pre[5]) - difference(post[3], post[5]) > threshold).filled(False)


def agreements(scene):
    """IoU of water by MNDWI > 0 and of burned ground by dNBR > 0.27, on clear pixels."""
    water, burn, clear = (read(p)[0] for p in (scene.water, scene.burn, scene.clear))
    seen = clear == 1
    return (
        agreement(water_map(scene), water == 1, seen & (water != 255)),
        agreement(burn_map(scene), burn == 1, seen & (burn != 255)),
    )


@pytest.mark.parametrize("name", ["pre", "post"])
def test_images_are_tagged_as_an_engine_needs_them(scene, name):
    with rasterio.open(getattr(scene, name)) as file:
        assert file.profile["driver"] == "GTiff"
        assert file.descriptions == ("blue", "green", "red", "nir08", "swir16", "swir22")
        assert set(file.descriptions) <= NAMES
        assert set(file.dtypes) == {"int16"}
        assert file.scales == (1e-4,) * 6
        assert file.offsets == (0.0,) * 6
        assert file.nodatavals == (-9999,) * 6
        assert file.block_shapes == [(512, 512)] * 6
        assert file.crs == rasterio.CRS.from_epsg(32633)
        assert file.res == (10.0, 10.0)
        assert file.transform.b == file.transform.d == 0
        date = file.tags()["TIFFTAG_DATETIME"].split()[0].replace(":", "-")
        assert date == getattr(scene, f"{name}_date")


@pytest.mark.parametrize("name", ["water", "burn", "clear"])
def test_truth_lies_on_the_grid_of_the_images(scene, name):
    with rasterio.open(getattr(scene, name)) as truth, rasterio.open(scene.post) as image:
        assert truth.dtypes == ("uint8",)
        assert (truth.shape, truth.crs, truth.transform) == (image.shape, image.crs, image.transform)
        assert set(np.unique(truth.read())) <= ({0, 1} if name == "clear" else {0, 1, 255})


@pytest.mark.parametrize("name", ["pre", "post"])
def test_values_are_reflectance_between_0_and_1(scene, name):
    stored = read(getattr(scene, name))
    values = stored[stored != -9999]
    assert values.min() >= 1
    assert values.max() <= 10_000
    dark, middle, bright = np.percentile(values, [2, 50, 99.9]) / 10_000
    assert dark < 0.03 < middle < 0.25 < bright


@pytest.mark.parametrize("name", ["pre", "post"])
def test_the_swath_ends_in_a_slanted_edge(scene, name):
    gone = read(getattr(scene, name)) == -9999
    assert (gone == gone[0]).all()
    assert 0.02 < gone[0].mean() < 0.05
    missing = gone[0].sum(axis=1)
    assert missing[0] == 0
    steps = np.diff(missing[missing > 0])
    assert set(steps) <= {0, 1}
    assert steps.mean() == pytest.approx(0.25, abs=0.02)
    edge = np.argmax(gone[0][-1])
    assert gone[0][-1, edge:].all()


def test_truth_is_silent_where_there_is_no_imagery(scene):
    pre_gone, post_gone = (read(p)[0] == -9999 for p in (scene.pre, scene.post))
    water, burn, clear = (read(p)[0] for p in (scene.water, scene.burn, scene.clear))
    assert ((water == 255) == post_gone).all()
    assert (burn[pre_gone | post_gone] == 255).all()
    assert (clear[post_gone] == 0).all()


def test_the_scene_has_something_of_everything(scene):
    water, burn, clear = (read(p)[0] for p in (scene.water, scene.burn, scene.clear))
    assert 0.05 < (water == 1).mean() < 0.25
    assert 0.03 < (burn == 1).mean() < 0.12
    assert 0.8 < clear.mean() < 0.95
    assert not ((water == 1) & (burn == 1)).any()
    assert (burn == 255).mean() < 0.08


def test_indices_find_the_truth_but_not_all_of_it(scene):
    water, burn = agreements(scene)
    assert 0.90 < water < 0.999
    assert 0.60 < burn < 0.999


def test_burned_forest_lost_its_near_infrared_and_gained_shortwave(scene):
    pre, post = reflectance(scene.pre), reflectance(scene.post)
    hit = (read(scene.burn)[0] == 1) & (read(scene.clear)[0] == 1) & (difference(pre[3], pre[5]) > 0.4).filled(False)
    assert hit.sum() > 1000
    assert median(post[3][hit]) < 0.7 * median(pre[3][hit])
    assert median(post[5][hit]) > 1.2 * median(pre[5][hit])


def test_clouds_are_bright_and_their_shadows_lie_away_from_the_sun(scene):
    post, clear = reflectance(scene.post), read(scene.clear)[0] == 1
    valid = ~post.mask[0]
    white = valid & (post[0] > 0.35).filled(False)
    assert white.sum() > 1000
    assert (~clear[white]).mean() > 0.99
    hidden = ~clear & valid & (post[0] < 0.2).filled(False)
    towards = np.roll(white, (-90, -50), axis=(0, 1))
    opposite = np.roll(white, (90, 50), axis=(0, 1))
    assert (hidden & towards).sum() > 2 * (hidden & opposite).sum()
    ground = clear & valid & (read(scene.water)[0] == 0)
    assert median(post[3][hidden]) < 0.8 * median(post[3][ground])


def test_the_same_seed_gives_the_same_pixels(small, tmp_path):
    again = write(tmp_path, small.size, small.seed)
    for name in ("pre", "post", "water", "burn", "clear"):
        assert (read(getattr(again, name)) == read(getattr(small, name))).all(), name


def test_another_seed_gives_another_place(small, tmp_path):
    other = write(tmp_path, small.size, small.seed + 1)
    assert (read(other.water) != read(small.water)).mean() > 0.02
    assert (read(other.post)[0] != read(small.post)[0]).mean() > 0.9


def test_a_scene_that_is_there_is_not_written_again(small):
    before = {p.name: p.stat().st_mtime_ns for p in small.folder.iterdir()}
    heard = []
    assert write(small.folder, small.size, small.seed, heard.append) == small
    assert {p.name: p.stat().st_mtime_ns for p in small.folder.iterdir()} == before
    assert heard == []


@pytest.mark.parametrize("damage", ["truncated", "missing", "other version", "no label"])
def test_a_scene_that_is_not_whole_is_written_again(small, tmp_path, damage):
    scene = write(tmp_path, 256, 1)
    whole = read(scene.post)
    label = tmp_path / "scene.json"
    if damage == "truncated":
        scene.post.write_bytes(scene.post.read_bytes()[:-10])
    elif damage == "missing":
        scene.post.unlink()
    elif damage == "other version":
        label.write_text(json.dumps({**json.loads(label.read_text()), "version": VERSION + 1}))
    else:
        label.unlink()
    heard = []
    write(tmp_path, 256, 1, heard.append)
    assert heard
    assert heard == sorted(heard)
    assert heard[-1] == 1.0
    assert (read(scene.post) == whole).all()


def test_a_write_that_breaks_off_leaves_nothing_behind(tmp_path):
    def stop(_):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write(tmp_path, 256, 1, stop)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("size", [0, 255, 257, 1023])
def test_impossible_sizes_are_refused(tmp_path, size):
    with pytest.raises(InputError) as e:
        write(tmp_path / "none", size)
    assert e.value.field == "size"
    assert not (tmp_path / "none").exists()


def test_a_folder_that_is_a_file_is_refused(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError) as e:
        write(tmp_path / "file", 256)
    assert e.value.hint


def save(path, array, like, **profile):
    with rasterio.open(like) as file:
        kept = {k: file.profile[k] for k in ("driver", "width", "height", "crs", "transform")}
    kept |= {"height": array.shape[0], "width": array.shape[1], "count": 1, "dtype": array.dtype}
    with rasterio.open(path, "w", **(kept | profile)) as file:
        file.write(array, 1)
    return path


def test_score_agrees_with_plain_counting(scene, tmp_path):
    found = np.where(water_map(scene), 7, 3).astype(np.uint8)
    found[::5, ::7] = 0
    path = save(tmp_path / "map.tif", found, scene.water, nodata=0)
    water, clear = read(scene.water)[0], read(scene.clear)[0]
    both = only_found = only_real = pixels = 0
    for f, w in zip(found[clear == 1].tolist(), water[clear == 1].tolist(), strict=True):
        if w == 255:
            continue
        pixels += 1
        both += f == 7 and w == 1
        only_found += f == 7 and w == 0
        only_real += f != 7 and w == 1
    got = score(path, scene.water, scene.clear, 7)
    precision, recall = both / (both + only_found), both / (both + only_real)
    assert got.pixels == pixels
    assert got.iou == pytest.approx(both / (both + only_found + only_real))
    assert (got.precision, got.recall) == (pytest.approx(precision), pytest.approx(recall))
    assert got.f1 == pytest.approx(2 * precision * recall / (precision + recall))


def test_score_of_truth_itself_is_1_and_of_its_opposite_0(scene):
    assert score(scene.burn, scene.burn, scene.clear, 1) == Score(1, 1, 1, 1, score_pixels(scene))
    assert score(scene.burn, scene.burn, scene.clear, 0).iou == 0


def score_pixels(scene):
    return int(((read(scene.burn) != 255) & (read(scene.clear) == 1)).sum())


def test_a_result_without_data_has_missed(scene, tmp_path):
    truth = read(scene.water)[0]
    path = save(
        tmp_path / "half.tif", np.where(np.arange(SIZE) < 300, truth, 255).astype(np.uint8), scene.water, nodata=255
    )
    got = score(path, scene.water, scene.clear, 1)
    assert got.precision == 1
    assert 0 < got.recall < 1
    empty = save(tmp_path / "empty.tif", np.full_like(truth, 255), scene.water, nodata=255)
    assert score(empty, scene.water, scene.clear, 1) == Score(0, 0, 0, 0, got.pixels)


def test_score_where_there_is_nothing_to_find(scene, tmp_path):
    nothing = save(tmp_path / "no.tif", np.zeros((SIZE, SIZE), np.uint8), scene.water)
    got = score(nothing, nothing, scene.clear, 1)
    assert (got.iou, got.precision, got.recall, got.f1) == (1, 1, 1, 1)


def test_score_refuses_another_grid_and_no_file(scene, small, tmp_path):
    with pytest.raises(GridError):
        score(small.water, scene.water, scene.clear, 1)
    with rasterio.open(scene.water) as file:
        moved = file.transform @ rasterio.Affine.translation(0.5, 0)
    with pytest.raises(GridError):
        score(
            save(tmp_path / "moved.tif", read(scene.water)[0], scene.water, transform=moved),
            scene.water,
            scene.clear,
            1,
        )
    with pytest.raises(ImageryError):
        score(tmp_path / "none.tif", scene.water, scene.clear, 1)


def test_a_large_scene_is_mirrored_copies(small, tmp_path):
    large = write_large(tmp_path, 850, small)
    for name in ("post", "water"):
        expected = np.pad(read(getattr(small, name)), ((0, 0), (0, 530), (0, 530)), mode="symmetric")
        assert (read(getattr(large, name)) == expected).all(), name
    with rasterio.open(large.post) as file, rasterio.open(small.post) as origin:
        assert (file.transform, file.descriptions, file.scales) == (
            origin.transform,
            origin.descriptions,
            origin.scales,
        )
    heard = []
    write_large(tmp_path, 850, small, heard.append)
    assert heard == []
    with pytest.raises(InputError):
        write_large(tmp_path, 300, small)


def test_folded_runs_to_and_fro():
    assert folded(np.arange(8), 3).tolist() == [0, 1, 2, 2, 1, 0, 0, 1]


def test_quicklooks_show_land_sea_and_the_edge(scene, tmp_path):
    from PIL import Image

    true = np.asarray(Image.open(quicklook(scene.post, tmp_path / "true.png", width=256)))
    assert true.shape == (256, 256, 3)
    assert (true[-1, -1] == 0).all()
    sea = true[-20:-5, 5:20].reshape(-1, 3).astype(int)
    assert (np.median(sea, axis=0) < 110).all()
    false = np.asarray(Image.open(quicklook(scene.post, tmp_path / "false.png", SHORTWAVE, width=5000)))
    assert false.shape == (SIZE, SIZE, 3)
    forest = read(scene.pre)[3] > 2500
    assert false[..., 1][forest].mean() > false[..., 0][forest].mean()


def test_spectra_keep_the_signs_the_indices_live_on():
    table = dict(spectra.REFLECTANCE)
    assert all(0 < v < 1 for values in table.values() for v in values)
    for name in ("deep_water", "turbid_water"):
        assert difference(table[name][1], table[name][4]) > 0.4
    for name in ("conifer", "broadleaf", "maquis"):
        assert difference(table[name][3], table[name][5]) > 0.3
    for name in ("char", "burned_soil"):
        assert difference(table[name][3], table[name][5]) < -0.2
    dry = [n for n in table if "water" not in n and n != "cloud"]
    assert all(difference(table[n][1], table[n][4]) < -0.05 for n in dry)


def test_water_on_the_terrain_runs_downhill_to_the_sea():
    land = terrain.carve(96, 50.0, np.random.default_rng(3))
    height, tree = land.height.ravel(), land.downstream
    inland = np.flatnonzero(~land.sea.ravel())
    assert (height[inland] > height[tree[inland]]).all()
    area = np.zeros(height.size)
    for cell in range(height.size):
        at = cell
        area[at] += 1
        while tree[at] != at:
            at = tree[at]
            area[at] += 1
        assert land.sea.ravel()[at]
    assert np.allclose(area.reshape(land.area.shape), land.area)


def test_steepest_descent_agrees_with_looking_around():
    height = spectral(24, 1.5, np.random.default_rng(1))
    roots = np.zeros(height.size, bool)
    roots[5] = True
    got = terrain.descend(height, roots)
    for r in range(24):
        for c in range(24):
            drops = {r * 24 + c: 0.0}
            for dy, dx in terrain.NEIGHBOURS:
                y, x = r + dy, c + dx
                if 0 <= y < 24 and 0 <= x < 24:
                    drops[y * 24 + x] = (height[r, c] - height[y, x]) / np.hypot(dy, dx)
            expected = r * 24 + c if roots[r * 24 + c] else max(drops, key=lambda k: drops[k])
            assert got[r * 24 + c] == expected


def test_a_field_is_the_cubic_spline_of_its_nodes():
    field = Field(spectral(20, 1.0, np.random.default_rng(0)), step=3.5, origin=-7.0)
    rows, cols = np.arange(-20, 90) + 0.5, np.arange(10, 40) + 0.5
    r, c = np.meshgrid((rows + 7) / 3.5 - 0.5, (cols + 7) / 3.5 - 0.5, indexing="ij")
    expected = ndimage.map_coordinates(field.nodes, [r, c], order=3, prefilter=False, mode="nearest")
    assert np.allclose(field.at(rows, cols), expected, atol=1e-5)


def test_textures_repeat():
    texture = Texture(spectral(8, 0.5, np.random.default_rng(0)))
    got = texture.at(np.arange(-8, 16), np.arange(-3, 9))
    assert (got == np.pad(texture.tile, 8, mode="wrap")[:24, 5:17]).all()


def test_hashes_are_even_and_depend_on_every_key():
    a, b = np.arange(300)[:, None], np.arange(-150, 150)[None, :]
    draw = hashed(a, b)
    assert draw.shape == (300, 300)
    assert np.abs(np.histogram(draw, 10, (0, 1))[0] / draw.size - 0.1).max() < 0.01
    assert np.abs(np.corrcoef(draw[1:].ravel(), draw[:-1].ravel())[0, 1]) < 0.02
    assert (hashed(a, b) == draw).all()
    assert (hashed(b, a) != hashed(a, b).T).mean() > 0.99


def test_distances_to_lines_agree_with_measuring_every_piece():
    s = np.linspace(0, 3, 40)
    course = np.stack([20 + 10 * np.sin(s), 5 + 15 * s], axis=1)
    lines = Lines.of([(course, np.full(40, 2.0)), (np.array([[45.5, 12.5]]), np.array([3.0]))], reach=6)
    rows, cols = np.arange(4, 60), np.arange(-3, 50)
    bank, half = lines.at(rows, cols)
    fine = np.stack([20 + 10 * np.sin(np.linspace(0, 3, 4000)), 5 + 15 * np.linspace(0, 3, 4000)], axis=1)
    r, c = np.meshgrid(rows + 0.5, cols + 0.5, indexing="ij")
    away = np.hypot(r[..., None] - fine[:, 0], c[..., None] - fine[:, 1])
    curve, pond = away.min(axis=-1) - 2, np.hypot(r - 45.5, c - 12.5) - 3
    beside = (away.argmin(axis=-1) > 0) & (away.argmin(axis=-1) < len(fine) - 1)  # ends reach one pixel further
    expected = np.minimum(np.minimum(curve, pond), 6)
    assert beside.mean() > 0.5
    assert np.abs(bank - expected)[beside].max() < 0.15
    assert half[(curve < 0)].max() == pytest.approx(2)


def test_the_instrument_keeps_brightness_and_blurs_edges():
    light = np.full((44, 52), 0.2, np.float32)
    for band in range(6):
        seen = msi.expose(light, band, np.random.default_rng(band))
        assert seen.shape == (32, 40)
        assert seen.mean() == pytest.approx(2000, abs=2)
        assert 2 < seen.std() < 14
    light[:, 26:] = 0.6
    fine, coarse = (msi.expose(light, b, np.random.default_rng(b)).mean(axis=0) for b in (2, 4))
    assert ((fine > 2100) & (fine < 5900)).sum() == 2
    assert ((coarse > 2100) & (coarse < 5900)).sum() > 2


def test_blocks_fit_together(small):
    """A border between painted blocks is no place of its own: the same ground seen from either side."""
    from pipelines.demo import ground

    world = imagine(small.size, small.seed)
    rows = np.arange(0, 64)
    whole = ground.survey(world, rows, np.arange(0, 128))
    part = ground.survey(world, rows, np.arange(60, 128))
    inner = slice(4, None)
    for band in range(6):
        a = ground.painted(whole.after, band)[:, 60:][:, inner]
        b = ground.painted(part.after, band)[:, inner]
        assert np.allclose(a, b, atol=2e-3)
    assert ((whole.water[:, 60:] != part.water)[:, inner]).mean() < 1e-3


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_the_default_scene_is_as_good_as_documented(tmp_path):
    water, burn = agreements(write(tmp_path))
    assert 0.95 < water < 0.99
    assert 0.85 < burn < 0.95
