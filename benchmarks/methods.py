"""How right the weight-free methods are on real, labelled imagery: prints the tables of docs/methods.md.

python benchmarks/methods.py [FOLDER WITH THE REAL DATA]
"""

from __future__ import annotations

import os
import sys
import time
import warnings
from pathlib import Path

import numpy as np
import rasterio
import yaml
from numpy.typing import NDArray
from rasterio.errors import NotGeoreferencedWarning

from models import formula
from swathe.card import ModelCard

ROOT = Path(__file__).resolve().parent.parent
BANDS_S2 = (
    "coastal", "blue", "green", "red", "rededge071", "rededge075", "rededge078",
    "nir", "nir08", "nir09", "cirrus", "swir16", "swir22",
)  # fmt: skip
BANDS_CHIP = ("coastal", "blue", "green", "red", "nir", "swir16", "swir22")
WATER = ("mndwi", "mndwi-otsu", "mndwi-two-gaussian", "ndwi", "ndwi-otsu", "awei", "awei-nsh")

Image = dict[str, NDArray[np.float32]]


def card_of(name: str) -> ModelCard:
    """Card of that id from configs/models."""
    return ModelCard.model_validate(yaml.safe_load((ROOT / "configs" / "models" / f"{name}.yaml").read_text()))


def read(path: Path) -> NDArray[np.float64]:
    """(bands, rows, cols) as stored."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", NotGeoreferencedWarning)
        with rasterio.open(path) as file:
            return file.read().astype(np.float64)


def reflectance(names: tuple[str, ...], stored: NDArray[np.float64]) -> Image:
    """Bands by name, stored as reflectance * 10000."""
    return {name: (band / 10000).astype(np.float32) for name, band in zip(names, stored, strict=False)}


def mapped(card: ModelCard, *dates: Image) -> tuple[NDArray[np.float32], dict[str, float]]:
    """(K, rows, cols) of a card over whole images, and what it fitted; every pixel counts as valid."""
    tiles = np.stack([np.stack([date[name] for name in card.input.bands]) for date in dates])[None]
    valid = np.ones((1, *tiles.shape[-2:]), np.bool_)
    fitted = formula.fit(card, formula.measurer(card)(tiles, valid)) if formula.needs_fit(card) else {}
    return formula.load(card, fitted)(tiles)[0], fitted


def iou(found: NDArray[np.bool_], truth: NDArray[np.bool_]) -> float:
    """Intersection over union of the positive class."""
    return float((found & truth).sum() / max((found | truth).sum(), 1))


def flood(data: Path) -> tuple[Image, NDArray[np.bool_], NDArray[np.bool_]]:
    """Sen1Floods11 chip: bands, water, and where the label says anything."""
    folder = data / "flood_sen1floods11"
    label = read(folder / "Spain_7370579_LabelHand.tif")[0]
    return reflectance(BANDS_S2, read(folder / "Spain_7370579_S2Hand.tif")), label == 1, label != -1


def ponds(data: Path) -> list[tuple[Image, NDArray[np.bool_]]]:
    """Ten small water chips: bands and water."""
    folder = data / "water_chips"
    return [
        (reflectance(BANDS_CHIP, read(path)), read(folder / "labels" / f"{path.stem}.png")[0] > 0)
        for path in sorted((folder / "images").glob("*.tif"))
    ]


def fires(data: Path) -> dict[str, tuple[Image, NDArray[np.bool_]]]:
    """Seven Californian fires: bands after the fire and the official perimeter."""
    folder = data / "burn_california_s2"
    return {
        path.stem.split("_")[0]: (
            reflectance(("nir", "swir22"), read(path)[3:]),
            read(folder / "masks" / path.name)[0] == 1,
        )
        for path in sorted((folder / "post_fire").glob("*.tif"))
    }


def french(data: Path) -> tuple[Image, Image, NDArray[np.bool_]]:
    """FRENCH fire: bands before and after, and the perimeter.

    Before the fire only its published dNBR is at hand: the bands before are a pair that has exactly that NBR.
    """
    after, perimeter = fires(data)["FRENCH"]
    change = read(data / "burn_california_s2" / "dnbr" / "FRENCH_20240704.tif")[0]
    nir, swir = after["nir"].astype(np.float64), after["swir22"].astype(np.float64)
    before = np.clip(change + (nir - swir) / (nir + swir), -1, 1)
    pair = {"nir": (1 + before) / 2, "swir22": (1 - before) / 2}
    return {name: band.astype(np.float32) for name, band in pair.items()}, after, perimeter


def water_table(data: Path) -> None:
    """Print the IoU of the water methods."""
    image, water, known = flood(data)
    print("| method | flood chip | its threshold | separability | ten pond chips: median (lowest to highest) |")
    print("|---|---|---|---|---|")
    for name in WATER:
        card = card_of(f"water-{name}")
        scores, fitted = mapped(card, image)
        small = sorted(iou(mapped(card, chip)[0][1] > 0.5, truth) for chip, truth in ponds(data))
        threshold = f"{fitted['threshold']:.3f}" if fitted and not fitted["fallback"] else "fixed 0"
        clear = f"{fitted['separability']:.2f}" if fitted else "-"
        spread = f"{np.median(small):.2f} ({small[0]:.2f} to {small[-1]:.2f})"
        print(f"| {card.id} | {iou((scores[1] > 0.5) & known, water & known):.3f} | {threshold} | {clear} | {spread} |")


def burn_table(data: Path) -> None:
    """Print the IoU of the burn methods."""
    print("| fire | burn-nbr | burn-nbr-otsu | threshold | separability |")
    print("|---|---|---|---|---|")
    for name, (after, perimeter) in fires(data).items():
        fixed, _ = mapped(card_of("burn-nbr"), after)
        split, fitted = mapped(card_of("burn-nbr-otsu"), after)
        scores = f"{iou(fixed[1] > 0.5, perimeter):.2f} | {iou(split[1] > 0.5, perimeter):.2f}"
        print(f"| {name} | {scores} | {fitted['threshold']:.3f} | {fitted['separability']:.2f} |")
    before, after, perimeter = french(data)
    print("\n| two dates, FRENCH | IoU |\n|---|---|")
    for name in ("burn-dnbr", "burn-rbr"):
        print(f"| {name} | {iou(mapped(card_of(name), before, after)[0][1] > 0.5, perimeter):.2f} |")
    severity = mapped(card_of("burn-severity"), before, after)[0]
    print(f"| burn-severity, any class above unburnt | {iou(severity[0] < 0.5, perimeter):.2f} |")


def land_table(data: Path) -> None:
    """Print how often NDBI calls a training pixel built-up."""
    folder = data / "l7_chiapas_labels"
    stored = read(folder / "LE70220491999322EDC01_stack.gtif")
    image = reflectance(("blue", "green", "red", "nir", "swir16"), stored)
    built = mapped(card_of("builtup-ndbi"), image)[0][1] > 0.5
    label = read(folder / "training_data.gtif")[0]
    print("| training polygons | pixels | share mapped as built-up or bare |\n|---|---|---|")
    for value, name in ((5, "urban"), (4, "barren"), (3, "herbaceous"), (1, "forest"), (2, "water")):
        print(f"| {name} | {(label == value).sum()} | {built[label == value].mean():.0%} |")


def speed_table() -> None:
    """Print megapixels per second of one core, best of five."""
    generator = np.random.default_rng(0)
    print("| method | Mpx/s |\n|---|---|")
    for path in sorted((ROOT / "configs" / "models").glob("*.yaml")):
        card = card_of(path.stem)
        if card.adapter != "formula":
            continue
        shape = (card.resources.batch, card.input.times, len(card.input.bands), card.input.chip, card.input.chip)
        tiles = generator.random(shape, np.float32)
        tiles[..., card.input.chip // 2 :] *= np.linspace(1, 0.1, shape[2], dtype=np.float32)[:, None, None]
        valid = np.ones((shape[0], *shape[-2:]), np.bool_)
        fitted = formula.fit(card, formula.measurer(card)(tiles, valid)) if formula.needs_fit(card) else {}
        predictor = formula.load(card, fitted)
        predictor(tiles)
        seconds = []
        for _ in range(5):
            start = time.perf_counter()
            predictor(tiles)
            seconds.append(time.perf_counter() - start)
        print(f"| {card.id} | {valid.size / min(seconds) / 1e6:.0f} |")


def main() -> None:
    """Print all tables."""
    given = sys.argv[1] if len(sys.argv) > 1 else os.environ.get("SWATHE_TEST_DATA", ROOT.parent / "shared" / "data")
    data = Path(given)
    for table in (water_table, burn_table, land_table):
        table(data)
        print()
    speed_table()


if __name__ == "__main__":
    main()
