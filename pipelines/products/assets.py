"""The files a result may consist of: names, media types and roles, in one table."""

from __future__ import annotations

from dataclasses import dataclass

COG = "image/tiff; application=geotiff; profile=cloud-optimized"
GEOPARQUET = "application/vnd.apache.parquet"


@dataclass(frozen=True, slots=True)
class AssetKind:
    """One file."""

    name: str
    """In the output folder."""
    key: str
    """Of the asset in the STAC Item."""
    title: str
    """For people."""
    media_type: str
    """IANA's, or the field's usual one."""
    roles: tuple[str, ...]
    """STAC's words."""


ASSETS = (
    AssetKind("result.tif", "data", "Result", COG, ("data",)),
    AssetKind("score.tif", "score", "Probability of the class that won", COG, ("data",)),
    AssetKind("probabilities.tif", "probabilities", "Probability of each class", COG, ("data",)),
    AssetKind("observations.tif", "observations", "Scene used and clear observations, per pixel", COG, ("metadata",)),
    AssetKind("features.parquet", "features", "Polygons (GeoParquet)", GEOPARQUET, ("data",)),
    AssetKind("features.geojson", "features-geojson", "Polygons (GeoJSON)", "application/geo+json", ("data",)),
    AssetKind("features.gpkg", "features-gpkg", "Polygons (GeoPackage)", "application/geopackage+sqlite3", ("data",)),
    AssetKind("preview.png", "preview", "Picture with legend", "image/png", ("overview", "thumbnail")),
    AssetKind(
        "result.tif.aux.xml", "class-names", "Names of classes for GDAL and QGIS", "application/xml", ("metadata",)
    ),
    AssetKind("result.qml", "style-qgis", "Style for QGIS", "application/xml", ("metadata",)),
    AssetKind("report.json", "report", "How the run went", "application/json", ("metadata",)),
)
"""In the order in which an Item lists them."""
