"""Items of archives of which none was recorded, built as those who run the archives write them down.

Identifiers, paths, grids, band tables and what is said of scale, offset and nodata are theirs; what no reader looks at
(checksums, sizes, previews) is left out. From:

earth_search_c1   github.com/earthsearch/sentinel-2-l2a-to-stac, tests/fixtures/payloads/downgrade: what the archive's
                  own pipeline gives to version 1 of its API
cdse              github.com/eu-cdse/eometadatatool, eometadatatool/stac/sentinel-2-l2a/example: an item of the tool
                  with which the archive makes its own
lpdaac            the form of the ten recorded items of HLSL30 v1.5 (CMR-STAC); names and paths of version 2.0: HLS
                  Product User Guide 2.0
planetary_hls     github.com/microsoft/planetary-computer-tasks, datasets/hls2: NASA's own item with other addresses;
                  github.com/NASA-IMPACT/hls-cmr_stac, which writes NASA's. That one takes the hemisphere from the wrong
                  letter of the tile's name: T05ULB, 55 degrees north, becomes EPSG:32705 (PlanetaryComputer issue 486).
                  The grid stands in the item (odc-stac issue 239)
planetary_landsat github.com/stac-utils/stac-geoparquet, tests/data/landsat-c2-l2-pc.json
planetary_modis   github.com/stactools-packages/modis, examples/modis-061: the package that made the archive's items
private           no archive's: the shape in which several sell scenes, one file of all bands beside one of masks, whose
                  first band is 1 where the ground is seen (Planet's "UDM 2", docs.planet.com)
planetary_rtc     github.com/stac-utils/stac-geoparquet, tests/data/sentinel-1-rtc-pc.json
"""

from __future__ import annotations

from typing import Any

COG = "image/tiff; application=geotiff; profile=cloud-optimized"
MSI = {
    "B01": (60, "coastal", 0.443), "B02": (10, "blue", 0.49), "B03": (10, "green", 0.56), "B04": (10, "red", 0.665),
    "B05": (20, "rededge", 0.704), "B06": (20, "rededge", 0.74), "B07": (20, "rededge", 0.783),
    "B08": (10, "nir", 0.842), "B8A": (20, "nir08", 0.865), "B09": (60, "nir09", 0.945), "B11": (20, "swir16", 1.61),
    "B12": (20, "swir22", 2.19),
}  # fmt: skip
"""Of Sentinel-2: metres of a pixel, STAC's common name, centre in micrometres. No B10 in level 2A."""


def feature(id_: str, collection: str, properties: dict[str, Any], assets: dict[str, Any]) -> dict[str, Any]:
    """Without a footprint: the test that cuts it down to small files knows it."""
    version = "1.1.0" if any("bands" in asset for asset in assets.values()) else "1.0.0"
    return {
        "type": "Feature", "stac_version": version, "id": id_, "collection": collection, "geometry": None,
        "properties": properties, "links": [], "assets": assets,
    }  # fmt: skip


def earth_search_c1() -> dict[str, Any]:
    """Sentinel-2 Collection 1: the offset is advertised, and is really there."""
    root = (
        "https://e84-earth-search-sentinel-data.s3.us-west-2.amazonaws.com/sentinel-2-c1-l2a/55/G/FL/2025/12/"
        "S2A_T55GFL_20251231T000322_L2A"
    )
    keys = {
        "coastal": "B01", "blue": "B02", "green": "B03", "red": "B04", "rededge1": "B05", "rededge2": "B06",
        "rededge3": "B07", "nir": "B08", "nir08": "B8A", "nir09": "B09", "swir16": "B11", "swir22": "B12",
    }  # fmt: skip

    def asset(file: str, metres: int, **more: Any) -> dict[str, Any]:
        return {
            "href": f"{root}/{file}.tif", "type": COG, "gsd": metres, "proj:shape": [109800 // metres] * 2,
            "proj:transform": [metres, 0.0, 600000.0, 0.0, -metres, 5100040.0], **more,
        }  # fmt: skip

    def band(file: str) -> dict[str, Any]:
        metres, common, centre = MSI[file]
        numbers = {"nodata": 0, "spatial_resolution": metres, "data_type": "uint16", "scale": 0.0001, "offset": -0.1}
        named = [{"common_name": common, "center_wavelength": centre, "name": file}]
        return asset(file, metres, roles=["data", "reflectance"], **{"eo:bands": named, "raster:bands": [numbers]})

    classes = [{"nodata": 0, "spatial_resolution": 20, "data_type": "uint8"}]
    assets = {key: band(file) for key, file in keys.items()}
    assets["visual"] = asset("TCI", 10, roles=["visual"])
    assets["scl"] = asset("SCL", 20, roles=["data"], **{"raster:bands": classes})
    return feature(
        "S2A_T55GFL_20251231T000322_L2A",
        "sentinel-2-c1-l2a",
        {
            "datetime": "2025-12-31T00:09:26.924000Z", "platform": "sentinel-2a", "constellation": "sentinel-2",
            "instruments": ["msi"], "eo:cloud_cover": 65.15674, "proj:epsg": 32755, "grid:code": "MGRS-55GFL",
            "s2:processing_baseline": "05.11", "s2:product_type": "S2MSI2A",
            "s2:product_uri": "S2A_MSIL2A_20251231T000321_N0511_R030_T55GFL_20251231T023808.SAFE",
            "s2:datatake_id": "GS2A_20251231T000321_054968_N05.11",
            "s2:datastrip_id": "S2A_OPER_MSI_L2A_DS_2APS_20251231T023808_S20251231T000322_N05.11",
        },
        assets,
    )  # fmt: skip


def cdse() -> dict[str, Any]:
    """Sentinel-2 as ESA delivers it, file by file; most bands are there in several sizes, and no s2: word is said."""
    product = "S2A_MSIL2A_20220217T183431_N0510_R027_T13VEK_20240516T022440"
    safe = f"Sentinel-2/MSI/L2A_N0500/2022/02/17/{product}.SAFE"
    granule = f"s3://eodata/{safe}/GRANULE/L2A_T13VEK_A034773_20220217T183428"
    refs = {"auth:refs": ["s3"], "storage:refs": ["cdse-s3", "creodias-s3"]}
    zipper = "https://zipper.dataspace.copernicus.eu/odata/v1/Products(7d10d1f8-e4a8-40d8-af15-4c227639d61a)/$value"

    def asset(name: str, metres: int, **more: Any) -> dict[str, Any]:
        return {
            "href": f"{granule}/IMG_DATA/R{metres}m/T13VEK_20220217T183431_{name}_{metres}m.jp2", "type": "image/jp2",
            "gsd": metres, "nodata": 0, "proj:code": "EPSG:32613", "proj:shape": [109800 // metres] * 2,
            "proj:bbox": [499980, 6890220, 609780, 7000020], "proj:transform": [metres, 0, 499980, 0, -metres, 7000020],
            "alternate:name": "S3", **refs,
            "alternate": {"https": {"href": zipper, "alternate:name": "HTTPS", "auth:refs": ["oidc"]}}, **more,
        }  # fmt: skip

    def band(name: str, metres: int) -> dict[str, Any]:
        _, common, centre = MSI[name]
        named = [{"name": name, "eo:common_name": common, "eo:center_wavelength": centre}]
        numbers = {"data_type": "uint16", "raster:scale": 0.0001, "raster:offset": -0.1}
        return asset(name, metres, roles=["data", "reflectance"], bands=named, **numbers)

    coarser = {name: tuple(m for m in (10, 20, 60) if m >= metres) for name, (metres, _, _) in MSI.items()}
    sizes = {**coarser, "B01": (20, 60), "B08": (10,)}
    assets = {f"{name}_{metres}m": band(name, metres) for name in sizes for metres in sizes[name]}
    assets |= {f"SCL_{metres}m": asset("SCL", metres, roles=["data"], data_type="uint8") for metres in (20, 60)}
    look = {"s3": {"href": f"s3://eodata/{safe}/{product}-ql.jpg", **refs}}
    picture = "https://datahub.creodias.eu/odata/v1/Assets(2300ed19-15f5-45e3-8b6d-cff89bf45dd7)/$value"
    assets["thumbnail"] = {"href": picture, "type": "image/jpeg", "proj:code": None, "proj:shape": [343, 343],
                           "roles": ["thumbnail"], "alternate": look}  # fmt: skip
    s3 = {"type": "custom-s3", "platform": "https://eodata.dataspace.copernicus.eu", "requester_pays": False}
    creodias = {"type": "custom-s3", "platform": "https://eodata.cloudferro.com", "requester_pays": True}
    return feature(
        product,
        "sentinel-2-l2a",
        {
            "datetime": "2022-02-17T18:34:31.024000Z", "start_datetime": "2022-02-17T18:34:31.024000Z",
            "end_datetime": "2022-02-17T18:34:31.024000Z", "platform": "sentinel-2a", "constellation": "sentinel-2",
            "instruments": ["msi"], "gsd": 10, "eo:cloud_cover": 41.21, "eo:snow_cover": 58.787221,
            "processing:level": "L2", "processing:version": "05.10",
            "product:type": "S2MSI2A", "grid:code": "MGRS-13VEK", "sat:relative_orbit": 27,
            "eopf:datatake_id": "GS2A_20220217T183431_034773_N05.10",
            "eopf:datastrip_id": "S2A_OPER_MSI_L2A_DS_S2RP_20240516T022440_S20220217T183428_N05.10",
            "storage:schemes": {"cdse-s3": s3, "creodias-s3": creodias},
            "auth:schemes": {"s3": {"type": "s3"}, "oidc": {"type": "openIdConnect"}},
        },
        assets,
    )  # fmt: skip


S30 = ("B01", "B02", "B03", "B04", "B05", "B06", "B07", "B08", "B8A", "B09", "B10", "B11", "B12")
L30 = ("B01", "B02", "B03", "B04", "B05", "B06", "B07", "B09", "B10", "B11")
LAYERS = {"S30": (*S30, "Fmask", "SZA", "SAA", "VZA", "VAA"), "L30": (*L30, "Fmask", "SZA", "SAA", "VZA", "VAA")}
"""Of HLS: of Sentinel-2 and of Landsat the same words are other bands."""
GRANULES = {
    "S30": ("HLS.S30.T05MKR.2025005T204621.v2.0", "05/M/KR/2025/01/05", "2025-01-05T20:46:21.024Z", "sentinel-2a"),
    "L30": ("HLS.L30.T05ULB.2025057T212139.v2.0", "05/U/LB/2025/02/26", "2025-02-26T21:21:39.000Z", "landsat-9"),
}
CORNERS = {"S30": (199980.0, 9600040.0), "L30": (300000.0, 6200040.0)}


def lpdaac(product: str) -> dict[str, Any]:
    """Bare: no type, no grid, no word of scale or nodata; titles and addresses alone."""
    id_, _, when, _ = GRANULES[product]
    root = f"https://data.lpdaac.earthdatacloud.nasa.gov/lp-prod-protected/HLS{product}.020/{id_}"
    assets = {
        layer: {"title": f"Download {id_}.{layer}.tif", "href": f"{root}/{id_}.{layer}.tif"}
        for layer in LAYERS[product]
    }
    assets["metadata"] = {"href": f"https://cmr.earthdata.nasa.gov/search/concepts/{id_}.json", "type": "text/xml"}
    times = dict.fromkeys(("datetime", "start_datetime", "end_datetime"), when)
    return feature(id_, f"HLS{product}_2.0", {**times, "eo:cloud_cover": 17}, assets)


def planetary_hls(product: str) -> dict[str, Any]:
    """NASA's: one grid for all layers, whose EPSG code is of the wrong hemisphere for many tiles."""
    id_, folder, when, platform = GRANULES[product]
    root = f"https://hls2euwest.blob.core.windows.net/hls2/{product}/{folder}/{id_}/{id_}"
    assets = {
        layer: {"href": f"{root}.{layer}.tif", "type": COG, "roles": ["data"], "eo:bands": [{"name": layer}]}
        for layer in LAYERS[product]
    }
    square = id_.split(".")[2]
    hemisphere = 326 if square[4].lower() > "m" else 327  # the letter of the column, where the band's is meant
    x, y = CORNERS[product]
    return feature(
        id_,
        f"hls2-{product.lower()}",
        {
            "datetime": when, "start_datetime": when, "end_datetime": when, "platform": platform,
            "eo:cloud_cover": 24.0, "proj:epsg": int(f"{hemisphere}{square[1:3]}"), "proj:shape": [3660, 3660],
            "proj:transform": [30.0, 0.0, x, 0.0, -30.0, y, 0.0, 0.0, 1.0], "view:sun_azimuth": 91.5,
            "sci:doi": f"10.5067/HLS/HLS{product}.002",
        },
        assets,
    )  # fmt: skip


def planetary_landsat() -> dict[str, Any]:
    """Landsat 9, reflectance and temperature side by side, one grid for all."""
    root = (
        "https://landsateuwest.blob.core.windows.net/landsat-c2/level-2/standard/oli-tirs/2024/089/090/"
        "LC09_L2SP_089090_20240417_20240418_02_T1/LC09_L2SP_089090_20240417_20240418_02_T1"
    )
    files = {
        "coastal": "SR_B1", "blue": "SR_B2", "green": "SR_B3", "red": "SR_B4", "nir08": "SR_B5", "swir16": "SR_B6",
        "swir22": "SR_B7",
    }  # fmt: skip

    def asset(file: str, **numbers: Any) -> dict[str, Any]:
        return {"href": f"{root}_{file}.TIF", "type": COG, "roles": ["data"], "raster:bands": [numbers]}

    reflectance = {"scale": 2.75e-05, "nodata": 0, "offset": -0.2, "data_type": "uint16", "spatial_resolution": 30}
    heat = {"unit": "kelvin", "scale": 0.00341802, "nodata": 0, "offset": 149.0, "data_type": "uint16"}
    assets = {
        key: {**asset(file, **reflectance), "eo:bands": [{"name": f"OLI_{file[3:]}", "common_name": key}]}
        for key, file in files.items()
    }
    assets["lwir11"] = {**asset("ST_B10", **heat), "gsd": 100, "eo:bands": [{"name": "TIRS_B10"}]}
    assets["qa_pixel"] = asset("QA_PIXEL", unit="bit index", nodata=1, data_type="uint16", spatial_resolution=30)
    assets["qa_radsat"] = asset("QA_RADSAT", unit="bit index", data_type="uint16", spatial_resolution=30)
    return feature(
        "LC09_L2SP_089090_20240417_02_T1",
        "landsat-c2-l2",
        {
            "datetime": "2024-04-17T23:48:30.000000Z", "platform": "landsat-9", "gsd": 30, "eo:cloud_cover": 31.02,
            "proj:epsg": 32655, "proj:shape": [8081, 7971], "landsat:wrs_path": "089", "landsat:wrs_row": "090",
            "proj:transform": [30.0, 0.0, 354585.0, 0.0, -30.0, -4659885.0], "landsat:collection_number": "02",
        },
        assets,
    )  # fmt: skip


SINUSOIDAL = (
    'PROJCS["unnamed",GEOGCS["Unknown datum based upon the custom spheroid",DATUM["Not specified (based on custom '
    'spheroid)",SPHEROID["Custom spheroid",6371007.181,0]],PRIMEM["Greenwich",0],UNIT["degree",0.0174532925199433,'
    'AUTHORITY["EPSG","9122"]]],PROJECTION["Sinusoidal"],PARAMETER["longitude_of_center",0],PARAMETER["false_easting",'
    '0],PARAMETER["false_northing",0],UNIT["Meter",1],AXIS["Easting",EAST],AXIS["Northing",NORTH]]'
)
MODIS_M = 463.3127165274999


def planetary_modis() -> dict[str, Any]:
    """Eight days and no instant; a CRS without a code; no nodata said."""
    id_ = "MOD09A1.A2022033.h19v10.061.2022042043514"
    root = f"https://modiseuwest.blob.core.windows.net/modis-061-cogs/MOD09A1/19/10/2022033/{id_}"
    commons = ("red", "nir08", "blue", "green", "lwir12", "swir16", "swir22")  # b05, 1.24 micrometres, is called so

    def asset(name: str, **numbers: Any) -> dict[str, Any]:
        said = [{"spatial_resolution": 500, **numbers}]
        return {"href": f"{root}_{name}.tif", "type": COG, "roles": ["data"], "raster:bands": said}

    assets: dict[str, Any] = {
        f"sur_refl_b{n:02}": {
            **asset(f"sur_refl_b{n:02}", data_type="int16", scale=0.0001),
            "eo:bands": [{"name": f"sur_refl_b{n:02}", "common_name": common}],
        }
        for n, common in enumerate(commons, 1)
    }
    assets["sur_refl_state_500m"] = asset("sur_refl_state_500m", data_type="uint16")
    assets["sur_refl_qc_500m"] = asset("sur_refl_qc_500m", data_type="uint32")
    assets["hdf"] = {"href": f"{root}.hdf", "type": "application/x-hdf", "roles": ["data"]}
    return feature(
        id_,
        "modis-09A1-061",
        {
            "datetime": None, "start_datetime": "2022-02-02T00:00:00Z", "end_datetime": "2022-02-09T23:59:59Z",
            "modis:horizontal-tile": 19, "modis:vertical-tile": 10, "instruments": ["modis"], "platform": "terra",
            "proj:epsg": None, "proj:wkt2": SINUSOIDAL, "proj:shape": [2400, 2400],
            "proj:transform": [MODIS_M, 0.0, 1111950.519667, 0.0, -MODIS_M, -1111950.519667],
        },
        assets,
    )  # fmt: skip


def planetary_rtc() -> dict[str, Any]:
    """Floating-point power; start and end are no RFC 3339, and the grid is the item's."""
    id_ = "S1A_IW_GRDH_1SDV_20240419T045904_20240419T045916_053498_067DF2"
    root = f"https://sentinel1euwestrtc.blob.core.windows.net/sentinel1-grd-rtc/GRD/2024/4/19/IW/DV/{id_}_DCEC"
    numbers = {"nodata": -32768, "data_type": "float32", "spatial_resolution": 10.0}
    assets = {
        key: {"href": f"{root}/measurement/iw-{key}.rtc.tiff", "type": COG, "roles": ["data"],
              "raster:bands": [numbers]}
        for key in ("vh", "vv")
    }  # fmt: skip
    return feature(
        f"{id_}_rtc",
        "sentinel-1-rtc",
        {
            "datetime": "2024-04-19T04:59:10.436706Z", "start_datetime": "2024-04-19 04:59:04.220006+00:00",
            "end_datetime": "2024-04-19 04:59:16.653405+00:00", "platform": "SENTINEL-1A", "proj:epsg": 32633,
            "proj:bbox": [373180.0, 3295190.0, 648440.0, 3424680.0], "proj:shape": [12949, 27526],
            "proj:transform": [10.0, 0.0, 373180.0, 0.0, -10.0, 3424680.0, 0.0, 0.0, 1.0],
            "sar:polarizations": ["VV", "VH"], "sar:instrument_mode": "IW", "sat:orbit_state": "descending",
        },
        assets,
    )  # fmt: skip


def private() -> dict[str, Any]:
    """Four bands in one file, as the shipped form names them."""
    root = "https://files.example.com/scenes/20240725_100012_55_24c1"
    grid = {"proj:shape": [8000, 9000], "proj:transform": [3.0, 0.0, 391_200.0, 0.0, -3.0, 5_820_300.0]}
    names = ("blue", "green", "red", "nir")
    assets = {
        "analytic": {
            "href": f"{root}/analytic_sr.tif", "type": COG, "roles": ["data", "reflectance"], **grid,
            "eo:bands": [{"name": name, "common_name": name} for name in names],
        },
        "udm2": {"href": f"{root}/udm2.tif", "type": COG, "roles": ["data", "cloud"], **grid},
    }  # fmt: skip
    return feature(
        "20240725_100012_55_24c1", "surface-reflectance",
        {"datetime": "2024-07-25T10:00:12.550000Z", "platform": "24c1", "eo:cloud_cover": 12, "proj:epsg": 32633},
        assets,
    )  # fmt: skip
