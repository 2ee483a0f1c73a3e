#!/usr/bin/env python3
"""A model on a place, with the SDK of the Geospatial Studio: list models, submit a box and dates, wait, open the map.

Clouds are masked in it: their pixels carry 999.

    python examples/geostudio/place.py studio.env water-mndwi 18.0,38.2,18.05,38.25 2024-07-01_2024-07-10

``studio.env`` has two lines: GEOSTUDIO_API_KEY=pak-… and BASE_STUDIO_UI_URL=http://127.0.0.1:8000
"""

from __future__ import annotations

import sys
from pathlib import Path

import rasterio
from geostudio import Client
from geostudio.gswidgets import download_file, list_output_files

CLOUDS = 999
"""What masked pixels carry."""


def main(config: str, model: str, box: str, dates: str) -> None:
    """Print the status of each step, and what the map holds."""
    client = Client(geostudio_config_file=config)
    names = list(client.list_models(output="df")["display_name"])
    assert model in names, f"{model} is none of {names}"
    found = client.submit_inference({
        "model_display_name": model, "location": "a place", "description": "A model on a place",
        "spatial_domain": {"bbox": [[float(v) for v in box.split(",")]]}, "temporal_domain": [dates],
        "post_processing": {"cloud_masking": "True"},
    })  # fmt: skip
    assert "id" in found, found
    ended = client.poll_inference_until_finished(found["id"])
    assert ended["status"] == "COMPLETED", ended
    print(client.inference_task_status_df(found["id"]))
    task = f"{found['id']}-task_0"
    url = client.get_task_output_url(task)["output_url"]
    files = list_output_files(url)
    name = next(name for name in files if name.endswith("_pred_masked.tif"))
    download_file(url, name, output_path="./")
    with rasterio.open(Path(name)) as file:
        clouds = (file.read(1) == CLOUDS).mean()
        print(f"{name}: {file.width} x {file.height} pixels, {file.crs}, {clouds:.1%} of them under clouds")
    print(f"{len(client.list_inferences()['results'])} inferences")


if __name__ == "__main__":
    main(*sys.argv[1:])
