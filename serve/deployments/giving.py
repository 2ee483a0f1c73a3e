"""Giving Ray Serve its config, and hearing what it says, by the dashboard's REST interface: no Ray is loaded."""

from __future__ import annotations

import json
import re
import time
import urllib.error
import urllib.request
from collections.abc import Mapping
from typing import Any

from cluster import reach
from cluster.head import Head
from swathe.errors import ClusterError

APP = "swathe"
"""The application of ``configs/serve.yaml``."""
API = "api"
"""Its deployment that answers requests."""
_PATIENCE_S = 60.0
_EXCEPTION = re.compile(r"[\w.]*(Error|Exception): \S")
_OK, _BAD, _BELOW_ERRORS = 200, 400, 500


def put(to: Head, config: Mapping[str, Any], patience_s: float = _PATIENCE_S) -> None:
    """Give Serve a config, starting Serve where it does not run. Raises ClusterError (``up.config``)."""
    limit = time.monotonic() + patience_s
    while True:
        status, said = _send(to, config)
        if status == _OK:
            return
        if time.monotonic() > limit or _BAD <= status < _BELOW_ERRORS:
            raise ClusterError(f"Ray did not take the service: {said[:300] or status}", hint=f"see {to.folder}",
                               code="up.config")  # fmt: skip
        time.sleep(1)


def what_fails(at: Head) -> str:
    """What Serve says of the service, where it could not be deployed; empty where it is or may yet come."""
    app = _application(at)
    if app.get("status") != "DEPLOY_FAILED":
        return ""
    return reason(app.get("message", ""), *(d.get("message", "") for d in app.get("deployments", {}).values()))


def _application(at: Head) -> dict[str, Any]:
    _, answer = reach.get_json(f"{at.dashboard}/api/serve/applications/", at.token)
    return ((answer or {}).get("applications") or {}).get(APP) or {}


def reason(*texts: str) -> str:
    """The last exception that is named in what Serve says, without its way; else its last line."""
    lines = [line.strip() for text in texts for line in text.splitlines() if line.strip()]
    named = [line for line in lines if _EXCEPTION.match(line)]
    return (named or lines or [""])[-1][:300]


def _send(to: Head, config: Mapping[str, Any]) -> tuple[int, str]:
    headers = {"Content-Type": "application/json"} | ({"Authorization": f"Bearer {to.token}"} if to.token else {})
    url = f"{to.dashboard}/api/serve/applications/"
    request = urllib.request.Request(url, json.dumps(config).encode(), headers, method="PUT")  # noqa: S310  http, ours
    try:
        with urllib.request.urlopen(request, timeout=60) as answer:  # noqa: S310  our own dashboard
            return answer.status, ""
    except urllib.error.HTTPError as refused:
        return refused.code, reason(refused.read().decode(errors="replace"))
    except (OSError, ValueError) as error:
        return 0, str(error)
