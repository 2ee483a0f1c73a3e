"""The parts of the benchmark. Each is measured in interleaved rounds, and its raw numbers are kept as it goes."""

from __future__ import annotations

import contextlib
import io
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from benchmarks.driven import CORES, drive
from benchmarks.hot_path import in_own_process
from benchmarks.measured import measured
from benchmarks.original import Original, Question
from benchmarks.rounds import shuffled
from benchmarks.scenes import STEPS, VARIANTS, Place, planned, say
from benchmarks.warm import WarmLoop, WarmRay
from swathe.card import ModelCard
from swathe.errors import InputError, ModelError

SETTLE_S = 2.0
"""Between two measurements: actors of the last one end."""
WATER = "water-mndwi"
Facts = dict[str, Any]
Keep = Callable[[Facts], None]


@dataclass(frozen=True)
class Extent:
    """How large and how often."""

    size: int = 8192
    """Side of the middle scene; the small one has half, the large one twice as much."""
    rounds: int = 5
    """Of everything but ``scale``."""
    large_rounds: int = 5
    """Of ``scale``, whose large scene takes minutes."""
    tiles: int = 160
    """Of the forward bound."""
    steps: int = STEPS
    """Of training."""
    water: int = 3000
    """Side of the scene of the weight-free method."""

    @property
    def small(self) -> int:
        """Side of the small scene."""
        return self.size // 2

    @property
    def large(self) -> int:
        """Side of the large scene."""
        return self.size * 2


def speed(place: Place, extent: Extent, keep: Keep) -> None:
    """Ours on Ray Data in three runtimes, each between two timings of the forward bound."""
    cards, skipped = _cards(place)
    facts: Facts = {"size": extent.size, "skipped": skipped, "rounds": []}
    with _original(place, extent.size, extent) as original, _ray(place) as runner_of:
        facts["original"] = original.about
        for number in range(extent.rounds):
            runs, bounds = {}, [_settled(original.ask, "forward")]
            for variant in shuffled(list(cards), number):
                say(f"round {number + 1} of {extent.rounds}: {variant} at {extent.size}")
                card = cards[variant]
                runs[variant] = _settled(measured, card, extent.size, place, runner_of(card)).as_dict()
                bounds.append(_settled(original.ask, "forward"))
            facts["rounds"].append({"runs": runs, "bounds": bounds})
            keep(facts)


def tiled(place: Place, extent: Extent, keep: Keep) -> None:
    """TerraTorch's tiled_inference, our loop and ours on Ray Data, on the small scene."""
    card = place.card("fp32")
    facts: Facts = {"size": extent.small, "rounds": []}
    with _original(place, extent.small, extent) as original, _ray(place) as runner_of:
        ways: dict[str, Callable[[], Facts]] = {
            "forward": lambda: original.ask("forward"),
            "tiled": lambda: original.ask("tiled"),
            "loop": lambda: measured(card, extent.small, place, WarmLoop(CORES)).as_dict(),
            "ray": lambda: measured(card, extent.small, place, runner_of(card)).as_dict(),
        }
        for number in range(extent.rounds):
            say(f"round {number + 1} of {extent.rounds}: forward, tiled_inference, loop, Ray at {extent.small}")
            facts["rounds"].append({name: _settled(ways[name]) for name in shuffled(list(ways), number)})
            keep(facts)


def scale(place: Place, extent: Extent, keep: Keep) -> None:
    """The small and the large scene, each run in a fresh process with a fresh Ray, memory watched."""
    place.card("fp32")
    facts: Facts = {"sizes": [extent.small, extent.large], "rounds": []}
    for size in facts["sizes"]:
        place.scene(size)
    for number in range(extent.large_rounds):
        found = {}
        for size in shuffled([str(s) for s in facts["sizes"]], number):
            say(f"round {number + 1} of {extent.large_rounds}: memory at {size}")
            found[size] = _settled(drive, place, int(size), "fp32")
        facts["rounds"].append(found)
        keep(facts)


def cpu(place: Place, extent: Extent, keep: Keep) -> None:
    """CPU time around the network, and tiles computed twice."""
    card = place.card("fp32")
    plan = planned(card, place.scene(extent.size).post, actors=CORES)
    facts: Facts = {
        "size": extent.small,
        "planned": {"size": extent.size, "repeated": plan.cost.repeated, "chunk": plan.chunk_shape},
        "rounds": in_own_process(place, extent.small, extent.rounds),
    }
    keep(facts)


def water(place: Place, extent: Extent, keep: Keep) -> None:
    """The weight-free method with all its products, as ``swathe run`` does it, on a Ray that is there."""
    from serve.cli.work import Way, execute, with_ray
    from serve.settings import Settings
    from swathe.recipe import Recipe

    settings = Settings(data_dir=place.root / "data")
    image, out = place.scene(extent.water).post, place.root / "water"
    facts: Facts = {"size": extent.water, "rounds": []}
    with with_ray(settings):
        for number in range(extent.rounds + 1):
            say(f"run {number} of {extent.rounds}: {WATER} at {extent.water}" + ("" if number else " (to get warm)"))
            clock = time.perf_counter()
            with contextlib.redirect_stdout(io.StringIO()):
                outcome = execute(Recipe(WATER, (str(image),)), settings, Way(out, overwrite=True, as_json=True))
            seconds = time.perf_counter() - clock
            assert outcome.state == "done"
            if number:
                facts["rounds"].append({"seconds": seconds, "stages": outcome.report["seconds"]})
            else:
                facts["first_s"] = seconds
            keep(facts)
            time.sleep(SETTLE_S)


PARTS: dict[str, Callable[[Place, Extent, Keep], None]] = {
    "cpu": cpu, "water": water, "tiled": tiled, "speed": speed, "scale": scale,
}  # fmt: skip


def _cards(place: Place) -> tuple[dict[str, ModelCard], dict[str, str]]:
    """The network in every runtime that this machine has, and why not in the others."""
    cards: dict[str, ModelCard] = {}
    skipped: dict[str, str] = {}
    for variant in VARIANTS:
        try:
            cards[variant] = place.card(variant)
        except (InputError, ModelError) as error:  # the machine cannot compute so; its engine is not there
            skipped[variant] = error.detail
            say(f"{variant} is left out: {error.detail}")
    return cards, skipped


def _settled(measure: Callable[..., Any], *args: Any) -> Any:
    time.sleep(SETTLE_S)
    return measure(*args)


def _original(place: Place, size: int, extent: Extent) -> Original:
    place.scene(size)
    return Original(Question(str(place.root), size, CORES, extent.tiles))


@contextmanager
def _ray(place: Place) -> Iterator[Callable[[Any], WarmRay]]:
    """A Ray of its own; gives what makes a runner for a card."""
    from cluster.local import ClusterSpec, connect
    from cluster.resources import layout

    with connect(ClusterSpec(place.root / "data", cpus=CORES, gpus=0)) as session:
        yield lambda card: WarmRay(layout(card.resources, session.nodes))
