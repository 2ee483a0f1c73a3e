"""The page that explains an API to people. Its script comes along, so that it works where there is no internet."""

from __future__ import annotations

from fastapi import FastAPI
from fastapi.openapi.docs import get_swagger_ui_html
from starlette.responses import HTMLResponse
from starlette.staticfiles import StaticFiles


def explained(app: FastAPI, page: str, schema: str, title: str) -> None:
    """Put the page at ``page``; ``schema`` is the address of the OpenAPI document, as seen from there.

    All addresses in it are relative: it works under any mount and behind any proxy.
    """
    files = f"{page}-files"
    app.mount(files, StaticFiles(packages=[("fastapi_offline", "static")]), name=files)
    near = files.rpartition("/")[2]
    html = bytes(get_swagger_ui_html(
        openapi_url=schema, title=title, swagger_js_url=f"{near}/swagger-ui-bundle.js",
        swagger_css_url=f"{near}/swagger-ui.css", swagger_favicon_url=f"{near}/favicon.png",
    ).body)  # fmt: skip

    @app.get(page, include_in_schema=False)
    async def explain() -> HTMLResponse:
        return HTMLResponse(html)
