"""What a machine has, against the kernel's own files and against psutil."""

from __future__ import annotations

import os

import psutil
import pytest

from cluster import machine


def test_cores_are_those_of_the_affinity_mask(tmp_path):
    assert machine.cores(tmp_path) == len(os.sched_getaffinity(0))


@pytest.mark.parametrize(
    ("files", "most"),
    [
        ({"cpu.max": "50000 100000"}, 1),
        ({"cpu.max": "100000 100000"}, 1),
        ({"cpu.max": "max 100000"}, None),
        ({"cpu/cpu.cfs_quota_us": "100000", "cpu/cpu.cfs_period_us": "100000"}, 1),
        ({"cpu/cpu.cfs_quota_us": "-1", "cpu/cpu.cfs_period_us": "100000"}, None),
        ({"cpu.max": "nonsense"}, None),
    ],
)
def test_a_containers_quota_counts(tmp_path, files, most):
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    assert machine.cores(tmp_path) == (most or len(os.sched_getaffinity(0)))


def test_memory_is_the_machines_or_the_containers(tmp_path):
    assert machine.memory(tmp_path)[0] == psutil.virtual_memory().total
    (tmp_path / "memory.max").write_text("2147483648\n")
    (tmp_path / "memory.current").write_text("1073741824\n")
    assert machine.memory(tmp_path) == (2 << 30, min(1 << 30, psutil.virtual_memory().available))
    (tmp_path / "memory.max").write_text("max\n")
    assert machine.memory(tmp_path)[0] == psutil.virtual_memory().total


def test_lines_of_the_driver():
    card = machine.parse_gpu("NVIDIA H200, 143771, 570.86.15")
    assert card == machine.Gpu("NVIDIA H200", 143771 << 20, "570.86.15")
    assert machine.parse_gpu("Odd, name, 24564, 550.1").name == "Odd, name"
    assert machine.parse_gpu("No devices were found") is None
    assert machine.parse_gpu("a, b, c") is None


def test_gpus_are_what_the_driver_prints(tmp_path, monkeypatch):
    fake = tmp_path / "nvidia-smi"
    fake.write_text("#!/bin/sh\necho 'NVIDIA A10G, 23028, 535.1'\necho 'NVIDIA A10G, 23028, 535.1'\n")
    fake.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    assert [g.name for g in machine.gpus()] == ["NVIDIA A10G"] * 2
    fake.write_text("#!/bin/sh\necho 'driver/library version mismatch'; exit 18\n")
    assert machine.gpus() == ()


def test_space_of_a_folder_that_is_not_there_yet(tmp_path):
    assert machine.space(tmp_path / "a" / "b")[0] == psutil.disk_usage(str(tmp_path)).total
