"""XML of OGC's services: elements by name, text without what XML cannot hold, and reports of what went wrong."""

from __future__ import annotations

from typing import TYPE_CHECKING
from xml.etree import ElementTree as ET

if TYPE_CHECKING:
    from serve.tiles.wishes import Refused

XLINK = "http://www.w3.org/1999/xlink"
ET.register_namespace("xlink", XLINK)


def add(parent: ET.Element, name: str, text: str = "", /, **attributes: str) -> ET.Element:
    """A child with a text."""
    made = ET.SubElement(parent, name, {key: clean(value) for key, value in attributes.items()})
    if text:
        made.text = clean(text)
    return made


def online(parent: ET.Element, href: str, name: str = "OnlineResource") -> None:
    """A child that is a link."""
    ET.SubElement(parent, name, {f"{{{XLINK}}}type": "simple", f"{{{XLINK}}}href": href})


def clean(text: str) -> str:
    """Without control characters."""
    return "".join(c for c in text if c.isprintable())


def document(root: ET.Element, doctype: str = "") -> bytes:
    """As it goes over the wire."""
    ET.indent(root)
    return b'<?xml version="1.0" encoding="UTF-8"?>\n' + doctype.encode() + ET.tostring(root, encoding="utf-8")


def service_exception(refused: Refused, version: str) -> bytes:
    """A WMS's report."""
    root = ET.Element("ServiceExceptionReport", version=version)
    if version != "1.1.1":
        root.set("xmlns", "http://www.opengis.net/ogc")
    found = add(root, "ServiceException", refused.text)
    if refused.code:
        found.set("code", refused.code)
    if refused.locator and version != "1.1.1":
        found.set("locator", refused.locator)
    return document(root)


def exception_report(refused: Refused) -> bytes:
    """A WMTS's report (OWS 1.1)."""
    root = ET.Element("ExceptionReport", {"version": "1.0.0", "xmlns": "http://www.opengis.net/ows/1.1"})
    found = add(root, "Exception", exceptionCode=refused.code or "NoApplicableCode")
    if refused.locator:
        found.set("locator", refused.locator)
    add(found, "ExceptionText", refused.text)
    return document(root)
