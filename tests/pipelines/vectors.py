"""Vector files for tests, written by geopandas."""

import zipfile

import geopandas as gpd
from shapely.geometry import LineString, MultiPolygon, Point, Polygon, box

SHAPES = [
    Polygon([(0, 0), (1, 0.1), (0.7, 2)], [[(0.3, 0.3), (0.6, 0.3), (0.6, 0.8)]]),
    LineString([(0, 0), (5, 4.3), (5, 1)]), Point(2.2, 1.7),
    MultiPolygon([box(3, 0.2, 4, 0.9), box(1.5, 3, 1.51, 3.01)]),
]  # fmt: skip


def table(shapes=SHAPES, crs="EPSG:4326", **columns):
    return gpd.GeoDataFrame(columns, geometry=list(shapes), crs=crs)


def package(path, layer="roads", **given):
    table(**given).to_file(path, layer=layer, driver="GPKG")
    return path


def packed(path, folder=""):
    """A Shapefile in a zip, as people send them."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for part in sorted(path.parent.glob(f"{path.stem}.*")):
            if part != path:
                archive.write(part, f"{folder}{part.name}")
    return path


def shapefile(path, folder="", **given):
    table(**given).to_file(path.with_suffix(".shp"))
    return packed(path, folder)
