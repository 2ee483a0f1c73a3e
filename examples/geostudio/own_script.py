#!/usr/bin/env python3
"""A program of one's own as a step, by plain HTTP as the Studio's guide does it: register, submit, wait, fetch.

python examples/geostudio/own_script.py http://127.0.0.1:8000 pak-… water-ndwi scene.tif 2024-07-25 fill.py
"""

from __future__ import annotations

import io
import json
import sys
import time
import zipfile
from pathlib import Path

import requests

ENDS = ("COMPLETED", "COMPLETED_WITH_ERRORS", "FAILED", "STOPPED")


def main(base: str, key: str, model: str, image: str, date: str, script: str) -> None:
    """Print what the archive holds, and what the program said."""
    studio = requests.Session()
    studio.headers["X-API-Key"] = key
    url = f"{base}/v2"

    def asked(method: str, path: str, **given: object) -> dict:
        answer = studio.request(method, f"{url}/{path}", timeout=60, **given)
        assert answer.ok, answer.text
        return answer.json()

    about = {"name": "fill", "description": "Fills small holes", "processor_parameters": {"neighbours": 6}}
    with Path(script).open("rb") as file:
        processor = asked("POST", "generic-processor", files={"generic_processor_file": (Path(script).name, file)},
                          data={"generic_processor_metadata": json.dumps(about)})  # fmt: skip
    links = asked("GET", f"file-share?object_name={Path(image).name}")
    requests.put(links["upload_url"], data=Path(image).read_bytes(), timeout=60).raise_for_status()
    found = asked("POST", "inference", json={
        "model_display_name": model, "spatial_domain": {"urls": [links["download_url"]]}, "temporal_domain": [date],
        "generic_processor_id": processor["id"],
    })  # fmt: skip
    while (record := asked("GET", f"inference/{found['id']}"))["status"] not in ENDS:
        time.sleep(2)
    assert record["status"] == "COMPLETED", record
    task = asked("GET", f"inference/{found['id']}/tasks")["tasks"][1]
    print([(step["process_id"], step["status"]) for step in task["pipeline_steps"]])
    log = asked("GET", f"tasks/{task['task_id']}/logs/generic-python-processor")
    print(requests.get(log["step_log_url"], timeout=60).text)
    archive = requests.get(asked("GET", f"tasks/{task['task_id']}/output-url")["url"], timeout=60)
    names = zipfile.ZipFile(io.BytesIO(archive.content)).namelist()
    assert any(name.endswith("processed_pred.tif") for name in names), names
    print(*names, sep="\n")


if __name__ == "__main__":
    main(*sys.argv[1:])
