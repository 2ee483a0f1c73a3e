"""``swathe cluster`` and ``swathe doctor``, run as a person runs them."""

from __future__ import annotations

import dataclasses
import json
import subprocess
import sys
import time
from pathlib import Path
from textwrap import dedent

import pytest
import typer
from pydantic import BaseModel, SecretStr
from typer.testing import CliRunner

from cluster import head
from models.weights import ModelHome
from serve.cli import cluster, doctor
from swathe.errors import ClusterError

pytestmark = pytest.mark.timeout(400)


@dataclasses.dataclass
class Settings:
    data_dir: Path
    home: ModelHome
    card_folders: tuple[Path, ...] = ()
    ray_address: str | None = None
    ray_auth_mode: str | None = None
    database_url: str = "postgres://me:hush@db.example.org/swathe"
    api_key: str = "hush"


@pytest.fixture
def settings(tmp_path):
    return Settings(tmp_path, ModelHome(tmp_path / "cache", hf_token="hush"), (tmp_path,))


def call(settings, *arguments):
    app = typer.Typer()
    app.command()(doctor.doctor)
    app.add_typer(cluster.app)

    @app.callback()
    def root(context: typer.Context) -> None:
        context.obj = settings

    return CliRunner().invoke(app, arguments)


def checks(answer):
    return {c["name"]: c for c in json.loads(answer.stdout)["checks"]}


def test_status_of_nothing(settings):
    answer = call(settings, "cluster", "status", "--json")
    assert answer.exit_code == 1
    assert json.loads(answer.stdout) == {"running": False, "detail": "none was started"}
    assert call(settings, "cluster", "stop").exit_code == 0


@pytest.mark.ray
def test_status_and_jobs_of_what_runs(settings, kept):
    data_dir, running = kept
    settings.data_dir = data_dir
    limit = time.monotonic() + 60
    while not head.usage(running):  # a Ray that has just started does not say yet
        assert time.monotonic() < limit
        time.sleep(0.5)
    answer = call(settings, "cluster", "status", "--json")
    assert answer.exit_code == 0
    facts = json.loads(answer.stdout)
    assert facts["address"] == running.address
    assert facts["in_use"]["CPU"][1] == 2
    assert running.token not in answer.stdout
    assert " of 2" in call(settings, "cluster", "status").stdout
    assert json.loads(call(settings, "cluster", "start", "--json").stdout)["pid"] == running.pid
    assert isinstance(json.loads(call(settings, "cluster", "jobs", "--json").stdout), list)
    assert checks(call(settings, "doctor", "--json"))["ray"]["detail"].startswith(f"running at {running.address}")


def test_problems_come_as_our_errors(settings):
    answer = call(settings, "cluster", "jobs")
    assert isinstance(answer.exception, ClusterError)
    assert answer.exception.problem.code == "cluster.none"
    settings.ray_auth_mode = "secret"
    assert call(settings, "cluster", "start").exception.problem.code == "cluster.auth"
    assert head.recorded(settings.data_dir) is None


def test_the_doctor_finds_this_machine_well(settings):
    answer = call(settings, "doctor", "--json")
    found = json.loads(answer.stdout)
    assert answer.exit_code == 0
    assert found["ok"]
    assert {c["level"] for c in found["checks"]} <= {"ok", "warn"}
    assert {"packages", "gdal", "cores", "memory", "gpu", "data folder", "model cache", "ray"} <= set(checks(answer))
    assert found["versions"]["ray"]
    assert not (settings.data_dir / "cache").exists()


def test_the_doctor_tells_no_secrets(settings):
    plain, machine = call(settings, "doctor").stdout, call(settings, "doctor", "--json").stdout
    assert "hush" not in plain + machine
    assert json.loads(machine)["settings"]["api_key"] == "(set)"
    assert json.loads(machine)["settings"]["home"]["hf_token"] == "(set)"
    assert "postgres://***@db.example.org/swathe" in plain


def test_settings_of_pydantic_are_shown_as_well():
    class Model(BaseModel):
        folder: Path = Path("/data")
        s3_secret_access_key: SecretStr = SecretStr("hush")
        token: str | None = None
        hosts: list[str] = ["http://me:hush@a"]

    assert doctor.without_secrets(Model()) == {
        "folder": "/data",
        "s3_secret_access_key": "(set)",
        "token": None,
        "hosts": ["http://***@a"],
    }


def test_the_doctor_fails_where_runs_would(settings, tmp_path):
    (tmp_path / "file").write_text("")
    settings.data_dir = tmp_path / "file" / "data"
    settings.ray_address = "127.0.0.1:9"
    settings.card_folders = (tmp_path / "nowhere",)
    answer = call(settings, "doctor", "--json")
    found = checks(answer)
    assert answer.exit_code == 1
    assert not json.loads(answer.stdout)["ok"]
    assert found["data folder"]["level"] == "fail"
    assert found["ray"]["level"] == "fail"
    assert found["model cards"]["level"] == "fail"
    assert all(c["hint"] for c in found.values() if c["level"] != "ok")


@pytest.mark.parametrize("address", ["http://127.0.0.1:9", "https://127.0.0.1:9/"])
def test_the_doctor_asks_dashboards_too(settings, address):
    settings.ray_address = address
    assert checks(call(settings, "doctor", "--json"))["ray"]["level"] == "fail"


def test_neither_help_nor_doctor_loads_ray_or_torch():
    program = """
        import sys
        from pathlib import Path
        from types import SimpleNamespace
        from serve.cli import cluster, doctor

        home = SimpleNamespace(cache=Path("."))
        settings = SimpleNamespace(data_dir=Path("."), home=home, card_folders=(), ray_address=None)
        list(doctor.examine(settings))
        print(sorted({"ray", "torch", "terratorch", "openvino"} & set(sys.modules)))
    """
    answer = subprocess.run([sys.executable, "-c", dedent(program)], capture_output=True, text=True, check=True)
    assert answer.stdout.strip() == "[]"
