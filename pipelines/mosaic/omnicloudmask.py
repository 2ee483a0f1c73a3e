"""Cloud and shadow by the networks of OmniCloudMask, looked for in red, green and near infrared.

Wright et al. 2025, Training sensor-agnostic deep learning models for remote sensing: achieving state-of-the-art cloud
and cloud shadow identification with OmniCloudMask, Remote Sensing of Environment 322, 114694; package omnicloudmask 1.8
(MIT). As there: every band of a patch is normalised by the mean and standard deviation of its own valid pixels, the
logits of all networks are averaged, the largest of four is the class.

Not as there: patches lie on the endless frame, not in the scene, and only their middle is kept, so that a pixel's mask
does not depend on the area drawn; and none is moved away from pixels without data. Normalised like that, numbers need
no scale or offset: a wrong one changes nothing here.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from swathe.card import Weights
from swathe.errors import ImageryError, ModelError
from swathe.source import SourceMask
from swathe.window import Window

if TYPE_CHECKING:
    from models.predictor import Predictor

PATCH = 1024
"""Side of what the networks see, in pixels of the frame: the package takes 1000, which their five halvings do not
divide."""
HALO = 160
"""Margin of a patch that is seen and not used: half of the package's overlap, and a little."""
CORE = PATCH - 2 * HALO
"""Side of what is kept of a patch; cores tile the frame."""
CLEAR, CLOUD, THIN_CLOUD, SHADOW, NOTHING = 0, 1, 2, 3, 255
"""Codes: the package's classes, and ours for no data."""
CLASSES = 4
RANGE_M = (5.0, 50.0)
"""Metres of a pixel for which the package was made."""
KEPT_MB = 96
"""Finished cores kept by one reader: half a MiB each."""
THREADS = 1
"""Cores of a forward: the others are the model's."""
REFUSALS = ("mask.unavailable", "mask.changed", "mask.network", "mask.resolution")
"""Codes of what no other scene makes good."""

Bands = Callable[[Window], tuple[NDArray[np.generic], NDArray[np.bool_]]]
"""(3, h, w) red, green, nir of a window of the frame, and where they are valid."""


class Classifier:
    """Codes for windows of one frame. Thread-safe; each core is made once while it is kept."""

    def __init__(self, mask: SourceMask) -> None:
        """Of the networks that a mask names; opens none yet. Raises ImageryError (``mask.unavailable``)."""
        self._networks = expect(mask)
        self._opened: list[Predictor] = []
        self._cores: dict[tuple[str, int, int], Future[NDArray[np.uint8]]] = {}
        self._lock, self._forward = threading.Lock(), threading.Lock()

    def codes(self, scene: str, window: Window, bands: Bands) -> NDArray[np.uint8]:
        """(h, w) code of each pixel of a window. Raises what ``bands`` raises, and ImageryError (``mask.…``)."""
        found = np.full((window.height, window.width), NOTHING, np.uint8)
        for row, col in _cells(window):
            core = Window(row * CORE, col * CORE, CORE, CORE)
            shared = core.intersection(window)
            assert shared is not None
            found[shared.within(window)] = self._core((scene, row, col), bands)[shared.within(core)]
        return found

    def missing(self, scene: str, window: Window) -> Iterator[Window]:
        """Patches that ``codes`` would have to look at."""
        for row, col in _cells(window):
            if (scene, row, col) not in self._cores:
                yield patch_of(row, col)

    def _core(self, key: tuple[str, int, int], bands: Bands) -> NDArray[np.uint8]:
        """Made by whoever asks first; others wait for it. What failed is tried again by the next."""
        with self._lock:
            found = self._cores.pop(key, None)
            mine = found is None
            found = found or Future()
            self._cores[key] = found  # the last used is the last
            while len(self._cores) > KEPT_MB * (1 << 20) // CORE**2:
                self._cores.pop(next(iter(self._cores)))
        if mine:
            try:
                found.set_result(self._look(*bands(patch_of(key[1], key[2]))))
            except BaseException as error:  # noqa: BLE001  it is raised below, here and to all that wait
                with self._lock:
                    self._cores.pop(key, None)
                found.set_exception(error)
        return found.result()

    def _look(self, data: NDArray[np.generic], valid: NDArray[np.bool_]) -> NDArray[np.uint8]:
        """(CORE, CORE) codes of a patch."""
        middle = slice(HALO, HALO + CORE)
        whole = np.logical_and.reduce(valid, axis=0)[middle, middle]
        found = np.full((CORE, CORE), NOTHING, np.uint8)
        if whole.any():
            logits = self._logits(normalised(data, valid)[None, None])[:, middle, middle]
            found[whole] = logits.argmax(axis=0).astype(np.uint8)[whole]
        return found

    def _logits(self, tile: NDArray[np.float32]) -> NDArray[np.float32]:
        """(4, PATCH, PATCH) mean over the networks, in their order."""
        with self._forward:
            try:
                self._opened = self._opened or [_opened(network) for network in self._networks]
                total = np.zeros((CLASSES, PATCH, PATCH), np.float32)
                for network in self._opened:
                    total += network(tile.reshape(1, 3, PATCH, PATCH))[0]
            except ModelError as error:
                raise ImageryError(f"OmniCloudMask: {error.detail}", code="mask.network", hint=_HINT) from error
            return total / np.float32(len(self._opened))


def normalised(data: NDArray[np.generic], valid: NDArray[np.bool_]) -> NDArray[np.float32]:
    """(C, h, w) float32: each band with mean 0 and standard deviation 1 over its valid pixels, 0 where it is not."""
    out = np.zeros(data.shape, np.float32)
    for band, seen, into in zip(data, valid, out, strict=True):
        numbers = band[seen].astype(np.float64)
        if numbers.size:
            into[seen] = (numbers - numbers.mean()) / (numbers.std() or 1.0)
    return out


def patch_of(row: int, col: int) -> Window:
    """What is looked at for the core (row, col) of the frame."""
    return Window(row * CORE - HALO, col * CORE - HALO, PATCH, PATCH)


def _cells(window: Window) -> Iterator[tuple[int, int]]:
    for row in range(window.row // CORE, -(-window.bottom // CORE)):
        for col in range(window.col // CORE, -(-window.right // CORE)):
            yield row, col


# --- the networks -----------------------------------------------------------------------------------------------------

_HINT = (
    "export its networks once to ONNX for patches of 1024 x 1024 pixels, put the files beside the source card and name "
    "them there under mask.networks: docs/sources.md shows how; or take a source with a mask of its own"
)


def expect(mask: SourceMask) -> tuple[Weights, ...]:
    """The networks that a mask names. Raises ImageryError (``mask.unavailable``) where there is none."""
    if not mask.networks:
        raise ImageryError(
            "the source's mask is to be made by OmniCloudMask, and its card names no networks",
            code="mask.unavailable",
            hint=_HINT,
            field="mask.networks",
        )
    for network in mask.networks:
        if not Path(network.uri).is_file():
            raise ImageryError(
                f"OmniCloudMask: {network.uri} is not on this machine",
                code="mask.unavailable",
                hint=_HINT,
                field="mask.networks",
            )
    return mask.networks


def settled(mask: SourceMask) -> SourceMask:
    """With the hash of every network, so that all workers use the same and a result can say which.

    Raises ImageryError: ``mask.unavailable``, ``mask.changed`` for a file that is not the one whose hash was given.
    """
    return mask.model_copy(update={"networks": tuple(_hashed(network) for network in expect(mask))})


def expect_resolution(ground_m: tuple[float, float]) -> None:
    """Refuse pixels that the networks were not made for. Raises ImageryError (``mask.resolution``)."""
    low, high = RANGE_M
    if min(ground_m) < low * 0.99 or max(ground_m) > high * 1.01:
        raise ImageryError(
            f"OmniCloudMask is made for pixels of {low:g} to {high:g} m, these are of {max(ground_m):.3g} m",
            code="mask.resolution",
            hint="say --res 10, or take a source with a mask of its own",
            field="--res",
        )


def _hashed(network: Weights) -> Weights:
    from models.weights import sha256_of

    found = sha256_of(Path(network.uri))
    if network.sha256 not in (None, found):
        raise ImageryError(
            f"OmniCloudMask: {network.uri} is not the file that was meant: its sha256 is {found}",
            code="mask.changed",
            hint="put the right file there, or correct mask.networks in the source card",
            field="mask.networks",
        )
    return network.model_copy(update={"sha256": found})


def _opened(network: Weights) -> Predictor:
    from models.runtimes import Setup, open_graph

    checked = _hashed(network)
    setup = Setup((1, 3, PATCH, PATCH), (1, CLASSES, PATCH, PATCH), THREADS, sha256=checked.sha256 or "")
    return open_graph("openvino", Path(network.uri), setup)
