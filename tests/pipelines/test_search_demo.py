"""The demo catalogue: found by our search and by pystac, right in both zones, whole or not there."""

from datetime import UTC, datetime

import numpy as np
import pystac
import pytest
import rasterio
from pyproj import Transformer

from pipelines.demo import catalogue
from pipelines.search.discover import source_of
from pipelines.search.find import find
from pipelines.search.query import Query
from swathe.aoi import AOI
from swathe.errors import InputError, OutputError
from swathe.when import parse_dates
from tests.pipelines import recorded

NOW = datetime(2026, 11, 21, tzinfo=UTC)


@pytest.fixture(scope="module")
def demo(tmp_path_factory):
    return catalogue.write(tmp_path_factory.mktemp("demo") / "catalogue", 512)


@pytest.fixture(scope="module")
def fetcher():
    door = recorded.open_door()
    yield door
    door.close()


def test_the_search_finds_it_without_a_card(demo, fetcher):
    source = source_of(str(demo.catalog), {}, fetcher)
    found = find(source, Query(AOI.parse(demo.aoi), parse_dates("2024-07", NOW), 30.0), fetcher, NOW)
    assert [(s.when[:10], s.crs) for s in found.scenes] == [("2024-07-04", "EPSG:32633"), ("2024-07-04", "EPSG:32634")]
    assert [b.name for b in found.scenes[0].bands] == list(catalogue.BANDS)
    assert {(b.scale, b.offset, b.nodata) for s in found.scenes for b in s.bands} == {(1e-4, -0.1, 0.0)}
    assert [(s.mask.name, s.mask.nodata) for s in found.scenes] == [("scl", 0.0)] * 2


def test_the_shipped_card_fits_it(demo, fetcher):
    card = recorded.shipped_cards()["local-catalogue"].model_copy(update={"url": str(demo.catalog)})
    found = find(card, Query(AOI.parse(demo.aoi), parse_dates("2024", NOW)), fetcher, NOW)
    assert len(found.scenes) == 8
    assert not found.left_out


def test_items_say_what_their_files_are(demo):
    """Grid, size and type as rasterio reads them; cloud cover as counted in the classification."""
    tops = pystac.Catalog.from_file(str(demo.catalog))
    items = list(tops.get_items(recursive=True))
    assert len(items) == 8
    for item in items:
        for key, asset in item.assets.items():
            with rasterio.open(asset.get_absolute_href()) as file:
                assert file.crs.to_epsg() == item.ext.proj.epsg
                assert list(file.transform)[:6] == asset.extra_fields["proj:transform"]
                assert list(file.shape) == asset.extra_fields["proj:shape"]
                assert file.block_shapes == [(512, 512)]
                assert file.overviews(1) or max(file.shape) <= 512
                data = file.read(1)
            if key == "scl":
                cloud = 100 * np.isin(data[data > 0], (8, 9, 10)).mean()
                assert item.properties["eo:cloud_cover"] == pytest.approx(cloud, abs=0.01)


def test_both_zones_show_the_same_ground(demo):
    """The eastern tile was warped: at the same place both hold nearly the same reflectance."""
    home = demo.folder / catalogue.COLLECTION
    with (
        rasterio.open(home / "swathe-demo_2024-07-04_33" / "nir08.tif") as west,
        rasterio.open(home / "swathe-demo_2024-07-04_34" / "nir08.tif") as east,
    ):
        cols, rows = np.meshgrid(np.arange(270, 300), np.arange(20, 490))
        x, y = (np.asarray(v) for v in rasterio.transform.xy(west.transform, rows.ravel(), cols.ravel()))
        one = west.read(1)[rows.ravel(), cols.ravel()]
        x, y = Transformer.from_crs(west.crs, east.crs, always_xy=True).transform(x, y)
        other_rows, other_cols = rasterio.transform.rowcol(east.transform, x, y)
        other = east.read(1)[np.array(other_rows), np.array(other_cols)]
    seen = (one > 0) & (other > 0)
    assert seen.mean() > 0.9
    assert np.corrcoef(one[seen], other[seen])[0, 1] > 0.95


def test_truth_is_water_where_it_is_dark(demo):
    with rasterio.open(demo.water) as truth:
        water = truth.read(1)
    home = demo.folder / catalogue.COLLECTION / "swathe-demo_2024-08-28_33"
    with rasterio.open(home / "nir08.tif") as band, rasterio.open(home / "scl.tif") as classes:
        nir, clear = band.read(1), np.isin(np.repeat(np.repeat(classes.read(1), 2, 0), 2, 1), (4, 5, 6))
    wet = water[:, : nir.shape[1]] == 1
    assert 0.02 < wet.mean() < 0.98
    assert np.median(nir[wet & clear]) < 1500 < np.median(nir[~wet & clear])


def test_it_is_found_again_and_never_half_written(demo, tmp_path):
    stamp = demo.catalog.stat().st_mtime_ns
    assert catalogue.write(demo.folder, 512).catalog.stat().st_mtime_ns == stamp
    with pytest.raises(InputError):
        catalogue.write(tmp_path / "x", 100)
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "mine.txt").write_text("mine")
    with pytest.raises(OutputError):
        catalogue.write(tmp_path / "full", 512)
    assert [p.name for p in (tmp_path / "full").iterdir()] == ["mine.txt"]
    assert sorted(p.name for p in tmp_path.iterdir()) == ["full"]
