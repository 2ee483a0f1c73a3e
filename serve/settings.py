"""Settings: read once, at the entry points, from ``SWATHE_…`` and the field's own variables; then passed down."""

from __future__ import annotations

import os
import secrets
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, Self

from pydantic import AliasChoices, Field, ValidationError, field_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from models.weights import ModelHome
from swathe.errors import InputError, OutputError
from swathe.imagery import is_remote

if TYPE_CHECKING:
    from pipelines.imagery.archive import Unpacking
    from pipelines.imagery.limits import Limits as ImageLimits
    from pipelines.masking.geojson import ShapeLimits
    from pipelines.masking.shapes_file import Reach
    from pipelines.remote.network import Network
    from pipelines.sandbox.bounds import Bounds
    from pipelines.steps.treatment import Treatment
    from pipelines.store.blobs import Blobs, StoreSettings
    from serve.desk.limits import Limits
    from serve.store.store import Store
    from swathe.masking import Masking, MaskLayer
    from swathe.recipe import Recipe
    from swathe.sensor import SensorProfile
    from swathe.source import SourceCard

ROOT = Path(__file__).resolve().parent.parent


class Settings(BaseSettings):
    """What may be set from outside; ``swathe doctor`` prints it."""

    model_config = SettingsConfigDict(env_prefix="SWATHE_", frozen=True, extra="ignore", env_ignore_empty=True)

    data_dir: Path = Field(default_factory=lambda: Path.home() / ".local" / "share" / "swathe")
    """Weights, artefacts, the record of a kept Ray."""
    models_dir: Path | None = None
    """A folder of one's own model cards, beside the shipped ones."""
    sensors_dir: Path = ROOT / "configs" / "sensors"
    """Sensor profiles."""
    sources_dir: Path | None = None
    """A folder of one's own source cards, beside the shipped ones."""
    layers_dir: Path | None = None
    """A folder of one's own cards of layers that masks come from, beside the shipped ones."""
    allow_private_urls: bool = False
    """Whether loopback and private addresses may be read: one's own network."""
    catalogue: bool = True
    """Whether results are put into the catalogue of this machine (``swathe catalog``)."""
    cache_mb: int = 512
    """Of imagery fetched over a network, kept on each node; 0: none."""
    max_image_side: int = Field(default=4_000_000, ge=1)
    """Rows or columns of an image at an address or from an archive. The whole Earth at 10 m has 4 million columns."""
    max_block_mb: int = Field(default=128, ge=1)
    """Of a block of such an image, decoded, with all bands that are stored together."""
    max_whole_pixels: int = Field(default=1 << 30, ge=1)
    """Of an image that can be decoded as a whole only (PNG, JPEG, JPEG 2000 in one tile): rows x columns x bands."""
    max_archive_mb: float = Field(default=20_000, gt=0)
    """Of a zip among the inputs, packed; a service has ``max_upload_mb`` instead."""
    max_shapes_mb: float = Field(default=32, gt=0, le=1024)
    """Of a vector file that a result is masked by, in MiB."""
    max_shapes_points: int = Field(default=1_000_000, ge=1, le=100_000_000)
    """Corners and points in such a file; four times as many with those that long lines get in between."""
    link_mbit_s: float = Field(default=100.0, gt=0)
    """Megabits a second that imagery comes with: what an estimate of seconds reckons with."""
    mirror_dir: Path | None = None
    """Weights carried here by hand."""
    offline: bool = False
    """Never touch the network for weights."""
    ray_address: str | None = Field(default=None, validation_alias="RAY_ADDRESS")
    """An existing Ray to run on."""
    ray_auth_mode: Literal["disabled", "token"] | None = Field(default=None, validation_alias="RAY_AUTH_MODE")
    """Whether a Ray that we start asks for a token."""
    hf_home: Path | None = Field(default=None, validation_alias="HF_HOME")
    """Hugging Face's folder: what its tools fetched is used."""
    hf_token: str = Field(default="", validation_alias="HF_TOKEN", repr=False)
    """For gated models."""
    hf_endpoint: str = Field(default="https://huggingface.co", validation_alias="HF_ENDPOINT")
    """Hugging Face, or a mirror of it."""
    hf_offline: bool = Field(default=False, validation_alias="HF_HUB_OFFLINE")
    """As ``offline``, in Hugging Face's own word."""
    s3_endpoint: str = Field(default="", validation_alias=AliasChoices("AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL"))
    """Of an S3 that is not Amazon's."""
    s3_region: str = Field(default="", validation_alias=AliasChoices("AWS_REGION", "AWS_DEFAULT_REGION"))
    """Of buckets."""
    s3_anonymous: bool = Field(default=False, validation_alias="AWS_NO_SIGN_REQUEST")
    """Ask S3 without credentials."""

    @classmethod
    def from_environment(cls, **given: Any) -> Self:
        """``given`` goes before the environment. Raises InputError (``settings.invalid``) naming the variable."""
        try:
            return cls(**given)
        except ValidationError as error:
            fault = error.errors(include_url=False)[0]
            name = str(fault["loc"][0])
            variable = name if name.isupper() else f"SWATHE_{name.upper()}"
            raise InputError(f"{variable}: {fault['msg']}", code="settings.invalid", field=variable,
                             hint="set it to something else, or not at all") from None  # fmt: skip

    @cached_property
    def sources(self) -> dict[str, SourceCard]:
        """All source cards."""
        from pipelines.search.sources import load_sources

        return load_sources(self.source_folders)

    @cached_property
    def layers(self) -> dict[str, MaskLayer]:
        """All cards of layers that masks come from."""
        from pipelines.masking.layers import load_layers

        return load_layers((ROOT / "configs" / "layers", self.layers_dir or self.data_dir / "layers"))

    def treatments(self, recipe: Recipe, bounds: Bounds | None = None) -> tuple[Treatment, ...]:
        """Steps after the model that a recipe asks for; ``bounds`` of a user's script."""
        from pipelines.steps.chosen import treatments_of

        masking = recipe.postprocess.masking
        return treatments_of(recipe, bounds, self.layers if masking else {}, self._reach_of(masking))

    def _reach_of(self, masking: Masking | None) -> Reach:
        """Where no address is read no secret is either."""
        from pipelines.masking.shapes_file import Reach
        from pipelines.remote.network import Network

        far = masking is not None and masking.shapes is not None and is_remote(masking.shapes.href)
        return Reach(self.network if far else Network(), self.shape_limits)

    @cached_property
    def sensors(self) -> dict[str, SensorProfile]:
        """All sensor profiles."""
        from pipelines.imagery.sensors import load_sensors

        return load_sensors(self.sensors_dir)

    @cached_property
    def network(self) -> Network:
        """How imagery is fetched, with the secrets that source cards name."""
        from pipelines.remote.network import Network
        from pipelines.remote.secrets import Secrets, names_of

        named = names_of(auth for card in self.sources.values() for auth in (card.auth, card.search_auth))
        return Network(
            allow_private=self.allow_private_urls, cache_dir=self.data_dir / "fetched", cache_mb=self.cache_mb,
            secrets=Secrets.read(os.environ, named), s3_endpoint=self.s3_endpoint, s3_anonymous=self.s3_anonymous,
            limits=self.image_limits,
        )  # fmt: skip

    @property
    def image_limits(self) -> ImageLimits:
        """What files at addresses, and uploads, may claim about themselves."""
        from pipelines.imagery.limits import Limits as ImageLimits

        return ImageLimits(side=self.max_image_side, block_mb=self.max_block_mb, pixels=self.max_whole_pixels)

    @property
    def shape_limits(self) -> ShapeLimits:
        """What is taken of vector files that results are masked by."""
        from pipelines.masking.geojson import ShapeLimits

        return ShapeLimits(self.max_shapes_mb, self.max_shapes_points)

    @cached_property
    def network_of_strangers(self) -> Network:
        """How addresses are read that others wrote: what a search found, configs of networks, what a card names."""
        return self.network

    @property
    def unpacking(self) -> Unpacking:
        """Where archives that are inputs are unpacked, and what is taken of them."""
        from pipelines.imagery.archive import Limits as ArchiveLimits
        from pipelines.imagery.archive import Unpacking

        return Unpacking(limits=ArchiveLimits.of(self.max_archive_mb, self.max_image_side))

    def network_for(self, recipe: Recipe) -> Network | None:
        """None where all imagery lies on this machine: then no secret is read, and none travels."""
        from pipelines.imagery.inputs import parse_input

        if recipe.search is not None:
            return self.network_of_strangers
        far = any(is_remote(parse_input(text).href) for text in recipe.inputs)
        return self.network if far or self._masked_from_afar(recipe) else None

    def _masked_from_afar(self, recipe: Recipe) -> bool:
        masking = recipe.postprocess.masking
        if masking is None:
            return False
        layers = (file for card in self.layers.values() for file in card.files)
        return any(is_remote(href) for href in (*(file.href for file in masking.files), *layers))

    @cached_property
    def store(self) -> StoreSettings:
        """How results are kept on object storage."""
        from pipelines.store.blobs import StoreSettings

        key, secret, token = (os.environ.get(name, "") for name in
                              ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN"))  # fmt: skip
        return StoreSettings(self.s3_endpoint, self.s3_region, self.s3_anonymous, key, secret, token)

    @cached_property
    def home(self) -> ModelHome:
        """Where models live."""
        hub = self.hf_home / "hub" if self.hf_home else Path.home() / ".cache" / "huggingface" / "hub"
        return ModelHome(
            cache=self.data_dir / "models", offline=self.offline or self.hf_offline, mirror=self.mirror_dir,
            hf_endpoint=self.hf_endpoint, hf_cache=hub, hf_token=self.hf_token, s3_endpoint=self.s3_endpoint,
            s3_anonymous=self.s3_anonymous, public_only=self.strangers and not self.allow_private_urls,
        )  # fmt: skip

    def as_environment(self) -> dict[str, str]:
        """What of it was set, for a process of the same machine that has another environment. No secrets."""
        plain = (name for name, field in Settings.model_fields.items() if field.validation_alias is None)
        given = {name: getattr(self, name) for name in plain if name in self.model_fields_set}
        return {f"SWATHE_{name.upper()}": str(value) for name, value in given.items() if value is not None}

    @property
    def strangers(self) -> bool:
        """Whether cards may come from people who must not reach this network."""
        return False

    @property
    def source_folders(self) -> tuple[Path, ...]:
        """Shipped source cards and one's own."""
        return (ROOT / "configs" / "sources", self.sources_dir or self.data_dir / "sources")

    @property
    def own_cards(self) -> Path:
        """Where ``swathe models add`` puts a card."""
        return self.models_dir or self.data_dir / "cards"

    @property
    def card_folders(self) -> tuple[Path, ...]:
        """Shipped cards and one's own."""
        return (ROOT / "configs" / "models", self.own_cards)


Listed = Annotated[tuple[str, ...], NoDecode]
"""In the environment: with commas."""


class ServiceSettings(Settings):
    """What a service is told beside that. A plain value that travels to all its processes: ``read`` it once."""

    host: str = "127.0.0.1"
    """Where it listens; loopback unless told otherwise."""
    port: int = 8000
    """The same."""
    public_url: str = ""
    """Its address as its users see it; empty: as each request says it, see ``trusted_proxies``."""
    trusted_proxies: Listed = ()
    """Addresses and networks whose X-Forwarded headers are believed."""
    cors_origins: Listed = ()
    """Pages of other hosts that may use it from a browser."""
    database_url: str = Field(default="", repr=False)
    """``postgresql://…`` or ``sqlite:///…``; empty: a file in the data folder."""
    results: str = ""
    """Folder or ``s3://bucket/prefix`` of results and uploads; empty: in the data folder."""
    local_roots: Annotated[tuple[Path, ...], NoDecode] = ()
    """Folders of this machine whose files jobs may name, with commas; none: uploads and addresses alone."""
    s3_buckets: Listed = ()
    """Buckets, or ``bucket/prefix``, that jobs may read with the service's credentials, with commas; beside them those
    that a source card names for its own files. None: no others."""
    oidc_issuer: str = ""
    """Identity provider whose tokens are taken beside keys; empty: none."""
    oidc_audience: str = ""
    """What those tokens must be meant for."""
    geoserver_url: str = ""
    """A GeoServer that results may be pushed to, e.g. ``https://maps.example.org/geoserver``; empty: none."""
    geoserver_user: str = "admin"
    """Its account: it has to write workspaces, stores and styles."""
    geoserver_password: str = Field(default="", repr=False)
    """Of that account."""
    service_config: Path = ROOT / "configs" / "service.yaml"
    """Limits and budgets."""
    pepper: str = Field(default="", repr=False)
    """Secret of the digests of keys and of links; empty: made at the first start and kept in the data folder."""

    @field_validator("trusted_proxies", "cors_origins", "local_roots", "s3_buckets", mode="before")
    @classmethod
    def _split(cls, given: object) -> object:
        return tuple(part.strip() for part in given.split(",") if part.strip()) if isinstance(given, str) else given

    @classmethod
    def read(cls, **given: Any) -> Self:
        """From the environment, whole: nothing is read from it again where this value is sent.

        Raises InputError for limits that do not hold together, OutputError where the data folder cannot be written,
        ServiceError where a map server is set that nothing here can speak to.
        """
        from serve.publishing.publisher import publisher_of

        settings = cls.from_environment(**given)
        settings = settings.model_copy(update={"pepper": settings.pepper or kept_pepper(settings.service_dir)})
        _ = settings.network, settings.store, settings.limits, publisher_of(settings)
        return settings

    @property
    def strangers(self) -> bool:
        """Its users add cards."""
        return True

    @property
    def service_dir(self) -> Path:
        """What the service keeps on this machine."""
        return self.data_dir / "service"

    @property
    def database(self) -> str:
        """Its address, settled."""
        return self.database_url or f"sqlite:///{self.service_dir / 'service.sqlite'}"

    @cached_property
    def network(self) -> Network:
        """For addresses that the desk has let in or written itself; for all others there is ``network_of_strangers``.

        As ever, but for files of this machine: searched imagery names them where it likes, and none is read.

        Neither is an object that a user names, unless its bucket is open to users: the credentials are not theirs.
        """
        roots = self.local_roots
        root = roots[0] if len(roots) == 1 else self.service_dir / "nothing"
        return replace(super().network, local_root=root, buckets=self._buckets)

    @property
    def _buckets(self) -> tuple[str, ...]:
        """Those for users; of the others where results and the operator's own layers lie, and nothing beside them."""
        layers = (href for card in self.layers.values() for href in card.files)
        own = (href[len("s3://") :] for href in (self.place, *layers) if href.startswith("s3://"))
        return tuple(sorted({*self.s3_buckets, *own}))

    @cached_property
    def network_of_strangers(self) -> Network:
        """The same without what the service keeps for its users.

        Strangers name objects where they like, and the credentials that would open them are the service's.
        """
        return replace(self.network, closed=self.place) if self.place.startswith("s3://") else self.network

    @cached_property
    def home(self) -> ModelHome:
        """As ever; but cards name what is fetched, and strangers add cards: it is bounded."""
        limits = self.limits
        return replace(super().home, max_mb=limits.max_weights_mb, fetch_s=limits.weights_s)

    @property
    def unpacking(self) -> Unpacking:
        """In its own folder, which all its machines see; within what an upload may have."""
        from pipelines.imagery.archive import Unpacking

        limits = self.limits
        taken = replace(limits.archives, side=self.max_image_side)
        return Unpacking(self.service_dir / "archives", taken, limits.max_archives_mb)

    @cached_property
    def limits(self) -> Limits:
        """Bounds and budgets. Raises InputError."""
        from serve.desk.limits import read_limits

        return read_limits(self.service_config)

    def open_store(self) -> Store:
        """The database, in the newest form of its tables. Raises StoreError."""
        from serve.store.store import Store

        if not self.database_url:
            made(self.service_dir)
        return Store.open(self.database)

    @property
    def place(self) -> str:
        """Where results and uploads lie: a folder, or ``s3://bucket/prefix``."""
        return self.results.rstrip("/") or str(self.service_dir)

    def folder_of(self, job: str) -> str:
        """Where a job's results lie."""
        return f"{self.place}/jobs/{job}"

    def blobs(self, prefix: str) -> Blobs:
        """A part of that place. Raises OutputError."""
        from pipelines.store.blobs import open_blobs

        return open_blobs(self.place, self.store).below(prefix)


def made(folder: Path) -> Path:
    """A folder for what others should not read, made where it is missing. Raises OutputError."""
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(f"{folder} cannot be made: {error.strerror}", code="output.unwritable",
                          hint="choose another with SWATHE_DATA_DIR") from None  # fmt: skip
    return folder


def kept_pepper(folder: Path) -> str:
    """The secret of this installation, made once. Whoever loses it loses all keys. Raises OutputError."""
    path = made(folder) / "pepper"
    _write_once(path, secrets.token_hex(32))
    try:
        return path.read_text().strip()
    except OSError as error:
        raise OutputError(f"{path} cannot be read: {error.strerror}", code="output.unwritable") from None


def _write_once(path: Path, text: str) -> None:
    """Whole or not at all, by the first of several processes."""
    if path.exists():
        return
    fresh = path.with_name(f".{path.name}-{secrets.token_hex(4)}")
    try:
        fresh.touch(mode=0o600)
        fresh.write_text(text)
        os.link(fresh, path)
        fresh.unlink()
    except FileExistsError:
        fresh.unlink()
    except OSError as error:
        raise OutputError(f"{path} cannot be written: {error.strerror}", code="output.unwritable",
                          hint="choose another folder with SWATHE_DATA_DIR") from None  # fmt: skip
