"""The step ``processor``: a user's script over the result, in the sandbox."""

from __future__ import annotations

import hashlib
import json
import shutil
import stat
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pipelines.sandbox.bounds import Bounds
from pipelines.sandbox.command import IN, OUT, Inside
from pipelines.sandbox.execute import Ended, execute
from pipelines.sandbox.isolation import Isolation, isolation
from pipelines.steps.produced import STEM, codes_beside, found_in, looked_at, publish
from pipelines.steps.script import Call, call_of, check_parameters, check_script, flags, last_json
from pipelines.steps.treatment import Bench, Made
from pipelines.store.scratch import scratch
from swathe.errors import InputError, LimitError, ModelError, SwatheError
from swathe.recipe import ProcessorWish

NAME = "processor"
STOPPED = 177
"""Exit code by which a script says that it stopped on purpose."""
_CPU = 128 + 24
_BOUNDS = {
    "time": "ran longer than {0.seconds:g} s",
    "memory": "took more than {0.memory_mb:,} MB of memory",
    "output": "wrote more than {0.output_mb:,} MB",
    "files": "made more than {0.files:,} files, or some that cannot be counted",
    "processes": "started more than {0.processes:,} processes and threads",
    "said": "printed more than {0.said_mb:,} MB",
}


@dataclass(frozen=True, slots=True)
class Processor:
    """A treatment (``pipelines.steps.treatment``)."""

    title: str
    """As its user calls it."""
    content: bytes
    """The script."""
    parameters: Mapping[str, Any] = field(default_factory=dict)
    """For it."""
    call: Call = Call.POSITIONAL
    """How it is called."""
    bounds: Bounds = field(default=Bounds())
    """What it may take."""
    about: Mapping[str, str] = field(default_factory=dict)
    """More for the record, e.g. its id."""

    @classmethod
    def of(cls, wish: ProcessorWish, bounds: Bounds | None = None) -> Processor:
        """From a script on this machine. Raises InputError and its kin (``processor.*``)."""
        path = Path(wish.script)
        content = wish.content or _read(path)
        check_script(path.name, content)
        form = call_of(content, wish.call)
        check_parameters(wish.parameters, form)
        return cls(wish.title or path.name, content, wish.parameters, form, bounds or Bounds(), wish.about)

    @property
    def name(self) -> str:
        """See the protocol."""
        return NAME

    @property
    def key(self) -> str:
        """Of script and parameters."""
        facts = [hashlib.sha256(self.content).hexdigest(), dict(self.parameters), self.call.value]
        return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()

    def carry_out(self, bench: Bench) -> Made:
        """Run it, look at what it wrote, and publish that.

        Raises ConflictError (``processor.isolation``), LimitError (``processor.time``, …), ModelError
        (``processor.failed``, ``.stopped``), ImageryError and GridError for what it wrote.
        """
        found = isolation()
        bench.note(processor=self.title, call=self.call.value, isolation=found.as_dict(), **self.about)
        bench.say(f"isolation {found.level}: {found.detail}")
        with scratch() as room:
            ended = self._run(bench, found, room)
            facts = {"exit_code": ended.code, "seconds": ended.seconds, "peak_mb": ended.peak_mb}
            bench.note(**facts, result=last_json(ended.last))
            self._check(ended)
            return self._published(bench, room)

    def _run(self, bench: Bench, found: Isolation, room: Path) -> Ended:
        walls = found.required()
        out = room / "out"
        out.mkdir()
        given = {bench.raster: _readable(bench.out / bench.raster, room)}
        for name, content in (("script.py", self.content), ("params.json", json.dumps(dict(self.parameters)).encode())):
            given[name] = room / name
            given[name].write_bytes(content)
            given[name].chmod(0o644)
        inside = Inside(given, out, (f"{IN}/script.py", *self._arguments(bench.raster)), self.bounds)
        bench.say(f"script.py {' '.join(inside.arguments[1:])}"[:1000])
        return execute(inside, walls, bench.say, bench.check)

    def _arguments(self, raster: str) -> tuple[str, ...]:
        if self.call is Call.FLAGS:
            return (*flags(self.parameters), "--input", f"{IN}/{raster}", "--output", OUT)
        told = json.dumps(dict(self.parameters)) if self.call is Call.TEXT else f"{IN}/params.json"
        return (f"{IN}/{raster}", f"{OUT}/output.tif", told)

    def _check(self, ended: Ended) -> None:
        if ended.stopped:
            raise LimitError(f"the script {_BOUNDS[ended.stopped].format(self.bounds)} and was stopped",
                             code=f"processor.{ended.stopped}", hint="see its log; do less at a time")  # fmt: skip
        if ended.code == _CPU:
            raise LimitError(f"the script took more than {self.bounds.cpu_s:,} s of processor time and was stopped",
                             code="processor.cpu", hint="see its log; do less")  # fmt: skip
        if ended.code == STOPPED:
            raise ModelError("the script says that it stopped (exit code 177)", code="processor.stopped",
                             hint="see its log")  # fmt: skip
        if ended.code:
            raise ModelError(f"the script ended with exit code {ended.code}", code="processor.failed",
                             hint="see its log; it ends with 0 where all went well")  # fmt: skip

    def _published(self, bench: Bench, room: Path) -> Made:
        """What it wrote, alone in a folder that no side file of its own reaches."""
        alone = room / "alone"
        alone.mkdir()
        path = alone / "output.tif"
        found_in(room / "out").rename(path)
        path.chmod(0o600)
        try:
            codes = codes_beside(bench.out / bench.raster, bench.layer)
            told = publish(looked_at(path, bench.plan), bench.plan, bench.layer, bench.out, bench.check, codes)
        except SwatheError as error:
            error.detail = error.detail.replace(str(alone), "").replace(str(room), "")
            raise
        beside = (f"{STEM}.tif", f"{STEM}.tif.aux.xml", f"{STEM}.qml")
        return Made(tuple(n for n in beside if (bench.out / n).exists()), f"{STEM}.tif", {"raster": told})


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror}", code="processor.file", field="--processor",
                         hint="give the path of a Python script") from None  # fmt: skip


def _readable(path: Path, room: Path) -> Path:
    """The file itself where everybody may read it, else a copy: who runs the script is not who made the result."""
    if path.stat().st_mode & stat.S_IROTH:
        return path
    copied = room / "input.tif"
    shutil.copyfile(path, copied)
    copied.chmod(0o644)
    return copied
