"""Records: whole or not at all; a disk that is full is told. ``/dev/full`` is one, to whoever writes."""

from __future__ import annotations

import psutil
import pytest

from cluster import atomic, head, scratch
from swathe.errors import ClusterError, OutputError


def fill_up(file):
    """What is written for ``file`` finds no room, once."""
    file.parent.mkdir(parents=True, exist_ok=True)
    file.with_name(f"{file.name}.new").symlink_to("/dev/full")


def test_a_record_is_replaced_whole_and_is_its_owners(tmp_path):
    file = tmp_path / "there" / "record.json"
    atomic.write(file, "one" * 1000)
    atomic.write(file, "two")
    assert file.read_text() == "two"
    assert file.stat().st_mode & 0o777 == 0o600
    assert [path.name for path in file.parent.iterdir()] == ["record.json"]


def test_without_room_the_record_before_stays(tmp_path):
    file = tmp_path / "record.json"
    atomic.write(file, "before")
    fill_up(file)
    with pytest.raises(OutputError) as refused:
        atomic.write(file, "after")
    assert refused.value.problem.code == "output.full"
    assert str(tmp_path) in refused.value.detail
    assert file.read_text() == "before"
    assert [path.name for path in tmp_path.iterdir()] == ["record.json"]


def test_room_is_looked_for_before_it_is_needed(tmp_path):
    atomic.expect_room(tmp_path)
    fill_up(tmp_path / "room")
    with pytest.raises(OutputError):
        atomic.expect_room(tmp_path)
    assert not list(tmp_path.iterdir())


def test_a_folder_that_is_a_file_is_told(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(ClusterError) as refused:
        atomic.write(tmp_path / "file" / "record.json", "")
    assert refused.value.problem.code == "cluster.data_dir"


def test_without_room_nothing_is_started(tmp_path):
    fill_up(head.home(tmp_path) / "room")
    with pytest.raises(OutputError):
        head.start(head.HeadSpec(tmp_path))
    assert not (head.home(tmp_path) / "head.log").exists()


@pytest.mark.slow
@pytest.mark.ray
@pytest.mark.timeout(400)
def test_a_ray_that_cannot_be_recorded_is_ended(tmp_path, monkeypatch):
    """Nobody would know of it: `stop` goes by the record, and the next start would bring up another one beside it."""
    made = []
    monkeypatch.setattr(scratch, "make", lambda make=scratch.make: made.append(make()) or made[-1])
    before = {process.pid for process in psutil.Process().children(recursive=True)}
    fill_up(head.home(tmp_path) / "head.json")
    with pytest.raises(OutputError) as refused:
        head.start(head.HeadSpec(tmp_path, cpus=1, gpus=0))
    assert refused.value.problem.code == "output.full"
    assert head.recorded(tmp_path) is None
    (folder,) = made
    assert not folder.exists()
    assert not [p for p in psutil.process_iter(["cmdline"]) if str(folder) in " ".join(p.info["cmdline"] or [])]
    left = [p for p in psutil.Process().children(recursive=True) if p.pid not in before]
    assert not [p for p in left if p.status() != psutil.STATUS_ZOMBIE]
