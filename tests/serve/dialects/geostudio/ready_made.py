"""Wishes for ready-made layers, and what their maps show."""

import io

import numpy as np
import pytest
from PIL import Image

from pipelines.sandbox.isolation import isolation

needs_sandbox = pytest.mark.skipif(isolation().walls is None, reason=f"no sandbox here: {isolation().detail}")


def push(**more):
    return {"workspace": "geofm", "layer_name": "depth", "display_name": "Depth", "file_suffix": "",
            "filepath_key": "original_input_image", "geoserver_style": ""} | more  # fmt: skip


def laid_with(studio, url, *pushes):
    made = studio.infer(url, model_display_name="add-layer-sandbox-model", fine_tuning_id="sandbox", temporal_domain=[],
                        geoserver_push=list(pushes))  # fmt: skip
    studio.work()
    return studio.get(f"inference/{made['id']}")


def colours(answer):
    assert answer.status_code == 200, answer.text
    return np.asarray(Image.open(io.BytesIO(answer.content)).convert("RGBA"))
