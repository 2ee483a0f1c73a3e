#!/usr/bin/env python3
"""A raster, or shapes, that are there already become a layer, with the SDK of the Geospatial Studio.

python examples/geostudio/ready_made_layer.py studio.env heights.tif
python examples/geostudio/ready_made_layer.py studio.env roads.gpkg
python examples/geostudio/ready_made_layer.py studio.env roads-shapefile.zip
"""

from __future__ import annotations

import sys
from pathlib import Path

from geostudio import Client

STYLES = {
    ".tif": {"regression": [{"color": "#440154", "quantity": "0", "opacity": 1, "label": "low"},
                            {"color": "#fde725", "quantity": "1000", "opacity": 1, "label": "high"}]},
    ".gpkg": {"polygon_style": {"fill": "#fde725", "fill_opacity": 0.5},
              "line_style": {"stroke": "#fde725", "stroke_width": 1}},
}  # fmt: skip


def main(config: str, file: str) -> None:
    """Print the layer's name and style."""
    client = Client(geostudio_config_file=config)
    links = client.upload_file(file)
    style = STYLES.get(Path(file).suffix, STYLES[".gpkg"])
    found = client.submit_inference({
        "model_display_name": "add-layer-sandbox-model", "fine_tuning_id": "sandbox", "location": "a layer",
        "description": "Made elsewhere", "temporal_domain": [],
        "spatial_domain": {"urls": [links["download_url"]]},
        "geoserver_push": [{"workspace": "geofm", "layer_name": "made_elsewhere", "display_name": "Made elsewhere",
                            "filepath_key": "original_input_image", "file_suffix": "", "geoserver_style": style}],
        "demo": {"demo": True, "section_name": "My Examples"},
    })  # fmt: skip
    assert "id" in found, found
    ended = client.poll_inference_until_finished(found["id"])
    assert ended["status"] == "COMPLETED", ended
    layer = ended["geoserver_layers"]["predicted_layers"][0]
    print(layer["uri"], layer["display_name"])
    assert 'color="#fde725"' in layer["sld_body"]
    gallery = [one["id"] for one in client.list_inferences()["results"] if (one["demo"] or {}).get("demo")]
    assert found["id"] in gallery, gallery


if __name__ == "__main__":
    main(*sys.argv[1:])
