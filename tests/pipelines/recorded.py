"""Answers of public STAC services, as they were recorded: items, collections, conformance. Never live."""

from __future__ import annotations

import gzip
import json
from collections import defaultdict
from functools import cache
from pathlib import Path
from urllib.parse import urlsplit

import yaml

from pipelines.imagery.gdal import Retry
from pipelines.remote.fetch import Fetcher
from pipelines.remote.network import Network
from pipelines.remote.secrets import Secrets
from pipelines.search.sources import load_sources

ROOT = Path(__file__).resolve().parent.parent.parent
_HOSTS = {"earth-search.aws.element84.com": "earth-search", "planetarycomputer.microsoft.com": "planetary-computer"}


@cache
def shipped_cards():
    return load_sources([ROOT / "configs" / "sources"])


@cache
def exchanges(data):
    """(service, method, path, body, answer) of all cassettes."""
    found = []
    for cassette in sorted((Path(data) / "stac" / "cassettes").glob("*.yaml")):
        loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
        for one in yaml.load(cassette.read_text(), loader)["interactions"]:
            raw = one["response"]["body"]["string"]
            text = gzip.decompress(raw).decode() if isinstance(raw, bytes) else raw
            parts = urlsplit(one["request"]["uri"])
            body = json.loads(one["request"]["body"]) if one["request"]["body"] else None
            found.append((_HOSTS[parts.netloc], one["request"]["method"], parts.path, body, json.loads(text)))
    return found


@cache
def items(data):
    """By service: items as they came."""
    found = defaultdict(list)
    for service, _, _, _, answer in exchanges(data):
        found[service] += answer.get("features", [])
    stac = Path(data) / "stac"
    odc = stac / "items_odc-stac"
    found["planetary-computer"].append(_read(odc / "S2B_MSIL2A_20190629T212529_R043_T06VVN_20201006T080531.json"))
    found["usgs"].append(_read(odc / "LC08_L2SP_028030_20200114_20200824_02_T1_SR.json"))
    found["lpdaac"] += _read(stac / "pystac-client_sample-item-collection.json")["features"]
    for path in sorted((stac / "items_stactools").glob("*.json")):
        raw = _read(path)
        if raw.get("type") == "Feature":
            found["stactools"].append(raw)
    return dict(found)


def of_collection(data, service, collection):
    return [item for item in items(data)[service] if item.get("collection") == collection]


def _read(path):
    return json.loads(path.read_text())


def open_door(secrets=None):
    """The real door to the network, quick to give up, with loopback open."""
    retry = Retry(attempts=4, base_s=0.01, cap_s=0.05, timeout_s=5)
    return Fetcher(Network(allow_private=True, retry=retry, secrets=Secrets(secrets or {})))
