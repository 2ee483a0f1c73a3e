"""Settings of the service: what the environment says, and that the value travels whole."""

import pickle
import stat
import threading
from pathlib import Path

import pytest

from pipelines.imagery.archive import AS_USUAL
from pipelines.imagery.archive import Limits as ArchiveLimits
from pipelines.imagery.limits import Limits as ImageLimits
from pipelines.remote.address import Stored, look_at
from pipelines.remote.fetch import Fetcher
from serve.desk.limits import Limits, read_limits
from serve.settings import ROOT, ServiceSettings, Settings, kept_pepper
from swathe.errors import ImageryError, InputError, OutputError
from swathe.job import Where
from swathe.recipe import Recipe, Search


def test_the_environment_is_read_with_commas(monkeypatch, tmp_path):
    said = {
        "DATA_DIR": str(tmp_path), "PORT": "8123", "HOST": "0.0.0.0", "PUBLIC_URL": "https://maps.example",
        "DATABASE_URL": "postgresql://u:secret@db/swathe", "RESULTS": "s3://bucket/maps/",
        "LOCAL_ROOTS": f"{tmp_path}/a, {tmp_path}/b", "CORS_ORIGINS": "https://a.example,https://b.example",
        "TRUSTED_PROXIES": "10.0.0.0/8", "OIDC_ISSUER": "https://id.example", "OIDC_AUDIENCE": "swathe",
    }  # fmt: skip
    for name, value in said.items():
        monkeypatch.setenv(f"SWATHE_{name}", value)
    settings = ServiceSettings.read()
    assert (settings.host, settings.port) == ("0.0.0.0", 8123)
    assert settings.local_roots == (tmp_path / "a", tmp_path / "b")
    assert settings.cors_origins == ("https://a.example", "https://b.example")
    assert settings.trusted_proxies == ("10.0.0.0/8",)
    assert settings.database == "postgresql://u:secret@db/swathe"
    assert settings.folder_of("j1") == "s3://bucket/maps/jobs/j1"
    assert settings.blobs("uploads/u1").place == "s3://bucket/maps/uploads/u1"


def test_nothing_secret_is_shown(monkeypatch, tmp_path):
    monkeypatch.setenv("SWATHE_DATABASE_URL", "postgresql://u:topsecret@db/swathe")
    monkeypatch.setenv("SWATHE_PEPPER", "topsecret")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "topsecret")
    settings = ServiceSettings.read(data_dir=tmp_path)
    assert "topsecret" not in repr(settings) + str(settings)


def test_a_source_s_own_pair_of_keys_is_read_beside_ones_own(monkeypatch, tmp_path):
    (tmp_path / "secret").write_text("of-cdse\n")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "own")
    monkeypatch.setenv("CDSE_ACCESS_KEY_ID", "key-of-cdse")
    monkeypatch.setenv("CDSE_SECRET_ACCESS_KEY_FILE", str(tmp_path / "secret"))
    settings = ServiceSettings.read(data_dir=tmp_path)
    found = {name: settings.network.secrets.get(name) for name in settings.network.secrets}
    assert (found["CDSE_ACCESS_KEY_ID"], found["CDSE_SECRET_ACCESS_KEY"]) == ("key-of-cdse", "of-cdse")
    assert settings.store.secret == found["AWS_SECRET_ACCESS_KEY"] == "own"


def test_by_default_everything_lies_in_the_data_folder(tmp_path):
    settings = ServiceSettings.read(data_dir=tmp_path)
    assert settings.database == f"sqlite:///{tmp_path}/service/service.sqlite"
    assert settings.folder_of("j1") == f"{tmp_path}/service/jobs/j1"
    assert settings.host == "127.0.0.1"
    assert settings.limits == read_limits(ROOT / "configs" / "service.yaml")


def test_the_value_travels_whole(monkeypatch, tmp_path):
    monkeypatch.setenv("SWATHE_PORT", "8124")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "key-of-the-first")
    settings = ServiceSettings.read(data_dir=tmp_path)
    sent = pickle.dumps(settings)
    monkeypatch.setenv("SWATHE_PORT", "9")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "another")
    there = pickle.loads(sent)
    assert (there.port, there.pepper) == (8124, settings.pepper)
    assert there.store.key == "key-of-the-first"
    assert there.network == settings.network


def test_the_pepper_is_made_once_and_private(tmp_path):
    found = []
    threads = [threading.Thread(target=lambda: found.append(kept_pepper(tmp_path / "service"))) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(set(found)) == 1
    assert len(found[0]) == 64
    assert stat.S_IMODE((tmp_path / "service" / "pepper").stat().st_mode) == 0o600
    assert [p.name for p in (tmp_path / "service").iterdir()] == ["pepper"]


def test_a_data_folder_that_is_a_file_is_named(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match="cannot be made"):
        ServiceSettings.read(data_dir=tmp_path / "file")


def test_searched_imagery_reads_no_files_of_this_machine(tmp_path):
    assert ServiceSettings.read(data_dir=tmp_path).network.local_root == tmp_path / "service" / "nothing"
    opened = ServiceSettings.read(data_dir=tmp_path, local_roots=(tmp_path / "open",))
    assert opened.network.local_root == tmp_path / "open"


def test_searched_imagery_reads_nothing_that_is_kept_for_other_users(tmp_path):
    """Files are named by the desk, after it has looked; scenes name their objects themselves."""
    settings = ServiceSettings.read(data_dir=tmp_path, results="s3://bucket/maps")
    searched = settings.network_for(Recipe("m", search=Search("earth-search", ("2024-07-25",))))
    for href in ("s3://bucket/maps/jobs/j1/result.tif", "s3://bucket/maps", "s3://BUCKET/maps/x.tif"):
        with pytest.raises(ImageryError, match="belongs to the service"):
            look_at(href, searched)
    assert look_at("s3://bucket/mapsy/x.tif", searched) == Stored("bucket", "mapsy/x.tif")
    named = settings.network_for(Recipe("m", ("s3://bucket/maps/uploads/f1/x.tif",)))
    assert look_at("s3://bucket/maps/uploads/f1/x.tif", named) == Stored("bucket", "maps/uploads/f1/x.tif")


def test_objects_are_read_in_buckets_that_were_opened_for_users(tmp_path):
    """The credentials are the service's, whoever names the address and however it is written."""
    closed = ServiceSettings.read(data_dir=tmp_path).network
    opened = ServiceSettings.read(data_dir=tmp_path, results="s3://maps/all", s3_buckets="tiles, scenes").network
    assert (closed.buckets, opened.buckets) == ((), ("maps/all", "scenes", "tiles"))
    assert Settings(data_dir=tmp_path).network.buckets is None
    with Fetcher(opened) as fetcher:
        for href, code in (("s3://theirs/x.tif", "url.bucket"), ("S3://theirs/x.tif", "url.scheme"),
                           ("s3://maps/other/x.tif", "url.bucket"), ("s3://scenes-2/x.tif", "url.bucket"),
                           ("S3://maps/all/uploads/f1/x.tif", "url.scheme")):  # fmt: skip
            with pytest.raises(ImageryError) as caught:
                fetcher.facts(href)
            assert caught.value.problem.code == code


def test_a_search_s_estimate_reads_nothing_that_is_kept_for_other_users(tmp_path):
    settings = ServiceSettings.read(data_dir=tmp_path, results="s3://bucket/maps")
    assert settings.network_of_strangers.closed == "s3://bucket/maps"
    assert settings.network.closed == ""


def test_how_large_images_and_archives_may_be_is_set(monkeypatch, tmp_path):
    usual = Settings(data_dir=tmp_path)
    assert (usual.network.limits, usual.unpacking) == (ImageLimits(), AS_USUAL)
    given = {"IMAGE_SIDE": 5000, "BLOCK_MB": 16, "WHOLE_PIXELS": 1_000_000, "ARCHIVE_MB": 200}
    for name, value in given.items():
        monkeypatch.setenv(f"SWATHE_MAX_{name}", str(value))
    settings, service = Settings(data_dir=tmp_path), ServiceSettings.read(data_dir=tmp_path)
    for limits in (settings.network.limits, service.network.limits, service.network_of_strangers.limits):
        assert (limits.side, limits.block_mb, limits.pixels) == (5000, 16, 1_000_000)
    assert settings.unpacking.limits == ArchiveLimits(200, 500, 200, side=5000)
    taken = service.unpacking.limits
    assert (taken.side, taken.archive_mb) == (5000, service.limits.max_upload_mb)


@pytest.mark.parametrize("name", ["IMAGE_SIDE", "BLOCK_MB", "WHOLE_PIXELS", "ARCHIVE_MB"])
def test_a_bound_that_is_none_is_named(monkeypatch, name):
    for value in ("0", "-1", "large"):
        monkeypatch.setenv(f"SWATHE_MAX_{name}", value)
        with pytest.raises(InputError) as caught:
            Settings.from_environment()
        assert (caught.value.problem.code, caught.value.field) == ("settings.invalid", f"SWATHE_MAX_{name}")


def test_weights_of_members_have_bounds_and_one_s_own_have_none(tmp_path):
    (tmp_path / "limits.yaml").write_text("max_weights_mb: 7\nweights_s: 90\n")
    service = ServiceSettings.read(data_dir=tmp_path, service_config=tmp_path / "limits.yaml")
    assert (service.home.max_mb, service.home.fetch_s, service.home.public_only) == (7, 90, True)
    own = Settings.from_environment(data_dir=tmp_path).home
    assert (own.max_mb, own.fetch_s, own.cache) == (None, None, service.home.cache)


def test_the_shipped_limits_say_every_field_as_it_is_without_a_file():
    shipped = read_limits(ROOT / "configs" / "service.yaml")
    assert shipped.model_copy(update={"models": ("*",)}) == Limits()
    text = (ROOT / "configs" / "service.yaml").read_text()
    assert all(f"\n{name}:" in text for name in Limits.model_fields)


@pytest.mark.parametrize(("text", "field"), [
    ("pool_seconds: 3", "pool_seconds"), ("pool_s: fast", "pool_s"), ("running_per_user: 0", "running_per_user"),
    ("- a list", ""), ("a: [", "SWATHE_SERVICE_CONFIG"),
])  # fmt: skip
def test_limits_that_do_not_hold_name_the_field(tmp_path, text, field):
    (tmp_path / "mine.yaml").write_text(text)
    with pytest.raises(InputError) as caught:
        ServiceSettings.read(data_dir=tmp_path, service_config=tmp_path / "mine.yaml")
    assert caught.value.field == field


def test_a_file_that_is_not_there_is_named():
    with pytest.raises(InputError, match=r"gone\.yaml"):
        read_limits(Path("/nowhere/gone.yaml"))


def test_estimated_seconds_decide_the_place():
    limits = Limits(online_s=5, pool_s=60)
    assert [limits.place_of(s) for s in (0, 5, 5.1, 60, 61)] == [
        Where.ONLINE, Where.ONLINE, Where.POOL, Where.POOL, Where.CLUSTER,
    ]  # fmt: skip


def test_workers_of_the_pool_are_the_cores_that_a_container_may_use(monkeypatch):
    from cluster import machine

    monkeypatch.setattr(machine, "_quota", lambda _: 1.0)
    assert (Limits().hands, Limits(pool_workers=3).hands, Limits(pool_workers=3).crew) == (1, 3, 3)


def test_models_are_enabled_by_patterns():
    limits = Limits(models=("water-*", "snow-ndsi"))
    assert [limits.enables(m) for m in ("water-ndwi", "snow-ndsi", "snow-other")] == [True, True, False]
