"""Searched imagery, measured in one go: windows, a composite, a narrow link, the catalogue; and which aims are met.

    python -m benchmarks.imagery [--part reading,composite,link,catalogue] [--sizes 4096,8192] [--out out/bench]

Each part is a program of its own (``benchmarks/reading.py`` and so on) and says what it measures; here they are run one
after the other, as docs/benchmarks.md quotes them, on a machine that has nothing else to do. What they found is kept,
so that ``--part`` measures some anew, and ``--sizes`` scenes of other sizes over the link. An aim that is missed is
said, and is no failure: machines differ. A part that breaks does not stop the others.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks.scenes import ROOT, say
from benchmarks.table import HEAD, Row

BUSY = 0.5
"""Load above which the machine is not quiet."""
PAR = 1.1
"""Times as long as another reader takes: on a par with it."""
TWICE = 0.5
"""Of another reader's time: twice as fast."""
PARTS: Mapping[str, Callable[[Path], list[str]]] = {
    "reading": lambda _out: ["--rounds", "15"],
    "composite": lambda _out: ["--rounds", "3"],
    "link": lambda out: ["--rounds", "3", "--folder", str(out)],
    "catalogue": lambda _out: [],
}
"""What each program is asked for, with the folder of all benchmarks."""


def ratios(place: str, other: str) -> Callable[[Any], list[float]]:
    """Ours to another reader's time, round by round."""
    return lambda facts: [a / b for a, b in zip(facts["places"][place]["swathe"], facts["places"][place][other],
                                                strict=True)]  # fmt: skip


def sized(text: str, facts: Any) -> str:
    """Said of a composite, with how large it was where it was measured."""
    what = f"composite of {facts['dates']} dates, {facts['size']}²" if facts and "size" in facts else "composite"
    return f"median {what}: {text}"


def composites(facts: Any) -> list[float]:
    """Ours to odc-stac's time, round by round."""
    return [a["seconds"] / b["seconds"] for a, b in zip(facts["ways"]["ours"], facts["ways"]["odc-stac"], strict=True)]


def peak_gb(facts: Any) -> list[float]:
    """Of our process."""
    return [one["peak_mb"] / 1024 for one in facts["ways"]["ours"]]


def links(side: str, runner: str, figure: str) -> Callable[[Any], list[float]]:
    """A figure of every run over a scene of that side."""
    return lambda facts: [one[figure] for one in facts.get("sizes", {}).get(side, {}).get(runner, ())]


def answered(question: str) -> Callable[[Any], list[float]]:
    """Milliseconds of a question to the catalogue, a median."""
    return lambda facts: [facts["searches"][question]["ms"]]


def rows(parts: Mapping[str, Any]) -> list[Row]:
    """What the parts measured against what was aimed at: ratios that may not be larger."""
    places = parts.get("reading", {}).get("places", {})
    found = [
        Row(f"windows, {place}: ours / {other}", "reading", ratios(place, other), aim=aim)
        for place in places
        for other, aim in (("async-geotiff", PAR), ("rasterio", TWICE))
    ] or [Row("windows", "reading", list)]
    composite = parts.get("composite")
    found += [
        Row(sized("ours / odc-stac and numpy", composite), "composite", composites, aim=0.8),
        Row(sized("peak memory", composite), "composite", peak_gb, aim=1.5, unit="GB"),
    ]
    sizes = parts.get("link", {}).get("sizes", {"4096": {"loop": [], "ray": []}})
    measured = ((side, name) for side, runners in sizes.items() for name in runners)
    for side, name in sorted(measured, key=lambda one: int(one[0])):
        place = f"narrow link, {side}², {name}"
        found += [
            Row(f"{place}: wall / max(eager forward, bytes ÷ bandwidth)", "link", links(side, name, "ratio_eager"),
                aim=1.1),
            Row(f"{place}: wall / max(forward of the artefact, bytes ÷ bandwidth)", "link",
                links(side, name, "ratio_artefact"), aim=1.1),
            Row(f"{place}: fetched / blocks under the tiles", "link", links(side, name, "bytes_ratio"), aim=1.15),
        ]  # fmt: skip
    asked = ("box of 2° and a month", "box of 60° and a year", "cloud below 5, all items (SQL)")
    return found + [Row(f"catalogue: {name}", "catalogue", answered(name), unit="ms") for name in asked]


def render(parts: Mapping[str, Any]) -> str:
    """As markdown; rows without an aim are stated only."""
    return "\n".join([HEAD, *(row.line(parts, {}) for row in rows(parts))]) + "\n"


def measure(name: str, out: Path, more: Sequence[str] = ()) -> dict[str, Any]:
    """Run one program, in a process of its own, and read what it found; ``more`` are options for it.

    Raises CalledProcessError where it fails.
    """
    kept = out / "imagery" / f"{name}.json"
    kept.parent.mkdir(parents=True, exist_ok=True)
    command = [sys.executable, "-m", f"benchmarks.{name}", *PARTS[name](out), *more, "--out", str(kept)]
    subprocess.run(command, check=True, cwd=ROOT)
    return json.loads(kept.read_text())


def kept_in(out: Path) -> dict[str, Any]:
    """What was measured before."""
    found = {name: out / "imagery" / f"{name}.json" for name in PARTS}
    return {name: json.loads(path.read_text()) for name, path in found.items() if path.exists()}


def main() -> None:
    """Measure, and say which aims are met."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--part", default=",".join(PARTS), help="names with commas; default: %(default)s")
    parser.add_argument("--sizes", default="4096", help="sides of the scenes over the link; default: %(default)s")
    parser.add_argument("--out", type=Path, default=ROOT / "out" / "bench", help="default: %(default)s")
    asked = parser.parse_args()
    names, out = [name.strip() for name in asked.part.split(",") if name.strip()], asked.out.resolve()
    if unknown := [name for name in names if name not in PARTS]:
        parser.error(f"no part {', '.join(unknown)}; there are {', '.join(PARTS)}")
    if (load := os.getloadavg()[0]) > BUSY:
        say(f"the machine is busy (load {load:.1f}): figures will be off")
    parts, broken = kept_in(out), []
    for name in names:
        say(f"part {name}")
        try:
            parts[name] = measure(name, out, ("--sizes", asked.sizes) if name == "link" else ())
        except subprocess.CalledProcessError:  # it has said why
            broken.append(name)
            parts.pop(name, None)
    print(f"\n{render(parts)}", flush=True)
    if broken:
        sys.exit(f"not measured: {', '.join(broken)} ended with an error")


if __name__ == "__main__":
    main()
