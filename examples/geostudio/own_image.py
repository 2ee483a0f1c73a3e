#!/usr/bin/env python3
"""A model on an image of one's own, with the SDK of the Geospatial Studio: upload, submit by address, wait, compare.

python examples/geostudio/own_image.py studio.env water-ndwi scene.tif 2024-07-25
"""

from __future__ import annotations

import sys
from pathlib import Path

import rasterio
from geostudio import Client
from geostudio.gswidgets import download_file, list_output_files


def main(config: str, model: str, image: str, date: str) -> None:
    """The map lies on the grid of the image."""
    client = Client(geostudio_config_file=config)
    links = client.upload_file(image)
    found = client.submit_inference({
        "model_display_name": model, "location": "an image", "description": "An image of my own",
        "spatial_domain": {"urls": [links["download_url"]]}, "temporal_domain": [date],
    })  # fmt: skip
    assert "id" in found, found
    ended = client.poll_inference_until_finished(found["id"])
    assert ended["status"] == "COMPLETED", ended
    url = client.get_task_output_url(f"{found['id']}-task_0")["output_url"]
    name = next(name for name in list_output_files(url) if name.endswith("pred.tif"))
    download_file(url, name, output_path="./")
    with rasterio.open(image) as given, rasterio.open(Path(name)) as made:
        assert (made.crs, made.transform, made.shape) == (given.crs, given.transform, given.shape)
        print(f"{name}: on the grid of {Path(image).name}, {made.crs}")


if __name__ == "__main__":
    main(*sys.argv[1:])
