"""Every shipped card of an archive, end to end: its item found through a STAC API, its files read.

Files lie behind the credentials that the archive wants, in its own format; what comes out has to be the band, the
number and the day that its documents say. The items are recorded ones, or built from those documents
(``documented.py``), cut down to small files at their own corner: addresses, keys and words stay theirs, and names of
hosts lead here. No two files of a scene hold the same number. From west to east a third of every file is clear, a third
cloudy by its mask, and in the last third the bands are empty.
"""

from __future__ import annotations

import base64
import copy
import json
import posixpath
import re
from collections.abc import Callable, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import Any
from urllib.parse import urlsplit

import numpy as np
import pytest
import rasterio
import shapely
from affine import Affine
from pyproj import Transformer

from models.registry import load_cards
from pipelines import searched
from pipelines.imagery.gdal import Retry
from pipelines.mosaic.reader import MosaicReader
from pipelines.remote.fetch import Fetcher
from pipelines.remote.network import Network
from pipelines.remote.secrets import Secrets
from swathe.errors import InputError
from swathe.recipe import Recipe, Search
from swathe.source import AuthKind, SourceKind
from swathe.window import Window
from tests.pipelines import documented, recorded
from tests.pipelines.remote_server import Names
from tests.pipelines.s3_server import running_s3  # noqa: F401  the fixture s3_server
from tests.pipelines.scenes import outline
from tests.pipelines.stac_server import Answer, StacServer

ROWS, COLS = 192, 384
"""Of the finest files."""
TOKEN = "hunter2"
LOGIN = "me:hunter3"
"""For searching, where that wants another credential than the files."""
BASIC = "Basic " + base64.b64encode(LOGIN.encode()).decode()
DEAD = "http://127.0.0.1:9"
"""Another S3 of the environment, where nobody answers: a card's own endpoint comes first."""


@dataclass(frozen=True)
class Mask:
    """One file that tells cloud from ground."""

    file: str
    """How its name ends."""
    clear: int
    cloud: int
    dtype: str


@dataclass(frozen=True)
class Case:
    """One card, and what its archive's documents say of its files. Nothing here is taken from the card."""

    card: str
    item: Callable[[Any], dict[str, Any]]
    """Of the folder of recorded data."""
    bands: Mapping[str, str | tuple[str, int]]
    """Common name -> how the name of the band's file ends, or that and the band within it."""
    scale: float
    offset: float
    nodata: float | None
    when: str
    """The instant that the scene is said to have; the search asks for the day of ``asked``, else for its day."""
    mask: Mask | None = None
    asked: str = ""
    unit: str = "reflectance"
    crs: str = ""
    """Where the item does not say it, or says it wrongly."""
    corner: tuple[float, float] = ()
    """The same."""
    finest: float = 10.0
    metres: Callable[[str], float | None] = lambda _name: None
    """Pixel of a file by its name; None: the finest."""
    dtype: str = "uint16"
    first: float = 9000
    step: float = 7
    """Numbers of files: the first one's, and from one to the next."""
    driver: str = "COG"
    host: str = "127.0.0.1"
    """What the API calls itself: a secret for searching is for the card's own host alone."""
    of_their_own: Mapping[str, tuple[float, float]] = field(default_factory=dict)
    """Scale and offset of bands that differ."""

    def __str__(self) -> str:
        return self.card


# --- what the sensors' documents say ----------------------------------------------------------------------------------

MSI_BANDS = {
    "coastal": "B01", "blue": "B02", "green": "B03", "red": "B04", "rededge071": "B05", "rededge075": "B06",
    "rededge078": "B07", "nir": "B08", "nir08": "B8A", "nir09": "B09", "swir16": "B11", "swir22": "B12",
}  # fmt: skip
MSI_M = {"B01": 60, "B02": 10, "B03": 10, "B04": 10, "B08": 10, "B09": 60, "TCI": 10, "AOT": 20, "WVP": 20}
"""Metres; the others have 20."""
OLI_BANDS = {"coastal": 1, "blue": 2, "green": 3, "red": 4, "nir08": 5, "swir16": 6, "swir22": 7}
MODIS_BANDS = {"red": 1, "nir": 2, "blue": 3, "green": 4, "swir16": 6, "swir22": 7}
HLS_S30 = {name: f".{band}.tif" for name, band in {**MSI_BANDS, "cirrus": "B10"}.items()}
HLS_L30 = {name: f".B{n:02}.tif" for name, n in {**OLI_BANDS, "cirrus": 9}.items()}
LANDSAT = {name: f"_SR_B{n}.TIF" for name, n in OLI_BANDS.items()}
FMASK = Mask(".Fmask.tif", 64, 66, "uint8")
"""Bit 1: cloud; bits 6 and 7: little aerosol."""
QA_PIXEL = Mask("_QA_PIXEL.TIF", 21824, 22280, "uint16")
"""Clear land, and cloud of high confidence."""
STATE = Mask("_sur_refl_state_500m.tif", 72, 73, "uint16")
"""Land with little aerosol: clear, and cloudy."""
HLS_WHEN = {"s30": "2025-01-05T20:46:21.024000Z", "l30": "2025-02-26T21:21:39Z"}


def scl(file):
    return Mask(file, 4, 9, "uint8")


def by_product(name):
    """``…_B02_10m.jp2``."""
    found = re.search(r"_(\d\d)m\.", name)
    return float(found[1]) if found else None


def by_band(name):
    """``B02.tif``."""
    return float(MSI_M.get(name.partition(".")[0], 20))


def named_by_product(suffix):
    return {name: f"_{band}_{MSI_M.get(band, 20)}m{suffix}" for name, band in MSI_BANDS.items()}


def first_of(service, collection):
    return lambda data: recorded.of_collection(data, service, collection)[0]


SENTINEL2 = partial(Case, scale=0.0001, nodata=0)
HLS = partial(Case, scale=0.0001, offset=0.0, nodata=-9999, mask=FMASK, finest=30.0, dtype="int16")
HLS_CRS = {"s30": "EPSG:32705", "l30": "EPSG:32605"}


def hls(card, product, item):
    bands, corner = HLS_S30 if product == "s30" else HLS_L30, documented.CORNERS[product.upper()]
    return HLS(card, lambda _data: item(product.upper()), bands, when=HLS_WHEN[product], crs=HLS_CRS[product],
               corner=corner)  # fmt: skip


CASES = [
    SENTINEL2("earth-search-s2-l2a", first_of("earth-search", "sentinel-2-l2a"),
              {name: f"/{band}.tif" for name, band in MSI_BANDS.items()}, offset=0.0, mask=scl("/SCL.tif"),
              when="2023-10-08T18:02:55.276000Z", metres=by_band),
    SENTINEL2("earth-search-s2-c1-l2a", lambda _data: documented.earth_search_c1(),
              {name: f"/{band}.tif" for name, band in MSI_BANDS.items()}, offset=-0.1, mask=scl("/SCL.tif"),
              when="2025-12-31T00:09:26.924000Z", metres=by_band),
    SENTINEL2("pc-s2-l2a", first_of("planetary-computer", "sentinel-2-l2a"), named_by_product(".tif"), offset=0.0,
              mask=scl("_SCL_20m.tif"), when="2019-06-29T21:25:29.024000Z", metres=by_product),
    SENTINEL2("cdse-s2-l2a", lambda _data: documented.cdse(), named_by_product(".jp2"), offset=-0.1,
              mask=scl("_SCL_20m.jp2"), when="2022-02-17T18:34:31.024000Z", metres=by_product, driver="JP2OpenJPEG"),
    hls("lpdaac-hls-s30", "s30", documented.lpdaac),
    hls("lpdaac-hls-l30", "l30", documented.lpdaac),
    hls("pc-hls-s30", "s30", documented.planetary_hls),
    hls("pc-hls-l30", "l30", documented.planetary_hls),
    Case("pc-landsat-c2-l2", lambda _data: documented.planetary_landsat(), {**LANDSAT, "lwir11": "_ST_B10.TIF"},
         2.75e-05, -0.2, 0, "2024-04-17T23:48:30Z", QA_PIXEL, finest=30.0,
         of_their_own={"lwir11": (0.00341802, 149.0)}),
    Case("usgs-landsat-c2-l2", first_of("usgs", "landsat-c2l2-sr"), LANDSAT, 2.75e-05, -0.2, 0,
         "2020-01-14T17:05:46.732651Z", QA_PIXEL, finest=30.0),
    Case("pc-modis-09a1", lambda _data: documented.planetary_modis(),
         {name: f"_sur_refl_b{n:02}.tif" for name, n in MODIS_BANDS.items()}, 0.0001, 0.0, -28672,
         "2022-02-05T23:59:59.500000Z", STATE, asked="2022-02-08", finest=documented.MODIS_M, dtype="int16"),
    Case("pc-s1-rtc", lambda _data: documented.planetary_rtc(), {"vv": "/iw-vv.rtc.tiff", "vh": "/iw-vh.rtc.tiff"},
         1.0, 0.0, -32768, "2024-04-19T04:59:10.436706Z", unit="linear power", dtype="float32", first=0.03, step=0.05),
    Case("pc-naip", first_of("planetary-computer", "naip"),
         {name: (".tif", n) for n, name in enumerate(("red", "green", "blue", "nir"), 1)}, 1.0, 0.0, None,
         "2023-11-17T16:00:00Z", unit="DN", finest=0.6, dtype="uint8", first=40, step=5),
    Case("private-stac", lambda _data: documented.private(),
         {name: ("/analytic_sr.tif", n) for n, name in enumerate(("blue", "green", "red", "nir"), 1)}, 0.0001, 0.0, 0,
         "2024-07-25T10:00:12.550000Z", Mask("/udm2.tif", 1, 0, "uint8"), finest=3.0, host="stac.example.com"),
]  # fmt: skip


def test_no_archive_is_forgotten():
    """The other cards: one's own disk (``test_search_demo.py``, ``test_search_find.py``), and tiles
    (``test_searched_run.py``)."""
    archives = {card.id for card in recorded.shipped_cards().values() if card.kind is SourceKind.STAC}
    assert archives == {case.card for case in CASES}


@pytest.mark.parametrize("case", CASES, ids=str)
def test_a_shipped_card_reads_what_its_archive_gives(case, archive):
    mosaic, stack = archive.read()
    (scene,) = mosaic.scenes
    assert (scene.id, scene.when, mosaic.unit) == (archive.item["id"], case.when, case.unit)
    assert mosaic.bands == tuple(case.bands) == tuple(band.name for band in scene.bands)
    assert named(mosaic.crs) == named(archive.place.crs)
    clear, cloudy, empty = (archive.at(mosaic, column) for column in (COLS // 6, COLS // 2, COLS * 5 // 6))
    assert [bool(stack.mask[0][spot]) for spot in (clear, cloudy, empty)] == [
        True,
        case.mask is None,
        case.nodata is None,
    ]
    found = stack.data[0][:, *clear] * stack.scale + stack.offset
    expected = [archive.physical(name) for name in case.bands]
    np.testing.assert_allclose(found, expected, rtol=1e-6)
    assert any("digital numbers" in note for note in mosaic.notes) is (case.unit == "DN")
    if case.mask is not None:
        assert 0.5 < scene.clear < 0.8  # of three parts two, but for what the area overhangs


@pytest.mark.parametrize("case", [case for case in CASES if case.card == "private-stac"], ids=str)
def test_each_secret_goes_where_it_is_for(archive):
    """The login to the API, the key to the files' host, and neither to the other; without them nothing is given."""
    archive.read()
    files = [asked for asked in archive.api.asked if asked.path.startswith("/scenes/")]
    others = [asked for asked in archive.api.asked if asked not in files]
    assert {path for asked in files if (path := asked.path)} == {urlsplit(name).path for name in archive.numbers}
    assert {(asked.headers.get("x-api-key"), asked.headers.get("authorization")) for asked in files} == {(TOKEN, None)}
    assert {(asked.headers.get("x-api-key"), asked.headers.get("authorization")) for asked in others} == {(None, BASIC)}
    archive.secrets = {}
    with pytest.raises(InputError) as caught:
        archive.read()
    assert caught.value.problem.code == "secret.missing"


# --- an archive, cut down ---------------------------------------------------------------------------------------------


def named(crs):
    """EPSG code, else what PROJ makes of it."""
    found = rasterio.CRS.from_user_input(crs)
    return found.to_epsg() or found.to_proj4()


@dataclass(frozen=True)
class Place:
    """Where the files lie."""

    crs: str
    x: float
    y: float

    def transform(self, metres):
        return (metres, 0.0, self.x, 0.0, -metres, self.y)


class Archive:
    """An item with files behind it, and the card that reads them; only addresses that lead nowhere here are changed."""

    def __init__(self, case, item, api, store, folder):
        self.case, self.api, self.store = case, api, store
        self.item = copy.deepcopy(item)
        self.secrets = {"EARTHDATA_TOKEN": TOKEN, "PROVIDER_KEY": TOKEN, "PROVIDER_LOGIN": LOGIN}
        self.place = self._place()
        self.card = self._card(recorded.shipped_cards()[case.card])
        self.hosts = {urlsplit(url).hostname for url in (self.card.url, self.card.auth.sas_url) if url}
        self.numbers: dict[str, float] = {}
        for asset in self._files():
            name = self._where(asset)
            self.numbers[name] = case.first + case.step * len(self.numbers)
            self._put(name, self._written(folder, asset, name))
        self._cut()
        api.items = [self.item]
        api.documents |= self._tokens()
        api.faults = self._refused

    # --- files

    def _files(self):
        """Assets that are images of the kind that the card reads, each file once, by name."""
        endings = (".jp2",) if self.case.driver == "JP2OpenJPEG" else (".tif", ".tiff")
        scheme = "s3" if self.card.auth.kind is AuthKind.S3 else "https"
        images = [a for a in self.item["assets"].values() if self._where(a).lower().endswith(endings)]
        wanted = {self._where(a): a for a in images if urlsplit(self._where(a)).scheme == scheme}
        return [wanted[name] for name in sorted(wanted)]

    def _where(self, asset):
        other = asset.get("alternate", {}).get("s3", {}).get("href")
        return other if other and self.card.auth.kind is AuthKind.S3 else asset["href"]

    def _metres(self, name):
        return self.case.metres(posixpath.basename(name)) or self.case.finest

    def _shape(self, metres):
        by = round(metres / self.case.finest)
        return ROWS // by, COLS // by

    def _written(self, folder, asset, name):
        """The bytes of one file; bands of a file differ by 20."""
        case, metres = self.case, self._metres(name)
        rows, cols = self._shape(metres)
        mask = case.mask if case.mask and name.endswith(case.mask.file) else None
        count = 1 if mask else len(asset.get("eo:bands", ["one"]))
        data = np.empty((count, rows, cols), mask.dtype if mask else case.dtype)
        data[:] = mask.clear if mask else self.numbers[name] + 20 * np.arange(count)[:, None, None]
        if mask:
            data[:, :, cols // 3 : cols * 2 // 3] = mask.cloud
        elif case.nodata is not None:
            data[:, :, cols * 2 // 3 :] = case.nodata
        lossless = {"QUALITY": 100, "REVERSIBLE": "YES"} if case.driver == "JP2OpenJPEG" else {"compress": "deflate"}
        path = folder / posixpath.basename(name)
        with rasterio.open(
            path, "w", driver=case.driver, count=count, height=rows, width=cols, dtype=data.dtype, crs=self.place.crs,
            transform=Affine(*self.place.transform(metres)), **lossless,
        ) as file:  # fmt: skip
            file.write(data)
        return path.read_bytes()

    def _put(self, name, data):
        address = urlsplit(name)
        if address.scheme == "s3":
            self.store.put(address.netloc, address.path[1:], data)
        else:
            self.hosts.add(address.hostname)
            self.api.documents[address.path] = data

    # --- the item and the card

    def _place(self):
        properties, case = self.item["properties"], self.case
        grids = [properties, *self.item["assets"].values()]
        said = next((g["proj:transform"] for g in grids if "proj:transform" in g), None)
        codes = [g.get("proj:code") for g in grids if g.get("proj:code")]
        epsg = f"EPSG:{properties['proj:epsg']}" if properties.get("proj:epsg") else properties.get("proj:wkt2")
        x, y = case.corner or (said[2], said[5])
        return Place(case.crs or (codes[0] if codes else epsg), x, y)

    def _cut(self):
        """The item's own words about its grids, of smaller files."""
        for asset in self.item["assets"].values():
            self._cut_grid(asset, self._metres(self._where(asset)))
            if urlsplit(asset["href"]).scheme == "https":
                asset["href"] = self._here(asset["href"])
        self._cut_grid(self.item["properties"], self.case.finest)
        shape = self._shape(self.case.finest)
        footprint = shapely.from_wkb(outline(self.place.crs, self.place.transform(self.case.finest), shape))
        self.item["geometry"] = json.loads(shapely.to_geojson(footprint))
        self.item["bbox"] = list(footprint.bounds)

    def _cut_grid(self, said, metres):
        rows, cols = self._shape(metres)
        x, y = self.place.x, self.place.y
        small = {
            "proj:shape": [rows, cols], "proj:transform": list(self.place.transform(metres)),
            "proj:bbox": [x, y - rows * metres, x + cols * metres, y],
        }  # fmt: skip
        said.update({key: value for key, value in small.items() if key in said})
        said.pop("proj:geometry", None)

    def _here(self, url):
        """The same host by name, on the port of the test's server."""
        address = urlsplit(url)
        return address._replace(scheme="http", netloc=f"{address.hostname}:{urlsplit(self.api.url).port}").geturl()

    def _card(self, card):
        changed = {}
        if card.auth.sas_url:
            changed["sas_url"] = self._here(card.auth.sas_url)
        if card.auth.kind is AuthKind.S3:
            changed["endpoint"] = self.store.endpoint
        return card.model_copy(update={"url": self.api.url, "auth": card.auth.model_copy(update=changed)})

    # --- what the archive wants

    def _tokens(self):
        """One for each storage container, where the card asks."""
        if self.card.auth.kind is not AuthKind.PLANETARY_COMPUTER:
            return {}
        found = {urlsplit(name) for name in self.numbers}
        giver = urlsplit(self.card.auth.sas_url).path
        places = {(one.hostname.partition(".")[0], one.path.split("/")[1]) for one in found}
        token = {"token": f"sv=1&sig={TOKEN}", "msft:expiry": "2099-01-01T00:00:00Z"}
        return {f"{giver}/{account}/{container}": token for account, container in places}

    def _refused(self, asked):
        """Without its credential no archive gives a file."""
        if not any(urlsplit(name).path == asked.path for name in self.numbers):
            shut = self.card.search_auth.kind is AuthKind.BASIC and asked.headers.get("authorization") != BASIC
            return Answer(401, b"") if shut else None
        kind = self.card.auth.kind
        if kind is AuthKind.PLANETARY_COMPUTER and asked.query.get("sig") != TOKEN:
            return Answer(403, b"")
        if kind is AuthKind.HEADER and asked.headers.get(self.card.auth.name.lower()) != TOKEN:
            return Answer(401, b"")
        if kind is AuthKind.BEARER and asked.headers.get("authorization") != f"Bearer {TOKEN}":
            return Answer(401, b"")
        return None

    # --- reading

    def read(self):
        """As a run does: search, measure, choose, lay out the grid; then all of its pixels."""
        box = shapely.geometry.shape(self.item["geometry"]).bounds
        day = self.case.asked or self.case.when[:10]
        recipe = Recipe("-", search=Search(self.card.id, (day,)), aoi=",".join(map(str, box)))
        water = load_cards((recorded.ROOT / "configs" / "models",))["water-mndwi"]
        eats = water.input.model_copy(update={"bands": tuple(self.case.bands), "chip": 32})
        network = self.network()
        where = searched.Archive({self.card.id: self.card}, network)
        mosaic = searched.look(recipe, water.model_copy(update={"input": eats}), where)
        with searched.fetching(network) as fetcher, searched.opening(fetcher, mosaic.auth, None, 64) as opener:
            with MosaicReader(mosaic, opener) as reader:
                stack = reader.read(Window(0, 0, *mosaic.shape))
            assert reader.losses == []
        return mosaic, stack

    def network(self):
        pairs = {f"{whose}_ACCESS_KEY_ID": self.store.key for whose in ("AWS", "CDSE")}
        pairs |= {f"{whose}_SECRET_ACCESS_KEY": self.store.secret for whose in ("AWS", "CDSE")}
        secrets = pairs | self.secrets
        retry = Retry(attempts=2, base_s=0.01, cap_s=0.05, timeout_s=20)
        return Network(allow_private=True, retry=retry, secrets=Secrets(secrets), s3_endpoint=DEAD)

    def at(self, mosaic, column):
        """(row, col) on the output grid of a column of the finest files, half way down."""
        finest = self.case.finest
        x, y = self.place.x + (column + 0.5) * finest, self.place.y - (ROWS / 2 + 0.5) * finest
        east, north = Transformer.from_crs(self.place.crs, mosaic.crs, always_xy=True).transform(x, y)
        col, row = ~Affine(*mosaic.transform) * (east, north)
        return int(row), int(col)

    def physical(self, name):
        """What a hand computes of the one file that the archive's documents give this band."""
        said = self.case.bands[name]
        file, index = said if isinstance(said, tuple) else (said, 1)
        (number,) = [number for where, number in self.numbers.items() if where.endswith(file)]
        scale, offset = self.case.of_their_own.get(name, (self.case.scale, self.case.offset))
        return (number + 20 * (index - 1)) * scale + offset


class Store:
    """The real S3 server, with the archives' own buckets; started where one is needed."""

    key, secret = "swathe-reader", "swathe-reader-secret"

    def __init__(self, request):
        self._request = request

    @property
    def _server(self):
        return self._request.getfixturevalue("s3_server")

    @property
    def endpoint(self):
        return self._server.endpoint

    def put(self, bucket, key, data):
        client = self._server.client()
        if bucket not in {one["Name"] for one in client.list_buckets()["Buckets"]}:
            client.create_bucket(Bucket=bucket)
        client.put_object(Bucket=bucket, Key=key, Body=data)


@pytest.fixture
def archive(case, real_data, tmp_path, request, monkeypatch):
    """Names of its hosts lead to this machine; nothing else of the network is not the program's own."""
    with StacServer([], host=case.host) as api:
        made = Archive(case, case.item(real_data), api, Store(request), tmp_path)

        @contextmanager
        def fetching(network):
            with Fetcher(network, resolver=Names({host: [["127.0.0.1"]] for host in made.hosts})) as fetcher:
                yield fetcher

        monkeypatch.setattr(searched, "fetching", fetching)
        yield made
