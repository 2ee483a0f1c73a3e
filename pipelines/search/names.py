"""What names of image files tell: the product they belong to, when it was acquired, and which band they hold."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from pathlib import PurePath

_PRODUCTS = (
    re.compile(r"T\d{2}[A-Z]{3}_\d{8}T\d{6}"),  # Sentinel-2: T33UXP_20240725T100031
    re.compile(r"L[COTEM]0\d_L\d[A-Z]{2}_\d{6}_\d{8}_\d{8}_\d{2}_[A-Z0-9]{2}"),  # Landsat Collection 2
    re.compile(r"HLS\.[SL]30\.T\d{2}[A-Z]{3}\.\d{7}T\d{6}\.v\d\.\d"),  # HLS
)
_EDGE = r"(?<![0-9])"
_END = r"(?![0-9])"
_TIMES = (
    (re.compile(_EDGE + r"(\d{4})(\d{2})(\d{2})T(\d{2})(\d{2})(\d{2})" + _END), "ymdhms"),
    (re.compile(_EDGE + r"(\d{4})(\d{3})T(\d{2})(\d{2})(\d{2})" + _END), "yjhms"),
    (re.compile(_EDGE + r"(\d{4})-(\d{2})-(\d{2})T(\d{2})[:-]?(\d{2})[:-]?(\d{2})"), "ymdhms"),
    (re.compile(_EDGE + r"(\d{4})-(\d{2})-(\d{2})" + _END), "ymd"),
    (re.compile(_EDGE + r"((?:19|20)\d{2})(0\d|1[0-2])([0-3]\d)" + _END), "ymd"),
)
_METRES = re.compile(r"(\d{1,3})m", re.IGNORECASE)


def words(text: str) -> list[str]:
    """Lower-case words of a name, parted at whatever is no letter or digit."""
    return [word.lower() for word in re.split(r"[^A-Za-z0-9]+", text) if word]


def time_in(path: PurePath) -> datetime | None:
    """The first time in a file's name, else in its folders', the innermost first; None where there is none.

    Of a Landsat name that is the acquisition, of a Sentinel-2 name the start of sensing; both come first.
    """
    for text in (path.stem, *(parent.name for parent in path.parents)):
        for pattern, order in _TIMES:
            for match in pattern.finditer(text):
                found = _moment(order, [int(group) for group in match.groups()])
                if found is not None:
                    return found
    return None


def _moment(order: str, numbers: list[int]) -> datetime | None:
    part = dict(zip(order, numbers, strict=True))
    try:
        if "j" in part:
            return datetime(part["y"], 1, 1, part["h"], part["m"], part["s"], tzinfo=UTC) + timedelta(part["j"] - 1)
        month, minute = numbers[1], numbers[4] if len(order) > 3 else 0  # noqa: PLR2004  the letter m stands twice
        return datetime(part["y"], month, part["d"], part.get("h", 0), minute, part.get("s", 0), tzinfo=UTC)
    except ValueError:
        return None


def band_in(stem: str, assets: dict[str, list[str]]) -> str | None:
    """Which asset a file is: the one whose words stand in its name last; None where none does.

    ``assets`` maps keys to their words, e.g. ``QA_PIXEL`` to qa, pixel. Of two that end at one word the longer wins.
    """
    said = words(stem)
    best: tuple[int, int, str] | None = None
    for key, wanted in assets.items():
        for end in range(len(said), len(wanted) - 1, -1):
            if said[end - len(wanted) : end] == wanted:
                best = max(best or (0, 0, ""), (end, len(wanted), key))
                break
    return best[2] if best else None


def product_in(stem: str, band: str | None) -> str:
    """What all files of one scene have in common in their names: the product's id, or the name without its band."""
    for pattern in _PRODUCTS:
        if match := pattern.search(stem):
            return match[0]
    if band is None:
        return stem
    rest = re.sub(rf"(?i)(?:^|[^A-Za-z0-9]+){re.escape(band)}(?=$|[^A-Za-z0-9])", "", stem)
    return re.sub(r"(?i)[^A-Za-z0-9]+\d{1,3}m$", "", rest) or stem


def metres_in(path: PurePath) -> int:
    """Resolution that a name tells (``_10m``, folder ``R20m``); 0 where it tells none."""
    for text in (path.stem, path.parent.name):
        for word in reversed(words(text)):
            if match := _METRES.fullmatch(word.removeprefix("r")):
                return int(match[1])
    return 0
