"""How fast and how lean the engine is: prints the table of docs/benchmarks.md.

python benchmarks/engine.py [--part NAMES] [--rounds N] [--size PX] [--out DIR] [--docs]

Takes about an hour on two cores, with nothing else running. Every part's numbers are kept as it
goes, so that an interrupted benchmark is completed with ``--part`` and the names of what is missing.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import psutil

from benchmarks import table
from benchmarks.parts import PARTS, Extent
from benchmarks.scenes import ROOT, Place, say
from pipelines.report import versions

BUSY = 0.5
"""Load above which the machine is not quiet."""


def arguments(given: list[str] | None = None) -> argparse.Namespace:
    """What the command line says."""
    plain = Extent()
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--part", default=",".join(PARTS), help="names with commas; default: %(default)s")
    parser.add_argument("--size", type=int, default=plain.size, help="side of the middle scene (%(default)s)")
    parser.add_argument("--rounds", type=int, default=plain.rounds, help="%(default)s")
    parser.add_argument("--large-rounds", type=int, default=plain.large_rounds, help="of scale (%(default)s)")
    parser.add_argument("--tiles", type=int, default=plain.tiles, help="of the forward bound (%(default)s)")
    parser.add_argument("--steps", type=int, default=plain.steps, help="of training (%(default)s)")
    parser.add_argument("--water", type=int, default=plain.water, help="side of the water map (%(default)s)")
    parser.add_argument("--out", type=Path, default=ROOT / "out" / "bench", help="default: %(default)s")
    parser.add_argument("--docs", action="store_true", help="also put the table into docs/benchmarks.md")
    found = parser.parse_args(given)
    found.part = [name.strip() for name in found.part.split(",") if name.strip()]
    unknown = [name for name in found.part if name not in PARTS]
    if unknown:
        parser.error(f"no part {', '.join(unknown)}; there are {', '.join(PARTS)}")
    return found


def machine() -> dict[str, Any]:
    """What it is measured on."""
    names = [line for line in Path("/proc/cpuinfo").read_text().splitlines() if line.startswith("model name")]
    return {
        "cpu": names[0].partition(":")[2].strip() if names else platform.processor(),
        "cores": len(os.sched_getaffinity(0)),
        "memory_gb": psutil.virtual_memory().total / 2**30,
        "system": platform.platform(),
        "python": platform.python_version(),
        "versions": versions(),
        "load": os.getloadavg()[0],
        "command": " ".join(["python", "benchmarks/engine.py", *sys.argv[1:]]),
        "when": datetime.now(UTC).strftime("%Y-%m-%d"),
    }


def bench(asked: argparse.Namespace) -> dict[str, Any]:
    """Measure the parts asked for and keep them beside those measured before."""
    place, kept = Place(asked.out.resolve()), asked.out / "results.json"
    place.root.mkdir(parents=True, exist_ok=True)
    extent = Extent(asked.size, asked.rounds, asked.large_rounds, asked.tiles, asked.steps, asked.water)
    sizes = {"small": extent.small, "middle": extent.size, "large": extent.large}
    results = table.read(kept) | {"machine": machine(), "sizes": sizes}
    if results["machine"]["load"] > BUSY:
        say(f"the machine is busy (load {results['machine']['load']:.1f}): figures will be off")
    place.prepare(extent.steps, extent.size)
    for name in asked.part:
        say(f"part {name}")

        def keep(facts: dict[str, Any], name: str = name) -> None:
            results["parts"][name] = facts | {"load": os.getloadavg()[0], "command": results["machine"]["command"]}
            kept.write_text(json.dumps(results, indent=1, default=str))

        PARTS[name](place, extent, keep)
    return results


def main() -> None:
    """Entry point."""
    asked = arguments()
    text = table.render(bench(asked))
    (asked.out / "table.md").write_text(text)
    if asked.docs:
        table.into(ROOT / "docs" / "benchmarks.md", text)
    print(text)


if __name__ == "__main__":
    main()
