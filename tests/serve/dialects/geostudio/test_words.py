"""Their words stay in their folder."""

import re
from pathlib import Path

ROOT = Path(__file__).resolve().parents[4]
WORDS = re.compile(
    r"geostudio|geofm|geospatial studio|\bpak-|geotune|geodata-|studio-gateway|terrakit|terratorch-inference"
    r"|run-inference|url-connector|postprocess-generic|push-to-geoserver|generic-python-processor|inference-planner"
    r"|add-layer-sandbox|system@ibm|\bibm\b(?!-nasa)",
    re.IGNORECASE,
)
ROOMS = ("swathe", "models", "pipelines", "cluster", "serve", "configs")
OWN = ROOT / "serve" / "dialects" / "geostudio"


def test_no_word_of_theirs_is_outside_of_it():
    for path in (p for room in ROOMS for p in (ROOT / room).rglob("*") if p.suffix in (".py", ".yaml", ".md", ".toml")):
        if not path.is_relative_to(OWN):
            found = [word for word in WORDS.findall(path.read_text()) if word.lower() != "ibm"]
            assert not found, f"{path}: {found}"
