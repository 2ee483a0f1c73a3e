"""The manifests, held against the schemas and the installed versions, as far as that goes without a cluster."""

from __future__ import annotations

import copy
import fnmatch
import json
import re
import shlex
import shutil
import subprocess
from importlib import metadata
from pathlib import Path

import jsonschema
import pytest
import yaml

ROOT = Path(__file__).resolve().parents[2]
HERE = ROOT / "cluster"
CLAIM = HERE / "kuberay" / "claim.yaml"
KUBERAY = sorted(set((HERE / "kuberay").glob("*.yaml")) - {CLAIM})
LAUNCHER = [HERE / "aws.yaml", HERE / "onprem.yaml"]
SCHEMA = json.loads((Path(__file__).parent / "kuberay.schema.json").read_text())


def ray_resources(file):
    return [d for d in yaml.safe_load_all(file.read_text()) if d["apiVersion"] == "ray.io/v1"]


def cluster_specs():
    for file in KUBERAY:
        for resource in ray_resources(file):
            spec = resource["spec"]
            inner = spec.get("rayClusterSpec") or spec.get("rayClusterConfig") or spec
            yield pytest.param(inner, id=file.stem)


def groups(spec):
    return [spec["headGroupSpec"], *spec["workerGroupSpecs"]]


@pytest.mark.parametrize("file", LAUNCHER, ids=lambda f: f.stem)
def test_ray_accepts_the_launcher_files(file):
    from ray.autoscaler._private.util import prepare_config, validate_config

    config = yaml.safe_load(file.read_text())
    validate_config(prepare_config(copy.deepcopy(config)))
    with pytest.raises(jsonschema.ValidationError):
        validate_config(prepare_config(copy.deepcopy(config) | {"dokcer": {}}))


@pytest.mark.parametrize("file", LAUNCHER, ids=lambda f: f.stem)
def test_launched_nodes_want_a_token_and_share_a_folder(file):
    config = yaml.safe_load(file.read_text())
    assert {"--env=RAY_AUTH_MODE=token", "--volume=/data:/data"} <= set(config["docker"]["run_options"])
    assert list(config["file_mounts"]) == ["/home/swathe/.ray/auth_token"]
    starts = " ".join(config["head_start_ray_commands"])
    assert "--dashboard-host=127.0.0.1" in starts


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # Ray's own, on importing its command line
def test_launched_start_commands_use_options_that_ray_has():
    import click
    from ray.scripts.scripts import start

    known = {o for p in start.params if isinstance(p, click.Option) for o in p.opts}
    for file in LAUNCHER:
        config = yaml.safe_load(file.read_text())
        for command in config["head_start_ray_commands"] + config["worker_start_ray_commands"]:
            used = {w.partition("=")[0] for w in shlex.split(command) if w.startswith("--")}
            assert used <= known


@pytest.mark.parametrize("file", KUBERAY, ids=lambda f: f.stem)
def test_kuberay_manifests_have_only_known_fields(file):
    resources = ray_resources(file)
    assert resources
    for resource in resources:
        jsonschema.Draft202012Validator(SCHEMA).validate(resource)


@pytest.mark.parametrize(
    ("path", "value"),
    [
        (("spec", "rayVersionn"), "2.60.0"),
        (("spec", "authOptions", "mode"), "none"),
        (("spec", "headGroupSpec", "rayStartParams", "num-cpus"), 0),
        (("spec", "workerGroupSpecs", 0, "minReplica"), 1),
        (("metadata", "name"), "Not_A_Name"),
    ],
)
def test_the_schema_catches_mistakes(path, value):
    broken = ray_resources(HERE / "kuberay" / "raycluster.yaml")[0]
    at = broken
    for step in path[:-1]:
        at = at[step]
    at[path[-1]] = value
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.Draft202012Validator(SCHEMA).validate(broken)


@pytest.mark.parametrize("spec", list(cluster_specs()))
def test_pods_are_consistent(spec):
    assert spec["rayVersion"] == metadata.version("ray")
    assert spec["authOptions"]["mode"] == "token"
    assert spec["headGroupSpec"]["rayStartParams"]["num-cpus"] == "0"
    assert {g["labels"]["device"] for g in spec["workerGroupSpecs"]} == {"cpu", "gpu"}
    for group in groups(spec):
        pod = group["template"]["spec"]
        (container,) = pod["containers"]
        volumes = {v["name"]: v for v in pod["volumes"]}
        mounts = {m["mountPath"]: volumes[m["name"]] for m in container["volumeMounts"]}
        assert mounts["/dev/shm"]["emptyDir"]["medium"] == "Memory"
        store = int(group["rayStartParams"]["object-store-memory"])
        assert 75 << 20 < store < 1 << 30  # Ray's smallest, and the size of the volume
        assert mounts["/data"]["persistentVolumeClaim"]["claimName"] == "swathe-data"
        assert container["envFrom"][0]["secretRef"]["name"] == "swathe-env"
        assert pod["securityContext"]["runAsUser"] == 1000


@pytest.mark.parametrize("file", KUBERAY, ids=lambda f: f.stem)
def test_the_commands_make_every_claim_that_pods_mount(file):
    """As they are typed from the first lines of the file; a pod whose claim is missing stays pending for ever."""
    applied = re.findall(r"^#\s+kubectl apply (.*)$", file.read_text(), re.MULTILINE)
    files = [ROOT / name for line in applied for name in re.findall(r"-f (\S+)", line)]
    assert files[-1] == file
    documents = [d for name in files for d in yaml.safe_load_all(name.read_text())]
    made = {d["metadata"]["name"]: d["spec"] for d in documents if d["kind"] == "PersistentVolumeClaim"}
    mounted = set(re.findall(r"claimName: ([\w-]+)", file.read_text()))
    assert mounted == set(made)
    assert all(spec["accessModes"] == ["ReadWriteMany"] for spec in made.values())


@pytest.mark.parametrize("spec", list(cluster_specs()))
def test_gpus_are_asked_for_where_the_label_says_so(spec):
    for group in spec["workerGroupSpecs"]:
        limits = group["template"]["spec"]["containers"][0]["resources"]["limits"]
        assert ("nvidia.com/gpu" in limits) == (group["labels"]["device"] == "gpu")
        assert group["minReplicas"] <= group["replicas"] <= group["maxReplicas"]


def test_the_job_runs_a_card_and_a_sensor_that_exist():
    words = shlex.split(ray_resources(HERE / "kuberay" / "rayjob.yaml")[0]["spec"]["entrypoint"])
    assert words[:2] == ["swathe", "run"]
    given = dict(zip(words[2::2], words[3::2], strict=False))
    assert (ROOT / "configs" / "models" / f"{given['--model']}.yaml").is_file()
    assert (ROOT / "configs" / "sensors" / f"{given['--sensor']}.yaml").is_file()
    assert given["--out"].startswith("/data/")


@pytest.fixture
def service():
    return ray_resources(HERE / "kuberay" / "rayservice.yaml")[0]["spec"]


@pytest.mark.parametrize("source", ["repository", "kuberay"])
def test_serve_accepts_the_config_and_finds_the_service(source, service):
    import importlib

    from ray.serve.schema import ServeDeploySchema

    from serve.deployments.app import ServiceArgs

    shipped = (ROOT / "configs" / "serve.yaml").read_text()
    config = yaml.safe_load(shipped if source == "repository" else service["serveConfigV2"])
    checked = ServeDeploySchema.model_validate(config)
    (app,) = checked.applications
    module, name = app.import_path.split(":")
    assert callable(getattr(importlib.import_module(module), name))
    ServiceArgs.model_validate(app.args)
    assert app.route_prefix == "/"


def test_a_service_of_several_nodes_listens_beyond_its_pod_and_leaves_the_head_alone(service):
    from serve.deployments.proxy import HOOK

    config = yaml.safe_load(service["serveConfigV2"])
    assert config["http_options"]["host"] == "0.0.0.0"
    assert config["proxy_location"] == "EveryNode"
    assert service["excludeHeadPodFromServeSvc"]
    assert config["applications"][0]["args"]["reserve_cores"]
    for group in groups(service["rayClusterConfig"]):
        (container,) = group["template"]["spec"]["containers"]
        assert {each["name"]: each["value"] for each in container["env"]} == HOOK


def test_no_pod_of_a_service_starts_without_the_address_of_its_database(service):
    """Each would open the SQLite file of the claim that all of them mount."""
    for group in groups(service["rayClusterConfig"]):
        (container,) = group["template"]["spec"]["containers"]
        assert [each["secretRef"] for each in container["envFrom"]] == [{"name": "swathe-env", "optional": False}]


def instructions():
    text = re.sub(r"\\\n", " ", (HERE / "Dockerfile").read_text())
    return [line.split(maxsplit=1) for line in text.splitlines() if line and not line.startswith("#")]


def copied():
    for word, rest in instructions():
        if word == "COPY" and "--from" not in rest:
            yield from [w for w in rest.split() if not w.startswith("--")][:-1]


def test_what_the_image_copies_exists_and_reaches_the_builder():
    ignored = [x for x in (ROOT / ".dockerignore").read_text().splitlines() if x and not x.startswith("#")]
    sent = {x.removeprefix("!") for x in ignored if x.startswith("!")}
    sources = list(copied())
    assert len(sources) > 8
    for source in sources:
        assert (ROOT / source).exists()
        assert any(fnmatch.fnmatch(source, pattern) for pattern in sent)


def test_the_image_holds_every_room_of_the_house():
    packages = {p.parent.name for p in ROOT.glob("*/__init__.py")}
    assert packages <= set(copied())


def test_the_image_is_not_root_and_fetches_no_weights():
    words = instructions()
    users = [rest for word, rest in words if word == "USER"]
    assert users[-1] == "swathe"
    assert not [rest for word, rest in words if word == "RUN" and re.search(r"hf_|huggingface|swathe models", rest)]
    base = next(rest for word, rest in words if word == "FROM")
    assert base == f"python:{(ROOT / '.python-version').read_text().strip()}-slim"


def test_the_images_python_environment_resolves_from_the_lock():
    uv = shutil.which("uv") or shutil.which(ROOT / ".uv" / "bin" / "uv")  # the Makefile brings the second one
    if uv is None:
        pytest.skip("no uv, neither on PATH nor in .uv")
    for dry in (["sync", "--frozen", "--no-dev", "--dry-run"], ["export", "--frozen", "--no-dev", "--no-hashes"]):
        answer = subprocess.run([uv, *dry, "--offline"], cwd=ROOT, capture_output=True, text=True, check=False)
        assert answer.returncode == 0, answer.stderr
    assert f"ray=={metadata.version('ray')}" in answer.stdout
    assert "pytest==" not in answer.stdout


def test_what_ray_is_told_in_the_image_is_what_it_is_told_here():
    from cluster import environment

    text = next(rest for word, rest in instructions() if word == "ENV" and "RAY_" in rest)
    told = dict(pair.split("=", 1) for pair in text.split())
    assert {k: v for k, v in environment.ALWAYS.items() if k in told} == {
        k: v for k, v in told.items() if not k.startswith("SWATHE_")
    }
