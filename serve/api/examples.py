"""Examples of the OpenAPI document: requests that work as they stand, and answers as they look."""

from __future__ import annotations

from typing import Any

_ROOT = "http://127.0.0.1:8000"
_JOB_ID, _USER, _KEY, _PROJECT, _UPLOAD, _PROCESSOR, _HOOK = (
    f"{letter}01kb3x8y2q7rz5t6v9whn4m0cd" for letter in ("j", "u", "k", "p", "f", "r", "h")
)
_AT, _LATER = "2026-11-21T10:42:07.120Z", "2026-11-21T10:42:09.480Z"
_URL = "https://example.org/scene.tif"

ASKING: dict[str, Any] = {
    "model": "water-ndwi", "inputs": [_URL], "sensor": "sentinel-2-l2a", "aoi": [12.31, 45.42, 12.36, 45.45],
    "title": "Lagoon",
}  # fmt: skip
SEARCHING: dict[str, Any] = {
    "model": "water-ndwi", "aoi": [12.31, 45.42, 12.36, 45.45],
    "search": {"source": "earth-search-s2-l2a", "dates": ["2026-07-01_2026-07-31"], "max_cloud": 20},
}  # fmt: skip
MASKING: dict[str, Any] = {
    **SEARCHING, "postprocess": {"mask": ["clouds", "ocean"], "mask_shapes": {
        "url": "https://example.org/roads.geojson", "buffer_m": 25}},
}  # fmt: skip
CARD: dict[str, Any] = {
    "id": "my-water", "title": "Open water, NDWI above 0.1", "summary": "Stricter than the usual threshold.",
    "task": "segmentation", "adapter": "formula",
    "network": {"index": "NDWI", "range": [-1.0, 1.0], "threshold": {"kind": "fixed", "value": 0.1}},
    "input": {"bands": ["green", "nir"], "chip": 512, "overlap": 0},
    "output": {"classes": [{"value": 0, "name": "land", "colour": "#e8e4d8", "background": True},
                           {"value": 1, "name": "water", "colour": "#1f78b4"}], "scored": False},
    "licence": "Apache-2.0", "citation": "McFeeters, S. K. (1996). The use of the Normalized Difference Water Index.",
}  # fmt: skip

_PROGRESS = {"share": 1.0, "pixels": 123904, "of_pixels": 123904, "chunks": 1, "of_chunks": 1, "failed_chunks": 0}
_JOB: dict[str, Any] = {
    "id": _JOB_ID, "owner": _USER, "title": "Lagoon", "project": None, "model": "water-ndwi", "state": "done",
    "place": "online", "progress": _PROGRESS, "cancelling": False, "problem": None,
    "result": {"item": {"collection": "water-ndwi", "id": _JOB_ID}, "files": {"result.tif": 20481, "item.json": 4201},
               "pixels": {"total": 123904, "valid": 123904}, "warnings": []},
    "cost": {"pixels": 123904, "seconds": 1.2, "seconds_from": "measured"}, "request": ASKING, "labels": {},
    "round": 1, "attempts": 1, "ray_job": None, "last_seq": 9, "created": _AT, "updated": _LATER, "started": _AT,
    "ended": _LATER,
    "links": {"self": f"{_ROOT}/api/jobs/{_JOB_ID}", "events": f"{_ROOT}/api/jobs/{_JOB_ID}/events",
              "logs": f"{_ROOT}/api/jobs/{_JOB_ID}/logs", "files": f"{_ROOT}/api/jobs/{_JOB_ID}/files",
              "item": f"{_ROOT}/api/jobs/{_JOB_ID}/item"},
}  # fmt: skip
_FILE = {"name": "result.tif", "bytes": 20481, "media_type": "image/tiff; application=geotiff", "sha256": "9f86d0" * 10
         + "abcd", "href": f"{_ROOT}/api/jobs/{_JOB_ID}/files/result.tif"}  # fmt: skip
ITEM: dict[str, Any] = {
    "type": "Feature", "stac_version": "1.1.0", "id": _JOB_ID, "collection": "water-ndwi",
    "geometry": {"type": "Point", "coordinates": [12.33, 45.43]}, "bbox": [12.31, 45.42, 12.36, 45.45],
    "properties": {"datetime": "2026-07-04T10:10:31Z"}, "links": [],
    "assets": {"result": {"href": _FILE["href"], "type": "image/tiff; application=geotiff; profile=cloud-optimized"}},
}  # fmt: skip
_MODEL: dict[str, Any] = {
    "id": "water-ndwi", "title": "Water, by NDWI", "task": "segmentation", "enabled": True, "state": "ready",
    "problem": None, "source": "shipped", "owner": None, "shared": True, "version": 1,
    "card": {"id": "water-ndwi", "task": "segmentation", "adapter": "formula"},
    "links": {"self": f"{_ROOT}/api/models/water-ndwi"},
}  # fmt: skip
_UPLOADED: dict[str, Any] = {
    "id": _UPLOAD, "owner": _USER, "project": None, "name": "scene.tif", "state": "open", "size": 0, "sha256": "",
    "facts": {}, "problem": None, "labels": {}, "created": _AT,
    "links": {"self": f"{_ROOT}/api/uploads/{_UPLOAD}", "content": f"{_ROOT}/api/uploads/{_UPLOAD}/content"},
    "signed": None,
}  # fmt: skip
_LINKED: dict[str, Any] = {
    "url": f"{_ROOT}/api/links/WyJHRVQiLCJmaWxlIl0.q3Ck0yT8Wm2xXo0r7e3sVb1nU5dKzH9aLpGfQyYt4cM/result.tif",
    "method": "GET", "name": "result.tif", "expires": "2026-11-21T18:42:07.000Z",
}  # fmt: skip
_PROCESSED: dict[str, Any] = {
    "id": _PROCESSOR, "owner": _USER, "project": None, "name": "Copy", "description": "", "file": "copy.py",
    "call": "positional", "parameters": {}, "size": 144, "sha256": "9f86d0" * 10 + "abcd", "labels": {}, "created": _AT,
    "links": {"self": f"{_ROOT}/api/processors/{_PROCESSOR}",
              "content": f"{_ROOT}/api/links/WyJHRVQiLCJwcm9jZXNzb3IiXQ.{'k' * 43}/copy.py"},
}  # fmt: skip
_PROJECTED: dict[str, Any] = {
    "id": _PROJECT, "owner": _USER, "name": "Venice", "description": "Water levels", "shared": False, "labels": {},
    "created": _AT, "updated": _AT,
    "links": {"self": f"{_ROOT}/api/projects/{_PROJECT}", "jobs": f"{_ROOT}/api/jobs?project={_PROJECT}"},
}  # fmt: skip
_SOMEBODY: dict[str, Any] = {
    "id": _USER, "email": "ada@example.org", "name": "Ada", "role": "member", "active": True, "created": _AT,
    "quota": {"running_jobs": 8, "queued_jobs": None, "storage_mb": None, "area_km2": None}, "subject": "",
}  # fmt: skip
_KEYED: dict[str, Any] = {
    "id": _KEY, "user": _USER, "prefix": "Zm3rT9aQ", "scopes": ["jobs:read", "jobs:write"], "label": "notebook",
    "created": _AT, "expires": "2027-02-19T10:42:07.120Z", "active": True, "used": None,
}  # fmt: skip
_ALL = {"running_jobs": 4, "queued_jobs": 100, "storage_mb": 200000.0, "area_km2": 10000000.0}
_HAS = {"running_jobs": 0, "queued_jobs": 0, "storage_mb": 0.025, "area_km2": 12.4}


def _link(rel: str, path: str, kind: str = "application/json") -> dict[str, str]:
    return {"rel": rel, "href": f"{_ROOT}{path}", "type": kind}


_LAYER_ID = f"{_JOB_ID}-result"
_LAYER: dict[str, Any] = {
    "id": _LAYER_ID, "title": "Water, by NDWI: Result", "job": _JOB_ID, "owner": _USER, "model": "water-ndwi",
    "file": "result.tif", "band": 1, "crs": "EPSG:32633", "bounds": [290000.0, 5030000.0, 293520.0, 5033520.0],
    "bbox": [12.31, 45.39, 12.36, 45.43], "shape": [352, 352], "look": "classes",
    "classes": [{"value": 0, "name": "land", "colour": "#e8e4d8"}, {"value": 1, "name": "water", "colour": "#1f78b4"}],
    "range": None, "unit": "", "minzoom": 12, "maxzoom": 14, "datetime": "2026-07-04T10:10:00Z",
    "version": "0f1e2d3c4b5a69788796a5b4",
    "links": {"self": f"{_ROOT}/api/layers/{_LAYER_ID}",
              "xyz": f"{_ROOT}/api/layers/{_LAYER_ID}/tiles/{{z}}/{{x}}/{{y}}.png",
              "tilejson": f"{_ROOT}/api/layers/{_LAYER_ID}/tilejson.json",
              "legend": f"{_ROOT}/api/layers/{_LAYER_ID}/legend.png", "wms": f"{_ROOT}/api/layers/wms?job={_JOB_ID}&",
              "wmts": f"{_ROOT}/api/layers/wmts?job={_JOB_ID}&", "job": f"{_ROOT}/api/jobs/{_JOB_ID}"},
}  # fmt: skip
_TILEJSON: dict[str, Any] = {
    "tilejson": "3.0.0", "name": _LAYER["title"], "description": "water-ndwi", "version": "1.0.0", "scheme": "xyz",
    "tiles": [_LAYER["links"]["xyz"]], "minzoom": 12, "maxzoom": 14, "bounds": _LAYER["bbox"],
    "center": [12.335, 45.41, 12], "legend": _LAYER["links"]["legend"],
}  # fmt: skip
POINT: dict[str, Any] = {"layer": _LAYER_ID, "lon": 12.34, "lat": 45.41, "value": 1.0, "name": "water", "unit": ""}
POINTS: dict[str, Any] = {"layers": [{"layer": _LAYER_ID, "title": _LAYER["title"], "value": 1.0, "name": "water",
                                      "unit": ""}]}  # fmt: skip
XML = '<?xml version="1.0" encoding="UTF-8"?>…'
_PUBLISHED: dict[str, Any] = {
    "workspace": "lagoon", "name": "water-2026-07", "state": "published", "tries": 0, "problem": None,
    "url": "https://maps.example.org/geoserver/lagoon/wms?layers=lagoon:water-2026-07",
}  # fmt: skip
_HOOKED: dict[str, Any] = {
    "id": _HOOK, "url": "https://you.example.org/swathe", "kinds": ["state"], "sent_seq": 3, "tries": 2,
    "given_up": False, "problem": "it answered 502",
}  # fmt: skip
ANSWERS: dict[str, dict[str, Any]] = {
    "hook": _HOOKED,
    "hooks": {"hooks": [_HOOKED]},
    "publication": _PUBLISHED,
    "publications": {"publications": [_PUBLISHED]},
    "layer": _LAYER,
    "layers": {"layers": [_LAYER], "links": []},
    "tilejson": _TILEJSON,
    "job": _JOB,
    "jobs": {"jobs": [_JOB], "links": [_link("next", "/api/jobs?limit=1&cursor=ajAxS0Iz")]},
    "estimate": {
        "place": "online", "seconds": 1.2, "seconds_from": "measured", "warnings": [],
        "cost": {"pixels": 123904, "area_km2": 12.4, "tiles": 9}, "plan": {"crs": "EPSG:32633", "shape": [352, 352]},
    },
    "events": {"events": [{"seq": 1, "at": _AT, "kind": "state", "facts": {"state": "queued"}}], "links": []},
    "logs": {"logs": [{"seq": 1, "at": _AT, "level": "info", "message": "chunk done", "facts": {"chunk": "c00000"}}],
             "links": []},
    "files": {"files": [_FILE]},
    "model": _MODEL,
    "models": {"models": [_MODEL]},
    "upload": _UPLOADED,
    "uploads": {"uploads": [_UPLOADED], "links": []},
    "imagery": {"items": [ITEM | {"id": _UPLOAD, "collection": "imagery"}]},
    "link": _LINKED,
    "processor": _PROCESSED,
    "processors": {"processors": [_PROCESSED], "links": []},
    "project": _PROJECTED,
    "projects": {"projects": [_PROJECTED], "links": []},
    "user": _SOMEBODY,
    "users": {"users": [_SOMEBODY], "links": []},
    "me": {"user": _SOMEBODY, "scopes": ["jobs:read", "jobs:write"], "key": _KEY, "quota": _ALL, "usage": _HAS},
    "key": _KEYED,
    "new_key": {**_KEYED, "secret": "swk-Zm3rT9aQ5tY8uB2nC4vX6wL1kJ7hG0fD"},
    "keys": {"keys": [_KEYED]},
    "audit": {"audit": [{"seq": 12, "at": _AT, "user": _USER, "key": _KEY, "action": "job.submit", "subject": _JOB_ID,
                         "facts": {"model": "water-ndwi"}}], "links": []},
    "landing": {"title": "swathe", "version": "0.1.0", "links": [_link("self", "/"), _link("jobs", "/api/jobs")]},
    "ready": {"ok": True, "status": "UP",
              "parts": {"database": {"ok": True, "detail": ""}, "storage": {"ok": True, "detail": ""},
                        "ray": {"ok": True, "detail": "1 node"}}},
    "live": {"ok": True, "status": "UP"},
}  # fmt: skip

SUMMARY: dict[str, Any] = {
    "model": "water-ndwi", "task": "segmentation", "crs": "EPSG:32633", "shape": [512, 512],
    "pixels": {"total": 262144, "valid": 262144}, "area_km2": 26.2,
    "classes": [{"value": 1, "name": "water", "colour": "#2b83ba", "pixels": 9120, "share": 0.034790,
                 "area_km2": 0.912}],
    "mean_score": None, "warnings": [],
}  # fmt: skip
STREAM = (
    'event: job\ndata: {"seq":8,"at":"2026-11-21T10:42:08.900Z","kind":"job","facts":{},"job":{"state":"running"}}\n\n'
    'event: state\ndata: {"seq":9,"at":"2026-11-21T10:42:09.480Z","kind":"state","facts":{"state":"done"}}\nid: 9\n\n'
)
PROBLEM: dict[str, Any] = {
    "type": "urn:swathe:problem:job.unknown", "code": "job.unknown", "title": "There is no such thing.",
    "detail": f"there is no job {_JOB_ID}", "hint": "check the id", "status": 404,
}  # fmt: skip
