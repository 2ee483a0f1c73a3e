"""Where their map server would be: what is asked without a key."""

import xml.etree.ElementTree as ET

import pytest

WMTS = "/geofm-geoserver/geoserver/gwc/service/wmts"
SPACE = "{http://demo.geo-solutions.it/share/wmts-multidim/wmts_multi_dimensional.xsd}"


@pytest.mark.parametrize("layer", ["geofm:11111111-2222-3333-4444-555555555555-pred", "", "%3Cscript%3E"])
def test_layers_have_no_times_to_choose_from(house, layer):
    """Asked as their client does it, and read as it reads it; nothing is told of whether a layer is there."""
    for path in (WMTS, WMTS.replace("geoserver/gwc", "geoserver//gwc")):
        answer = house.client().get(f"{path}?Version=1.0.0&REQUEST=GetDomainValues&Layer={layer}&domain=time")
        assert (answer.status_code, answer.headers["content-type"]) == (200, "text/xml; charset=utf-8")
        root = ET.fromstring(answer.text)
        assert (root.tag, root.find(f"{SPACE}Domain")) == (f"{SPACE}DomainValues", None)
        assert root.findtext(f"{SPACE}Size") == "0"
        assert "script" not in answer.text


@pytest.mark.parametrize("query", ["", "?request=GetTile", "?service=WMTS&request=GetCapabilities"])
def test_what_else_is_asked_of_it_is_not_there(studio, query):
    for client in (studio.client, studio.house.client()):
        answer = client.get(WMTS + query)
        assert (answer.status_code, "GetDomainValues" in answer.json()["detail"]["msg"]) == (501, True)
