"""Settings: read once, at the entry points, from ``SWATHE_…`` and the field's own variables; then passed down."""

from __future__ import annotations

from functools import cached_property
from pathlib import Path
from typing import Literal

from pydantic import Field
from pydantic_settings import BaseSettings, SettingsConfigDict

from models.weights import ModelHome

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
    s3_endpoint: str = Field(default="", validation_alias="AWS_ENDPOINT_URL")
    """Of weights on S3."""
    s3_anonymous: bool = Field(default=False, validation_alias="AWS_NO_SIGN_REQUEST")
    """Ask S3 without credentials."""

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
    def own_cards(self) -> Path:
        """Where ``swathe models add`` puts a card."""
        return self.models_dir or self.data_dir / "cards"

    @property
    def card_folders(self) -> tuple[Path, ...]:
        """Shipped cards and one's own."""
        return (ROOT / "configs" / "models", self.own_cards)
