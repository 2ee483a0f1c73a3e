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
    step: str = ""
    """Name of the step after the model that makes it; empty: it is made without one."""


ASSETS = (
    AssetKind("result.tif", "data", "Result", COG, ("data",)),
    AssetKind("score.tif", "score", "Probability of the class that won", COG, ("data",)),
    AssetKind("probabilities.tif", "probabilities", "Probability of each class", COG, ("data",)),
    AssetKind("observations.tif", "observations", "Scene used and clear observations, per pixel", COG, ("metadata",)),
    AssetKind("features.parquet", "features", "Polygons (GeoParquet)", GEOPARQUET, ("data",)),
    AssetKind("features.geojson", "features-geojson", "Polygons (GeoJSON)", "application/geo+json", ("data",)),
    AssetKind("features.gpkg", "features-gpkg", "Polygons (GeoPackage)", "application/geopackage+sqlite3", ("data",)),
    AssetKind("quicklook.tif", "quicklook", "The imagery in colours, to look at", COG, ("visual", "overview")),
    AssetKind("preview.png", "preview", "Picture with legend", "image/png", ("overview", "thumbnail")),
    AssetKind(
        "result.tif.aux.xml", "class-names", "Names of classes for GDAL and QGIS", "application/xml", ("metadata",)
    ),
    AssetKind("result.qml", "style-qgis", "Style for QGIS", "application/xml", ("metadata",)),
    AssetKind("processed.tif", "processed", "Result of a processor", COG, ("data",), "processor"),
    AssetKind("processed.tif.aux.xml", "processed-class-names", "Names of classes for GDAL and QGIS",
              "application/xml", ("metadata",), "processor"),
    AssetKind("processed.qml", "processed-style-qgis", "Style for QGIS", "application/xml", ("metadata",), "processor"),
    AssetKind("processor.log", "processor-log", "What a processor said", "text/plain", ("metadata",), "processor"),
    AssetKind("masked.tif", "masked", "Result with clouds, snow, water, ocean masked", COG, ("data",), "mask"),
    AssetKind("masked.tif.aux.xml", "masked-class-names", "Names of classes for GDAL and QGIS",
              "application/xml", ("metadata",), "mask"),
    AssetKind("masked.qml", "masked-style-qgis", "Style for QGIS", "application/xml", ("metadata",), "mask"),
    AssetKind("mask.log", "mask-log", "What the masks say of themselves", "text/plain", ("metadata",), "mask"),
    AssetKind("regularised.parquet", "regularised", "Regular polygons (GeoParquet)", GEOPARQUET, ("data",),
              "regularise"),
    AssetKind("regularised.geojson", "regularised-geojson", "Regular polygons (GeoJSON)", "application/geo+json",
              ("data",), "regularise"),
    AssetKind("regularise.log", "regularise-log", "How outlines became regular", "text/plain", ("metadata",),
              "regularise"),
    AssetKind("report.json", "report", "How the run went", "application/json", ("metadata",)),
)  # fmt: skip
"""In the order in which an Item lists them."""
