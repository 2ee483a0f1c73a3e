"""A processor: every cell whose neighbours mostly differ from it takes their class. ``fill.py INPUT OUTPUT PARAMS``."""

import json
import sys
from pathlib import Path

import numpy as np
import rasterio


def main(source: str, target: str, parameters: str) -> None:
    """Cells of the first band; the rest of the file stays as it is."""
    needed = json.loads(Path(parameters).read_text()).get("neighbours", 6)
    with rasterio.open(source) as file:
        values, profile = file.read(1), file.profile
    padded = np.pad(values, 1, mode="edge")
    height, width = values.shape
    around = np.stack([padded[r : r + height, c : c + width] for r in range(3) for c in range(3) if (r, c) != (1, 1)])
    changed = 0
    result = values.copy()
    for value in np.unique(values):
        mask = ((around == value).sum(0) >= needed) & (values != value)
        result[mask] = value
        changed += int(mask.sum())
    with rasterio.open(target, "w", **profile) as file:
        file.write(result, 1)
    print(json.dumps({"changed": changed}))


if __name__ == "__main__":
    main(*sys.argv[1:4])
    sys.exit(0)
