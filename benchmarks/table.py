"""From raw numbers to the table: what was asked for, what was measured, and whether that is good enough."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.rounds import Spread, bracketed

Parts = Mapping[str, Any]


@dataclass(frozen=True)
class Row:
    """One line of the table."""

    name: str
    part: str
    """Where its numbers come from."""
    pick: Callable[[Any], Sequence[float]]
    """The part's facts -> one figure per round."""
    floor: float | None = None
    """May not be exceeded; None: there is an aim alone, or nothing."""
    aim: float | None = None
    """Should not be exceeded; None: stated only."""
    unit: str = ""
    """After the figure."""

    def verdict(self, value: float) -> str:
        """What the median says."""
        if self.aim is None:
            return ""
        floor = self.aim if self.floor is None else self.floor
        return "aim met" if value <= self.aim else "floor met" if value <= floor else "**missed**"

    def line(self, parts: Parts, sizes: Mapping[str, str]) -> str:
        """As markdown; ``sizes`` says what small, middle and large are."""
        name = self.name.format(**sizes)
        values = list(self.pick(parts[self.part])) if parts.get(self.part, {}).get("rounds") else []
        limits = " | ".join("" if x is None else _shown(x, self.unit) for x in (self.floor, self.aim))
        if not values:
            return f"| {name} | {limits} | not measured | | |"
        spread = Spread.of(values)
        between = f"{_shown(spread.low, self.unit)} to {_shown(spread.high, self.unit)} ({spread.count})"
        middle = _shown(spread.middle, self.unit)
        return f"| {name} | {limits} | {middle} | {between} | {self.verdict(spread.middle)} |"


def _shown(value: float, unit: str) -> str:
    if unit == "%":
        return f"{100 * value:.1f} %"
    digits = 0 if abs(value) >= 100 else 1 if abs(value) >= 10 else 2
    return f"{value:.{digits}f} {unit}".strip()


def per_forward(variant: str) -> Callable[[Any], list[float]]:
    """Ratio to the forward bound, per forward executed."""

    def pick(facts: Any) -> list[float]:
        ratios = []
        for held in facts["rounds"]:
            if variant not in held["runs"]:
                continue
            at = list(held["runs"]).index(variant)
            ran, (before, after) = held["runs"][variant], held["bounds"][at : at + 2]
            bounds = [b["seconds"] / b["tiles"] for b in (before, after)]
            ratios.append(bracketed(ran["steady_s"] / ran["tiles"], *bounds))
        return ratios

    return pick


def per_scene(variant: str) -> Callable[[Any], list[float]]:
    """The same with every tile of the scene counted once: those done twice where chunks meet count against us."""

    def pick(facts: Any) -> list[float]:
        done = [1 + held["runs"][variant]["repeated"] for held in facts["rounds"] if variant in held["runs"]]
        return [ratio * share for ratio, share in zip(per_forward(variant)(facts), done, strict=True)]

    return pick


def ran(variant: str, figure: Callable[[Any], float]) -> Callable[[Any], list[float]]:
    """A figure of every run of a variant."""
    return lambda facts: [figure(held["runs"][variant]) for held in facts["rounds"] if variant in held["runs"]]


def against(one: str, other: str) -> Callable[[Any], list[float]]:
    """Ratio of two ways over the small scene."""

    def seconds(facts: Any) -> float:
        return facts.get("steady_s") or facts["seconds"]

    return lambda facts: [seconds(held[one]) / seconds(held[other]) for held in facts["rounds"]]


def loop_per_forward(facts: Any) -> list[float]:
    """Our loop to the forward bound, per forward executed."""
    return [
        held["loop"]["steady_s"] / held["loop"]["tiles"] / (held["forward"]["seconds"] / held["forward"]["tiles"])
        for held in facts["rounds"]
    ]


def tiled_per_tile(facts: Any) -> list[float]:
    """What tiled_inference takes for each tile of the small scene, to the forward bound."""
    return [
        held["tiled"]["seconds"] / held["loop"]["tiles"] / (held["forward"]["seconds"] / held["forward"]["tiles"])
        for held in facts["rounds"]
    ]


def at(which: int, figure: Callable[[Any], float]) -> Callable[[Any], list[float]]:
    """A figure at the small (0) or the large (1) scene."""
    return lambda facts: [figure(held[str(facts["sizes"][which])]) for held in facts["rounds"]]


def growth(figure: Callable[[Any], float]) -> Callable[[Any], list[float]]:
    """The large scene's figure over the small one's."""
    small, large = at(0, figure), at(1, figure)
    return lambda facts: [b / a for a, b in zip(small(facts), large(facts), strict=True)]


def _gb(ran_: Any) -> float:
    return ran_["memory"]["beyond_idle_mb"] / 1024


def _of_run(ran_: Any) -> float:
    return (ran_["steady_s"] + ran_["products_s"]) / ran_["pixels"] * 1e6


def _of_chunks(ran_: Any) -> float:
    return ran_["steady_s"] / ran_["pixels"] * 1e6


def _growth_of_memory(facts: Any) -> list[float]:
    return [ratio - 1 for ratio in growth(_gb)(facts)]


def _tracing(facts: Any) -> list[float]:
    return [sum(ms for stage, ms in r["stages"].items() if stage.startswith("trace")) for r in facts["rounds"]]


def _network(ran_: Any) -> float:
    return ran_["stages"]["workers_predict"] / ran_["stages"]["workers_total"]


def _share(ran_: Any) -> float:
    return ran_["products_s"] / (ran_["steady_s"] + ran_["products_s"])


ROWS = (
    Row("ours on Ray Data / forward bound, eager both, per forward", "speed", per_forward("eager"), 1.15, 1.05),
    Row("tiles computed twice, {middle}", "cpu", lambda f: [f["planned"]["repeated"]], 0.08, 0.05, "%"),
    Row("ours with the fp32 artefact / forward bound, per forward", "speed", per_forward("fp32"), 0.95, 0.75),
    Row("the same, each tile counted once", "speed", per_scene("fp32"), 0.95, 0.75),
    Row("ours with bf16 / forward bound, per forward", "speed", per_forward("bf16"), 0.65, 0.45),
    Row("the same, each tile counted once", "speed", per_scene("bf16"), 0.65, 0.45),
    Row("ours (fp32 artefact) / tiled_inference, {small}", "tiled", against("ray", "tiled"), 1.0, 0.65),
    Row("peak memory beyond Ray's idle, {large}", "scale", at(1, _gb), 2.0, 1.2, "GB"),
    Row("its growth from {small} to {large}", "scale", _growth_of_memory, 0.08, 0.03, "%"),
    Row("seconds per megapixel, {large} / {small}, whole run", "scale", growth(_of_run), 1.08, 1.02),
    Row("the same, chunks alone", "scale", growth(_of_chunks), 1.08, 1.02),
    Row("products after the last chunk, share of the run", "speed", ran("fp32", _share), 0.15, 0.08, "%"),
    Row("CPU around the network, per tile", "cpu", lambda f: [r["ms"] for r in f["rounds"]], 4.0, 2.0, "ms"),
    Row("weight-free water map, warm cluster", "water", lambda f: [r["seconds"] for r in f["rounds"]], 15.0, 6.0, "s"),
)  # fmt: skip

ALSO = (
    Row("our loop (fp32 artefact, 2 threads) / forward bound, per forward", "tiled", loop_per_forward),
    Row("our loop / tiled_inference, {small}", "tiled", against("loop", "tiled")),
    Row("tiled_inference / forward bound, per tile", "tiled", tiled_per_tile),
    Row("of our workers' time: the network", "tiled", lambda f: [_network(r["ray"]) for r in f["rounds"]], unit="%"),
    Row("tiles computed twice, {small}", "tiled", lambda f: [r["ray"]["repeated"] for r in f["rounds"]], unit="%"),
    Row("products with the bf16 artefact, share of the run", "speed", ran("bf16", _share), unit="%"),
    Row("of the CPU around the network: tracing polygons", "cpu", _tracing, unit="ms"),
    Row("peak memory beyond Ray's idle, {small}", "scale", at(0, _gb), unit="GB"),
    Row("idle Ray and the driver before the run", "scale", at(1, lambda r: r["memory"]["idle_mb"] / 1024), unit="GB"),
    Row("start: ray.init", "scale", at(0, lambda r: r["ray_s"]), unit="s"),
    Row("start: pool, first chunk's start (fp32 artefact)", "speed", ran("fp32", lambda r: r["start_s"]), unit="s"),
    Row("of that: loading the artefact", "speed", ran("fp32", lambda r: r["load_s"]), unit="s"),
    Row("start: pool, first chunk's start (eager)", "speed", ran("eager", lambda r: r["start_s"]), unit="s"),
    Row("ours with the fp32 artefact, {middle}, chunks", "speed", ran("fp32", lambda r: r["steady_s"]), unit="s"),
    Row("weight-free water map, first run of the program", "water", lambda f: [f["first_s"]], unit="s"),
)  # fmt: skip
HEAD = "| what | floor | aim | measured | spread (rounds) | |\n|---|---|---|---|---|---|"


def render(results: Mapping[str, Any]) -> str:
    """Everything that stands in docs/benchmarks.md between its marks."""
    parts, sizes = results["parts"], {name: f"{side}²" for name, side in results["sizes"].items()}
    told = [machine(results["machine"]), HEAD, *(row.line(parts, sizes) for row in ROWS)]
    told += ["", "Beside the table:", "", HEAD, *(row.line(parts, sizes) for row in ALSO)]
    stages = _stages(parts.get("cpu", {}))
    return "\n".join(told + (["", stages] if stages else [])) + "\n"


def machine(facts: Mapping[str, Any]) -> str:
    """The machine in a sentence."""
    versions = ", ".join(f"{name} {number}" for name, number in facts["versions"].items())
    return (
        f"{facts['cpu']}, {facts['cores']} cores, {facts['memory_gb']:.0f} GB, {facts['system']}; "
        f"Python {facts['python']}, {versions}; load before the start {facts['load']:.2f}; "
        f"`{facts['command']}`, {facts['when']}.\n"
    )


def _stages(facts: Mapping[str, Any]) -> str:
    rounds = facts.get("rounds")
    if not rounds:
        return ""
    names = sorted({stage for held in rounds for stage in held["stages"]})
    middles = {name: Spread.of([held["stages"].get(name, 0.0) for held in rounds]).middle for name in names}
    rest = Spread.of([held["with_stages_ms"] - sum(held["stages"].values()) for held in rounds]).middle
    told = ", ".join(f"{name} {ms:.2f}" for name, ms in (*middles.items(), ("the rest", rest)))
    return f"CPU around the network by stage, ms per tile: {told}."


def into(page: Path, text: str) -> None:
    """Replace what stands between the marks of a page."""
    start, end = "<!-- measured -->\n", "<!-- /measured -->"
    before, _, rest = page.read_text().partition(start)
    _, _, after = rest.partition(end)
    page.write_text(f"{before}{start}{text}{end}{after}")


def read(path: Path) -> dict[str, Any]:
    """Results so far."""
    return json.loads(path.read_text()) if path.exists() else {"parts": {}}
