"""Settings: read once, at the entry points, from ``SWATHE_…`` and the field's own variables; then passed down."""

from __future__ import annotations

import os
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from pydantic import AliasChoices, Field
from pydantic_settings import BaseSettings, SettingsConfigDict

from models.weights import ModelHome
from swathe.imagery import is_remote

if TYPE_CHECKING:
    from pipelines.remote.network import Network
    from pipelines.store.blobs import StoreSettings
    from swathe.recipe import Recipe
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
    allow_private_urls: bool = False
    """Whether loopback and private addresses may be read: one's own network."""
    catalogue: bool = True
    """Whether results are put into the catalogue of this machine (``swathe catalog``)."""
    cache_mb: int = 512
    """Of imagery fetched over a network, kept on each node; 0: none."""
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

    @cached_property
    def sources(self) -> dict[str, SourceCard]:
        """All source cards."""
        from pipelines.search.sources import load_sources

        return load_sources(self.source_folders)

    @cached_property
    def network(self) -> Network:
        """How imagery is fetched, with the secrets that source cards name."""
        from pipelines.remote.network import Network
        from pipelines.remote.secrets import AWS, Secrets

        named = {auth.secret for card in self.sources.values() for auth in (card.auth, card.search_auth) if auth.secret}
        return Network(
            allow_private=self.allow_private_urls, cache_dir=self.data_dir / "fetched", cache_mb=self.cache_mb,
            secrets=Secrets.read(os.environ, (*sorted(named), *AWS)), s3_endpoint=self.s3_endpoint,
            s3_anonymous=self.s3_anonymous,
        )  # fmt: skip

    def network_for(self, recipe: Recipe) -> Network | None:
        """None where all imagery lies on this machine: then no secret is read, and none travels."""
        from pipelines.inputs import parse_input

        far = recipe.search is not None or any(is_remote(parse_input(text).href) for text in recipe.inputs)
        return self.network if far else None

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
            s3_anonymous=self.s3_anonymous,
        )  # fmt: skip

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
