"""Attempts to get out of the sandbox. Each succeeds outside it, as a control; inside, by either way, each fails.

All attempts of a way run in one sandbox, each in a process of its own, and are bounded: none hurts this machine.
"""

import contextlib
import json
import os
import platform
import socket
import sqlite3
import stat
import subprocess
import sys
import tempfile
import threading
import time
from dataclasses import replace
from pathlib import Path

import pytest

from pipelines.sandbox.bounds import Bounds
from pipelines.sandbox.command import IN, Inside, Walls
from pipelines.sandbox.execute import execute
from pipelines.sandbox.filter import program
from pipelines.sandbox.isolation import isolation, probe
from pipelines.steps.produced import found_in
from pipelines.store.scratch import scratch
from swathe.errors import ConflictError, ImageryError, Interrupted

FOUND = isolation()
pytestmark = pytest.mark.skipif(FOUND.walls is None, reason=f"no sandbox here: {FOUND.detail}")
WAYS = ("root", "user") if os.geteuid() == 0 else ("user",)
BOUNDS = Bounds(seconds=100, memory_mb=700, output_mb=16, processes=40, scratch_mb=16)

ATTEMPTS = r"""
import ctypes, json, os, socket, sqlite3, sys, time
told = json.loads(sys.argv[1])
call = ctypes.CDLL(None, use_errno=True)

def environment():
    return "SWATHE_SECRET" in os.environ

def environment_of_others():
    for name in os.listdir("/proc"):
        if name.isdigit():
            try:
                if b"SWATHE_SECRET" in open(f"/proc/{name}/environ", "rb").read():
                    return True
            except OSError:
                pass
    return False

def see_processes():
    said = [open(f"/proc/{n}/cmdline", "rb").read() for n in os.listdir("/proc") if n.isdigit()]
    return any(b"pytest" in line and b"attempts.py" not in line for line in said)  # its own has the paths it was told

def read_a_file():
    return "secret" in open(told["secret"]).read()

def read_by_proc_root():
    return "secret" in open(f"/proc/{told['sleeper']}/root" + told["secret"]).read()

def read_the_database():
    return bool(sqlite3.connect(f"file:{told['database']}?mode=ro", uri=True).execute("select * from t").fetchall())

def list_a_home():
    return os.path.basename(told["secret"]) in os.listdir(os.path.dirname(told["secret"]))

def reach_the_network():
    socket.create_connection(("127.0.0.1", told["port"]), 3).close()
    return True

def reach_an_abstract_socket():
    s = socket.socket(socket.AF_UNIX)
    s.connect("\0" + told["abstract"])
    return True

def send_packets():
    socket.socket(socket.AF_INET, socket.SOCK_DGRAM).sendto(b"x", ("127.0.0.1", told["port"]))
    return True

def write_outside():
    open(told["writable"] + "/mark", "w").write("x")
    return os.path.exists(told["writable"] + "/mark")

def change_the_input():
    with open(told["input"], "r+") as file:
        file.write("X")
    return True

def link_to_a_secret():
    os.symlink(told["secret"], told["out"] + "/output.tif")
    return "secret" in open(told["out"] + "/output.tif").read()

def hard_link_to_a_secret():
    os.link(told["secret"], told["out"] + "/hard.tif")
    return True

def signal_a_process():
    os.kill(told["sleeper"], 10)
    return True

def trace():
    if call.ptrace(0, 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno())
    return True

def read_memory_of_another():
    buffer = ctypes.create_string_buffer(8)
    class Vec(ctypes.Structure):
        _fields_ = [("base", ctypes.c_void_p), ("len", ctypes.c_size_t)]
    here = Vec(ctypes.addressof(buffer), 8)
    source = ctypes.create_string_buffer(b"abcdefg")
    there = Vec(ctypes.addressof(source), 8)
    return call.process_vm_readv(os.getpid(), ctypes.byref(here), 1, ctypes.byref(there), 1, 0) == 8

def new_namespace():
    if call.unshare(0x10000000 | 0x00020000) != 0:
        raise OSError(ctypes.get_errno())
    return True

def take_memory():
    kept = b"1" * (900 << 20)
    return len(kept) > 0

def fill_the_disk():
    with open(told["out"] + "/big", "wb") as file:
        file.write(bytes(24 << 20))
    os.remove(told["out"] + "/big")
    return True

def fill_tmp():
    path = told["tmp"] + "/swathe-fill"
    with open(path, "wb") as file:
        file.write(bytes(12 << 20))
    with open(path + "2", "wb") as file:
        file.write(bytes(12 << 20))
    os.remove(path)
    os.remove(path + "2")
    return True

def fill_shm():
    for name in ("a", "b"):
        with open(told["shm"] + "/swathe-fill" + name, "wb") as file:
            file.write(bytes(12 << 20))
    for name in ("a", "b"):
        os.remove(told["shm"] + "/swathe-fill" + name)
    return True

def memory_in_a_file():
    held = [os.memfd_create(f"m{i}") for i in range(4)]
    for one in held:
        os.write(one, bytes(1 << 20))
    return len(held) == 4

def memory_in_a_secret_file():
    if call.syscall(447, 0) < 0:
        raise OSError(ctypes.get_errno())
    return True

def memory_in_a_segment():
    id_ = call.shmget(0, ctypes.c_size_t(4 << 20), 0o1600)
    if id_ < 0:
        raise OSError(ctypes.get_errno())
    return call.shmctl(id_, 0, None) == 0

def memory_in_a_queue():
    id_ = call.msgget(0, 0o1600)
    if id_ < 0:
        raise OSError(ctypes.get_errno())
    return call.msgctl(id_, 0, None) == 0

def memory_in_semaphores():
    id_ = call.semget(0, 200, 0o1600)
    if id_ < 0:
        raise OSError(ctypes.get_errno())
    return call.semctl(id_, 0, 0) == 0

def memory_in_a_pipe():
    class Vec(ctypes.Structure):
        _fields_ = [("base", ctypes.c_void_p), ("len", ctypes.c_size_t)]
    lent = ctypes.create_string_buffer(4096)
    _, writer = os.pipe()
    return call.vmsplice(writer, ctypes.byref(Vec(ctypes.addressof(lent), 4096)), ctypes.c_size_t(1), 0) == 4096

def a_file_in_a_message():
    a, b = socket.socketpair()
    with open(told["out"] + "/sent", "w") as file:
        os.remove(told["out"] + "/sent")
        socket.send_fds(a, [b"x"], [file.fileno()])
    return True

# --- those that a bound ends, with all that runs there: each alone, and held until somebody looks

def hold():
    time.sleep(told["hold"])
    return True

def nameless(name, write=True):
    # A file of 15 MB that lies in no folder any more; of its own name, for an attempt before may not be over yet.
    file = open(f"{told['out']}/{os.getpid()}-{name}", "w+b")
    os.remove(file.name)
    if write:
        file.write(b"1" * (15 << 20))
        file.flush()
    return file

def fill_the_disk_unseen():
    kept = [nameless(str(i)) for i in range(8)]
    return hold()

def fill_the_disk_behind_a_thread():
    # The first thread of a process ends, and its folder of /proc tells of no descriptors.
    import threading
    if os.fork() == 0:
        threading.Thread(target=fill_the_disk_unseen).start()
        time.sleep(0.3)
        call.syscall({"x86_64": 60, "aarch64": 93}[os.uname().machine], 0)
    return hold()

def fill_the_disk_by_a_map():
    import mmap
    call.mmap.restype = ctypes.c_void_p
    for i in range(8):
        with nameless(str(i)) as file:  # mmap.mmap would keep a descriptor
            call.mmap(None, ctypes.c_size_t(4096), 1, 1, file.fileno(), ctypes.c_long(0))
    return hold()

def fill_the_disk_in_hiding():
    # A program that cannot be read cannot be looked at either, but by root.
    call.prctl(4, 0, 0, 0, 0)
    kept = [nameless(str(i)) for i in range(8)]
    return hold()

def hide_the_output():
    os.mkdir(told["out"] + "/hidden")
    os.chdir(told["out"] + "/hidden")
    os.chmod(".", 0o300)
    try:
        for i in range(8):
            with open(str(i), "wb") as file:
                file.write(b"1" * (15 << 20))
        return hold()
    finally:
        if not told["hold"]:
            os.chmod(".", 0o700)

def hide_names():
    # What may be listed but not entered tells no sizes.
    os.mkdir(told["out"] + "/listed")
    kept = [open(f"{told['out']}/listed/{i}", "wb") for i in range(8)]
    os.chmod(told["out"] + "/listed", 0o400)
    try:
        for file in kept:
            file.write(b"1" * (15 << 20))
        return hold()
    finally:
        if not told["hold"]:
            os.chmod(told["out"] + "/listed", 0o700)

def hide_in_depth():
    os.chdir(told["out"])
    for _ in range(30):
        os.mkdir("d" * 200)
        os.chdir("d" * 200)
    with open("deep", "wb") as file:
        file.write(b"1" * (15 << 20))
    return hold()

def take_memory_behind_a_thread():
    import threading
    def take():
        time.sleep(0.6)
        kept = b"1" * (600 << 20)
        hold()
    for _ in range(2):
        if os.fork() == 0:
            threading.Thread(target=take).start()
            time.sleep(0.3)
            call.syscall({"x86_64": 60, "aarch64": 93}[os.uname().machine], 0)
    return hold()

def fork_bomb():
    children = []
    try:
        for _ in range(80):
            pid = os.fork()
            if pid == 0:
                time.sleep(60)
                os._exit(0)
            children.append(pid)
        return hold()
    except OSError:
        return not hold()
    finally:
        for pid in children:
            os.kill(pid, 9)
            os.waitpid(pid, 0)

def attempt(name):
    reader, writer = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            done = b"1" if globals()[name]() else b"0"
        except BaseException as error:
            done = b"0"
        os.write(writer, done)
        os._exit(0)
    os.close(writer)
    answer = os.read(reader, 1)
    os.waitpid(pid, 0)
    return answer == b"1"

print(json.dumps({name: attempt(name) for name in told["attempts"]}))
"""
NAMES = (
    "environment", "environment_of_others", "see_processes", "read_a_file", "read_by_proc_root", "read_the_database",
    "list_a_home", "reach_the_network", "reach_an_abstract_socket", "send_packets", "write_outside", "change_the_input",
    "link_to_a_secret", "hard_link_to_a_secret", "signal_a_process", "trace", "read_memory_of_another", "new_namespace",
    "take_memory", "fill_the_disk", "fill_tmp", "fill_shm", "memory_in_a_file", "memory_in_a_secret_file",
    "memory_in_a_segment", "memory_in_a_queue", "memory_in_semaphores", "memory_in_a_pipe", "a_file_in_a_message",
)  # fmt: skip
ALONE = {
    "fill_the_disk_unseen": "output", "fill_the_disk_behind_a_thread": "output", "fill_the_disk_by_a_map": "files",
    "fill_the_disk_in_hiding": "output", "hide_the_output": "output", "hide_names": "output", "hide_in_depth": "files",
    "take_memory_behind_a_thread": "memory", "fork_bomb": "processes",
}  # fmt: skip
"""Attempts that a bound ends -> which one, where root looks."""
CLOSED = ("fill_the_disk_in_hiding", "hide_the_output", "hide_names")
"""Those that root sees through; anybody else sees that something is hidden."""
AS_ROOT_ONLY = ("new_namespace", "read_by_proc_root")
"""What an ordinary user may not do outside either, on some machines."""
NOT_EVERYWHERE = ("memory_in_a_secret_file",)
"""What a kernel may be built without."""


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    """Things worth stealing, and a listening server."""
    folder = tmp_path_factory.mktemp("world")
    folder.chmod(0o755)
    (folder / "secret.txt").write_text("secret")
    writable = folder / "writable"
    writable.mkdir()
    writable.chmod(0o777)
    (folder / "attempts.py").write_text(ATTEMPTS)
    base = sqlite3.connect(folder / "base.sqlite")
    base.execute("create table t (x)")
    base.execute("insert into t values (1)")
    base.commit()
    base.close()
    server, abstract = socket.create_server(("127.0.0.1", 0)), socket.socket(socket.AF_UNIX)
    abstract.bind(f"\0swathe-{os.getpid()}")
    for one in (server, abstract):
        one.listen(16)
    # deaf to signal 10, so that it can tell of it by living on
    sleeper = subprocess.Popen(["/bin/sh", "-c", "trap '' 10; sleep 300"])
    yield folder, {
        "secret": str(folder / "secret.txt"), "database": str(folder / "base.sqlite"), "writable": str(writable),
        "port": server.getsockname()[1], "abstract": f"swathe-{os.getpid()}", "sleeper": sleeper.pid,
    }  # fmt: skip
    sleeper.kill()
    sleeper.wait()
    server.close()
    abstract.close()


@pytest.fixture(scope="module")
def outside(world):
    """The control: the same program, run as anybody runs a program."""
    folder, told = world
    (folder / "control").mkdir()
    (folder / "input.txt").write_text("input")
    told = {**told, "out": str(folder / "control"), "tmp": str(folder / "control"), "shm": str(folder / "control"),
            "input": str(folder / "input.txt"), "hold": 0, "attempts": [*NAMES, *ALONE]}  # fmt: skip
    done = subprocess.run(
        [sys.executable, str(folder / "attempts.py"), json.dumps(told)], capture_output=True, text=True, check=True,
        env={**os.environ, "SWATHE_SECRET": "1"}, timeout=100,
    )  # fmt: skip
    (folder / "writable" / "mark").unlink()
    return json.loads(done.stdout)


@pytest.fixture(scope="module", params=WAYS)
def inside(request, world, tmp_path_factory):
    folder, told = world
    out, given = tmp_path_factory.mktemp("out"), folder / "given.txt"
    given.write_text("input")
    os.environ["SWATHE_SECRET"] = "1"
    told = {**told, "out": "/out", "tmp": "/tmp", "shm": "/dev/shm", "input": f"{IN}/given.txt", "hold": 0,
            "attempts": NAMES}  # fmt: skip
    wanted = Inside({"attempts.py": folder / "attempts.py", "given.txt": given}, out,
                    (f"{IN}/attempts.py", json.dumps(told)), BOUNDS)  # fmt: skip
    said = []
    try:
        ended = execute(wanted, Walls(request.param), said.append, lambda: None)
    finally:
        del os.environ["SWATHE_SECRET"]
    assert (ended.stopped, ended.last != "") == ("", True), (ended, said)
    assert given.read_text() == "input"
    assert not list((folder / "writable").iterdir())
    return json.loads(ended.last), out


@pytest.mark.parametrize("name", [*NAMES, *ALONE])
def test_outside_the_attempt_succeeds(outside, name):
    if name in AS_ROOT_ONLY and os.geteuid() != 0:
        pytest.skip("an ordinary user cannot do this outside either")
    if name in NOT_EVERYWHERE and not outside[name]:
        pytest.skip("this kernel does not have it")
    assert outside[name], f"{name} is no control: it fails outside as well"


@pytest.mark.parametrize("name", NAMES)
def test_inside_it_fails(inside, name):
    assert inside[0][name] is False


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("name", ALONE)
def test_a_bound_ends_it(world, tmp_path, name, way):
    folder, told = world
    told = {**told, "out": "/out", "tmp": "/tmp", "hold": 60, "attempts": [name]}
    with scratch(tmp_path / "scratch") as room:
        (room / "out").mkdir()
        wanted = Inside({"attempts.py": folder / "attempts.py"}, room / "out",
                        (f"{IN}/attempts.py", json.dumps(told)), replace(BOUNDS, seconds=50))  # fmt: skip
        ended = execute(wanted, Walls(way), lambda _: None, lambda: None)
    assert ended.stopped == ("files" if name in CLOSED and os.geteuid() != 0 else ALONE[name])
    assert not list((tmp_path / "scratch").iterdir())


CLOSED_TO_OTHERS = [one for one in Path(__file__).parents if not one.stat().st_mode & stat.S_IXOTH]


@pytest.mark.slow
@pytest.mark.skipif(os.geteuid() != 0, reason="this is one")
@pytest.mark.skipif(bool(CLOSED_TO_OTHERS), reason=f"nobody else may enter {CLOSED_TO_OTHERS[:1]}")
def test_all_of_it_holds_for_an_ordinary_user():
    """The same tests by somebody who is not root, as in the image that we ship: what root sees through others do not.

    An interpreter below the home of root is shown to them where it is, in a mount namespace of their own.
    """
    root = Path(sys.executable).resolve().parent.parent
    hidden = [str(one) for one in reversed(root.parents) if one.is_relative_to("/root")]
    shown = [word for one in hidden for word in ("--perms", "0755", "--tmpfs" if one == "/root" else "--dir", one)]
    shown += ["--ro-bind", str(root), str(root)]
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as room:
        Path(room).chmod(0o777)
        done = subprocess.run(
            ["bwrap", "--dev-bind", "/", "/", *(shown if hidden else []), "--cap-add", "ALL", "--",
             "setpriv", "--reuid", "1000", "--regid", "1000", "--clear-groups",
             sys.executable, "-B", "-m", "pytest", __file__, "-q", "-p", "no:cacheprovider", "--basetemp",
             f"{room}/ordinary"],
            capture_output=True, text=True, cwd=Path(__file__).parents[2], timeout=280, check=False,
        )  # fmt: skip
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-1000:]
    assert "passed" in done.stdout


def test_numbers_are_crunched_as_ever(tmp_path):
    """What the filter refuses is missed by none of the libraries that scripts are written with."""
    script, out = tmp_path / "script.py", tmp_path / "out"
    out.mkdir()
    script.write_text(LIBRARIES)
    said = []
    ended = execute(Inside({"s.py": script}, out, (f"{IN}/s.py",), Bounds(seconds=200, memory_mb=4096)), Walls(WAYS[0]),
                    said.append, lambda: None)  # fmt: skip
    assert (ended.code, ended.stopped, ended.last.strip()) == (0, "", "285"), said


LIBRARIES = """
import asyncio, mmap, multiprocessing, os, sqlite3, subprocess, tempfile
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
import numpy as np, rasterio, torch
from scipy import ndimage

def squared(n):
    return n * n

async def slept():
    return await asyncio.to_thread(squared, 0)

if __name__ == "__main__":
    nobody_waits = subprocess.Popen(["/bin/true"])
    shared, kept = mmap.mmap(-1, 1 << 20), np.memmap(tempfile.TemporaryFile(dir="."), np.uint8, "w+", shape=(1 << 20,))
    counter = multiprocessing.RawArray("i", 10)
    with rasterio.open("a.tif", "w", driver="GTiff", width=64, height=64, count=1, dtype="uint8") as file:
        file.write(np.ones((1, 64, 64), "uint8"))
    os.replace("a.tif", "b.tif")
    assert ndimage.label(np.eye(64))[1] == 64
    assert float((torch.ones(64, 64) @ torch.ones(64, 64)).sum()) == 64 ** 3
    asyncio.run(slept())
    sqlite3.connect("a.sqlite").execute("create table t (x)")
    with ProcessPoolExecutor(2) as pool, ThreadPoolExecutor(2) as threads:
        print(sum(pool.map(squared, range(10))) * 1 + sum(threads.map(int, range(1))))
"""


def test_nobody_outside_was_harmed(inside, world):
    os.kill(world[1]["sleeper"], 0)
    assert not any(p.is_symlink() for p in inside[1].iterdir())


# --- links in the output, wherever Landlock does not keep them from being made ---------------------------------------


@pytest.mark.parametrize("kind", ["link", "pipe", "folder"])
def test_what_is_no_file_is_not_read(tmp_path, kind):
    (tmp_path / "secret.tif").write_text("secret")
    out = tmp_path / "out"
    out.mkdir()
    make = {"link": lambda p: p.symlink_to(tmp_path / "secret.tif"), "pipe": os.mkfifo, "folder": os.mkdir}[kind]
    make(out / "output.tif")
    with pytest.raises(ImageryError) as caught:
        found_in(out)
    assert caught.value.problem.code == "processor.file"


# --- bounds by the clock ---------------------------------------------------------------------------------------------


def run(tmp_path, text, check=lambda: None, way=WAYS[0], **bounds):
    script, out = tmp_path / "script.py", tmp_path / "out"
    script.write_text(text)
    out.mkdir()
    return execute(Inside({"s.py": script}, out, (f"{IN}/s.py",), Bounds(**bounds)), Walls(way), lambda _: None, check)


def test_a_program_that_hangs_is_ended_with_its_children(tmp_path):
    marker = f"3{os.getpid()}"
    ended = run(tmp_path, f"import os\nfor _ in range(3): os.fork()\nos.execv('/bin/sleep', ['sleep', '{marker}'])",
                seconds=3)  # fmt: skip
    assert ended.stopped == "time"
    assert ended.seconds < 60
    time.sleep(0.5)
    assert marker not in subprocess.run(["ps", "ax", "-o", "args"], capture_output=True, text=True, check=True).stdout


def test_many_processes_together_are_bounded_in_memory(tmp_path):
    ended = run(tmp_path, "import os, time\nfor _ in range(3): os.fork()\nx = b'1' * (100 << 20)\ntime.sleep(60)",
                seconds=60, memory_mb=400)  # fmt: skip
    assert ended.stopped == "memory"


def test_a_stop_ends_it(tmp_path):
    asked = threading.Event()

    def check():
        if asked.is_set():
            raise Interrupted("stop")
        asked.set()

    started = time.monotonic()
    with contextlib.suppress(Interrupted):
        run(tmp_path, "import time; time.sleep(120)", check, seconds=100)
        pytest.fail("it ran on")
    assert time.monotonic() - started < 60


# --- what is said of it ----------------------------------------------------------------------------------------------


def test_the_walls_are_tried_out_one_by_one():
    assert FOUND.level in ("full", "namespaces")
    bare = probe(Walls(WAYS[0], seccomp=False, landlock=False))
    assert bare.level == "namespaces"
    assert "no seccomp, no Landlock" in bare.detail


def test_a_machine_that_cannot_is_told_so(monkeypatch):
    monkeypatch.setattr("pipelines.sandbox.isolation.shutil.which", lambda *_, **__: None)
    isolation.cache_clear()
    try:
        found = isolation()
        assert (found.level, found.walls) == ("none", None)
        with pytest.raises(ConflictError, match="bubblewrap"):
            found.required()
    finally:
        isolation.cache_clear()


def test_the_filter_is_of_whole_instructions_and_ends_with_a_verdict():
    for machine in ("x86_64", "aarch64"):
        code = program(machine)
        assert len(code) % 8 == 0
        assert len(code) // 8 < 4096
        for at in range(0, len(code), 8):
            operation, yes, no = code[at], code[at + 2], code[at + 3]
            if operation & 7 == 5:  # a jump stays inside
                assert at + 8 * (1 + max(yes, no)) < len(code)
        assert code[-8] == 0x06
    assert program("s390x") is None
    assert program(platform.machine()) or platform.machine() not in ("x86_64", "aarch64")
