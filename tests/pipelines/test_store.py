"""Folders and a real S3 server behave the same as a place for objects, down to what happens when two write at once."""

import errno
import os
import pickle
import signal
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from datetime import timedelta
from pathlib import Path

import numpy as np
import pytest

from pipelines.store.blobs import NOTHING, Conflict, StoreSettings, checked, open_blobs
from pipelines.store.lease import Holder, Lease
from pipelines.store.place import place_of
from pipelines.store.scratch import scratch
from swathe.errors import OutputError
from tests.pipelines.s3_server import running_s3  # noqa: F401  the fixture s3_server

ROOT = Path(__file__).resolve().parent.parent.parent


def settings_of(server, **changes):
    facts = {"endpoint": server.endpoint, "region": "us-east-1", "key": server.key, "secret": server.secret}
    return StoreSettings(**(facts | {"patience_s": 3} | changes))


@pytest.fixture
def stored(s3_server):
    return open_blobs(s3_server.prefix(), settings_of(s3_server))


@pytest.fixture(params=["folder", "s3"])
def blobs(request, tmp_path):
    if request.param == "folder":
        return open_blobs(tmp_path / "place")
    return request.getfixturevalue("stored")


def code_of(caught):
    return caught.value.problem.code


# --- what all places promise ------------------------------------------------------------------------------------------


def test_what_is_put_is_there_whole(blobs):
    version = blobs.put("a/b.bin", b"0123456789")
    assert blobs.get("a/b.bin") == b"0123456789"
    assert blobs.get_range("a/b.bin", 2, 5) == b"234"
    assert blobs.get_range("a/b.bin", 8, 50) == b"89"
    found = blobs.look("a/b.bin")
    assert (found.name, found.size, found.version) == ("a/b.bin", 10, version)
    assert abs(found.modified.timestamp() - time.time()) < 60


def test_what_is_not_there_is_not(blobs):
    blobs.put("a", b"1")
    assert blobs.look("b") is None
    for read in (lambda: blobs.get("b"), lambda: blobs.get_range("b", 0, 1)):
        with pytest.raises(FileNotFoundError):
            read()
    blobs.delete(["b", "a", "c/d"])
    assert list(blobs.list()) == []


def test_lists_what_lies_below_a_folder(blobs):
    names = ["a/1", "a/b/2", "ab/3", "c"]
    for name in names:
        blobs.put(name, name.encode())
    assert sorted(b.name for b in blobs.list()) == names
    assert sorted(b.name for b in blobs.list("a/")) == ["a/1", "a/b/2"]
    assert sorted((b.name, b.size) for b in blobs.below("a").list()) == [("1", 3), ("b/2", 5)]


def test_a_condition_is_kept(blobs):
    first = blobs.put("lock", b"one", over=NOTHING)
    with pytest.raises(Conflict):
        blobs.put("lock", b"two", over=NOTHING)
    second = blobs.put("lock", b"three", over=first)
    with pytest.raises(Conflict):
        blobs.put("lock", b"four", over=first)
    assert blobs.get("lock") == b"three"
    blobs.delete(["lock"])
    with pytest.raises(Conflict):
        blobs.put("lock", b"five", over=second)


def test_of_many_who_create_one_wins(blobs):
    won = []

    def create(number):
        try:
            blobs.put("one", str(number).encode(), over=NOTHING)
        except Conflict:
            return
        won.append(number)

    threads = [threading.Thread(target=create, args=(n,)) for n in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(won) == 1
    assert blobs.get("one") == str(won[0]).encode()


def test_twenty_megabytes_there_and_back(blobs, tmp_path):
    content = np.random.default_rng(1).bytes(20 << 20)
    (tmp_path / "there").write_bytes(content)
    blobs.put_file("large.bin", tmp_path / "there")
    assert blobs.look("large.bin").size == 20 << 20
    blobs.fetch("large.bin", tmp_path / "back")
    assert (tmp_path / "back").read_bytes() == content
    assert blobs.get_range("large.bin", 9 << 20, (9 << 20) + 7) == content[9 << 20 : (9 << 20) + 7]
    assert {p.name for p in tmp_path.iterdir()} <= {"there", "back", "place"}


def test_a_file_that_is_not_needed_any_more_arrives_as_well(blobs, tmp_path):
    for content in (b"first", b"second"):
        (tmp_path / "there").write_bytes(content)
        blobs.put_file("a/b.bin", tmp_path / "there", keep=False)
        assert blobs.get("a/b.bin") == content
    assert [blob.name for blob in blobs.list()] == ["a/b.bin"]


def test_s3_got_it_in_pieces(s3_server, stored, tmp_path):
    (tmp_path / "a").write_bytes(bytes(20 << 20))
    stored.put_file("a", tmp_path / "a")
    tag = s3_server.client().head_object(Bucket=s3_server.bucket, Key=f"{stored.prefix}/a")["ETag"]
    assert tag.endswith('-3"')  # 8 + 8 + 4 MiB


def test_a_fetch_that_fails_leaves_nothing(blobs, tmp_path):
    with pytest.raises(FileNotFoundError):
        blobs.fetch("none", tmp_path / "back")
    assert not (tmp_path / "back").exists()


@pytest.mark.parametrize(
    "name", ["", "/etc/passwd", "../a", "a/../../b", "a//b", "a/", "./a", "a\\b", "a\nb", "a" * 901]
)
def test_names_that_lead_elsewhere_are_refused(blobs, name):
    with pytest.raises(OutputError) as caught:
        blobs.put(name, b"")
    assert code_of(caught) == "output.name"
    with pytest.raises(OutputError):
        checked(name)


def test_a_place_travels(blobs):
    blobs.put("a", b"1")
    assert pickle.loads(pickle.dumps(blobs)).get("a") == b"1"


# --- a folder ---------------------------------------------------------------------------------------------------------


def test_a_link_does_not_lead_out_of_a_folder(tmp_path):
    (tmp_path / "secret").write_text("x")
    (tmp_path / "place").mkdir()
    (tmp_path / "place" / "link").symlink_to(tmp_path / "secret")
    blobs = open_blobs(tmp_path / "place")
    with pytest.raises(FileNotFoundError):
        blobs.get("link")
    assert list(blobs.list()) == []


def test_a_file_is_old_or_new_for_every_reader(tmp_path):
    blobs = open_blobs(tmp_path)
    texts = {bytes([n]) * 100_000 for n in range(2)}
    blobs.put("a", bytes(100_000))
    end = threading.Event()

    def write():
        while not end.is_set():
            for text in texts:
                blobs.put("a", text)

    thread = threading.Thread(target=write)
    thread.start()
    try:
        seen = {blobs.get("a") for _ in range(200)}
    finally:
        end.set()
        thread.join()
    assert seen <= texts
    assert [p.name for p in tmp_path.iterdir()] == ["a"]


# --- S3 ---------------------------------------------------------------------------------------------------------------


def ask(url, method="GET", body=None):
    try:
        with urllib.request.urlopen(urllib.request.Request(url, data=body, method=method), timeout=10) as answer:
            return answer.status, answer.read()
    except urllib.error.HTTPError as error:
        return error.code, error.read()


def test_signed_addresses_do_one_thing_until_they_expire(stored):
    stored.put("a", b"secret")
    read = stored.sign("a", "GET", timedelta(seconds=2))
    write = stored.sign("new", "PUT", timedelta(seconds=2))
    assert ask(read) == (200, b"secret")
    assert ask(read.replace("/a?", "/b?"))[0] == 403
    assert ask(read, "PUT", b"mine")[0] == 403
    assert ask(write, "PUT", b"uploaded")[0] == 200
    assert stored.get("new") == b"uploaded"
    assert ask(read.split("?")[0])[0] == 403
    time.sleep(2.5)
    assert ask(read)[0] == 403
    assert ask(write, "PUT", b"too late")[0] == 403
    assert stored.get("new") == b"uploaded"
    assert stored.get("a") == b"secret"


@pytest.mark.parametrize("valid", [timedelta(), timedelta(days=8)])
def test_no_address_is_good_for_ever(stored, valid):
    with pytest.raises(ValueError, match="seven days"):
        stored.sign("a", "GET", valid)


def test_a_folder_has_no_addresses(tmp_path):
    assert open_blobs(tmp_path).sign("a", "GET", timedelta(seconds=9)) is None


DEEDS = {
    "put": lambda blobs, path: blobs.put("a", b"1"),
    "create": lambda blobs, path: blobs.put("a", b"1", over=NOTHING),
    "put_file": lambda blobs, path: blobs.put_file("a", path),
    "list": lambda blobs, path: list(blobs.list()),
}


@pytest.mark.parametrize("deed", DEEDS)
@pytest.mark.parametrize(("changes", "code"), [
    ({"bucket": "there-is-none"}, "output.bucket"),
    ({"key": "nobody"}, "output.credentials"),
    ({"secret": "wrong"}, "output.credentials"),
    ({"endpoint": "http://127.0.0.1:1"}, "output.unreachable"),
])  # fmt: skip
def test_trouble_is_one_clear_problem(s3_server, tmp_path, deed, changes, code):
    (tmp_path / "f").write_bytes(bytes(17 << 20))
    bucket = changes.get("bucket", s3_server.bucket)
    settings = settings_of(s3_server, **{k: v for k, v in changes.items() if k != "bucket"}, patience_s=0.3)
    with pytest.raises(OutputError) as caught:
        DEEDS[deed](open_blobs(f"s3://{bucket}/x", settings), tmp_path / "f")
    problem = caught.value.problem
    assert problem.code == code
    assert problem.hint
    assert s3_server.secret not in problem.detail
    assert "X-Amz" not in problem.detail
    assert len(problem.detail) < 300


@pytest.mark.parametrize("deed", ["put", "create", "put_file", "delete"])
def test_who_may_only_read_is_told_so(s3_server, tmp_path, deed):
    where = s3_server.prefix()
    open_blobs(where, settings_of(s3_server)).put("a", b"there")
    (tmp_path / "f").write_bytes(bytes(17 << 20))
    reader = open_blobs(where, settings_of(s3_server, key=s3_server.reader_key, secret=s3_server.reader_secret))
    assert reader.get("a") == b"there"
    with pytest.raises(OutputError) as caught:
        (DEEDS | {"delete": lambda blobs, path: blobs.delete(["a"])})[deed](reader, tmp_path / "f")
    assert code_of(caught) == "output.denied"
    assert reader.get("a") == b"there"


def test_a_missing_bucket_is_no_missing_object(s3_server):
    with pytest.raises(OutputError) as caught:
        open_blobs("s3://there-is-none/x", settings_of(s3_server)).get("a")
    assert code_of(caught) == "output.bucket"


def test_credentials_come_from_awss_own_chain(s3_server):
    where = s3_server.prefix()
    program = (
        "import sys; from pipelines.store.blobs import *; "
        f"print(open_blobs({where!r}, StoreSettings(endpoint={s3_server.endpoint!r})).put('a', b'1'))"
    )
    clean = {k: v for k, v in os.environ.items() if not k.startswith("AWS_")} | {
        "AWS_EC2_METADATA_DISABLED": "true", "AWS_CONFIG_FILE": "/none", "AWS_SHARED_CREDENTIALS_FILE": "/none"
    }  # fmt: skip
    keys = {"AWS_ACCESS_KEY_ID": s3_server.key, "AWS_SECRET_ACCESS_KEY": s3_server.secret}
    subprocess.run([sys.executable, "-c", program], env=clean | keys, check=True, cwd=ROOT)
    failed = subprocess.run(
        [sys.executable, "-c", program], env=clean, capture_output=True, text=True, cwd=ROOT, check=False
    )
    assert failed.returncode
    assert "there are no credentials for s3://swathe" in failed.stderr


def test_secrets_are_not_shown(s3_server):
    assert s3_server.secret not in repr(settings_of(s3_server, token="tok-en"))
    assert "tok-en" not in repr(open_blobs("s3://swathe/a", settings_of(s3_server, token="tok-en")))


@pytest.mark.parametrize(("text", "code"), [
    ("gs://bucket/a", "output.scheme"), ("https://a.b/c", "output.scheme"), ("s3://B_d!/x", "output.bucket"),
    ("s3://", "output.bucket"), ("s3://bucket/a/../b", "output.name"),
])  # fmt: skip
def test_places_that_are_none(text, code):
    with pytest.raises(OutputError) as caught:
        open_blobs(text)
    assert code_of(caught) == code


def test_an_upload_that_is_killed_leaves_the_old_object(s3_server, stored, tmp_path):
    stored.put("a", b"old")
    (tmp_path / "f").write_bytes(bytes(400 << 20))
    program = (
        "from pathlib import Path; from pipelines.store.blobs import *; "
        f"blobs = open_blobs({stored.place!r}, StoreSettings(endpoint={s3_server.endpoint!r}, key={s3_server.key!r}, "
        f"secret={s3_server.secret!r})); print('go', flush=True); blobs.put_file('a', Path({str(tmp_path / 'f')!r}))"
    )
    with subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, cwd=ROOT) as process:
        process.stdout.readline()
        time.sleep(0.15)
        process.send_signal(signal.SIGKILL)
    assert process.returncode == -signal.SIGKILL
    assert stored.get("a") == b"old"
    assert [b.name for b in stored.list()] == ["a"]


def test_a_file_system_without_locks_is_named(tmp_path, monkeypatch):
    """No disk here is without them: the system call answers as it does there."""

    def none(*_):
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    monkeypatch.setattr("fcntl.flock", none)
    with pytest.raises(OutputError) as caught, place_of(tmp_path, None).hold():
        pass
    assert code_of(caught) == "output.unlockable"
    assert caught.value.hint


# --- the lease --------------------------------------------------------------------------------------------------------


def test_one_holds_and_the_other_is_refused(blobs):
    with Lease(blobs, "lock"):
        with pytest.raises(OutputError) as caught, Lease(blobs, "lock"):
            pass
        assert code_of(caught) == "output.busy"
        assert str(os.getpid()) in caught.value.detail
    assert blobs.look("lock") is None
    with Lease(blobs, "lock") as again:
        again.check()


def test_a_hold_is_renewed(stored):
    with Lease(stored, "lock", term_s=1.5) as lease:
        first = stored.look("lock").version
        time.sleep(2.6)
        assert stored.look("lock").version != first
        with pytest.raises(OutputError), Lease(stored, "lock", term_s=1.5):
            pass
        lease.check()


def left_behind(blobs, **changes):
    """A hold whose holder was killed."""
    lease = Lease(blobs, "lock")
    facts = {name: getattr(lease._holder, name) for name in Holder.__slots__} | changes
    lease._holder = Holder(**facts)
    blobs.put("lock", lease._text())


def test_who_died_elsewhere_holds_for_a_term(stored):
    left_behind(stored, machine="elsewhere", host="far")
    with pytest.raises(OutputError) as caught, Lease(stored, "lock", term_s=1.5):
        pass
    assert "far" in caught.value.detail
    assert "try again in" in caught.value.hint
    time.sleep(2.6)
    with Lease(stored, "lock", term_s=1.5) as lease:
        lease.check()


def test_who_died_on_this_machine_is_known_to_be_gone(blobs):
    with subprocess.Popen(["true"]) as process:
        pass
    left_behind(blobs, pid=process.pid)
    with Lease(blobs, "lock"):
        pass
    left_behind(blobs, started=1.0)  # our number, given to us after another had it
    with Lease(blobs, "lock"):
        pass


def test_who_was_taken_over_must_stop(blobs):
    with Lease(blobs, "lock", term_s=0.4) as lease:
        left_behind(blobs, host="thief")
        time.sleep(0.3)
        with pytest.raises(OutputError) as caught:
            lease.check()
        assert code_of(caught) == "output.busy"
    assert blobs.look("lock") is not None  # not ours to remove


def test_a_store_that_is_away_for_a_moment_costs_nothing(tmp_path):
    blobs = open_blobs(tmp_path / "place")
    with Lease(blobs, "lock", term_s=0.4) as lease:
        (tmp_path / "place").rename(tmp_path / "away")
        (tmp_path / "place").write_text("in the way")
        time.sleep(0.5)
        (tmp_path / "place").unlink()
        (tmp_path / "away").rename(tmp_path / "place")
        lease.check()


# --- scratch ----------------------------------------------------------------------------------------------------------


def test_what_a_killed_process_left_is_swept(tmp_path, monkeypatch):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    with scratch() as alive:
        (alive / "a").write_text("1")
        dead = alive.with_name("1-dead")
        dead.mkdir()
        (dead / ".lock").touch()
        for path in (dead, dead / ".lock", alive, alive / ".lock"):
            os.utime(path, (1, 1))
        with scratch() as other:
            assert not dead.exists()
            assert (alive / "a").exists()
            assert other != alive
        assert not other.exists()
    assert not alive.exists()


def test_what_a_hostile_program_left_goes_too(tmp_path):
    """Folders closed to their owner, and nested deeper than a path is long and than recursion goes."""
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside" / "kept").touch()
    with scratch(tmp_path / "rooms") as room:
        (room / "closed" / "inner").mkdir(parents=True)
        (room / "closed" / "inner" / "file").touch()
        (room / "closed" / "link").symlink_to(tmp_path / "outside")
        here = os.open(room, os.O_RDONLY)
        for _ in range(1500):
            os.mkdir("deep", dir_fd=here)
            below = os.open("deep", os.O_RDONLY, dir_fd=here)
            os.close(here)
            here = below
        os.close(here)
        for path in (room / "closed" / "inner", room / "closed"):
            path.chmod(0o300 if path.name == "inner" else 0)
    assert list((tmp_path / "rooms").iterdir()) == []
    assert (tmp_path / "outside" / "kept").exists()
