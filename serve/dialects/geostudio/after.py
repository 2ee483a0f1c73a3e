"""What is done to results afterwards, as they write it."""

from __future__ import annotations

from typing import Annotated, Any
from urllib.parse import urlsplit

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from serve.dialects.geostudio.given import WORDS, Href, is_address, wished, without_nulls
from swathe.masking import BUFFER_M_MAX

MASKS = ("cloud_masking", "snow_ice_masking", "permanent_water_masking", "ocean_masking")
SHAPES_CODE = 90
"""What they write where the shapes of ``mask_from_url`` are."""


class MaskFromUrl(BaseModel):
    """A vector file whose shapes are masked."""

    model_config = ConfigDict(extra="ignore", allow_inf_nan=False)

    url: Href
    buffer_size_m: Annotated[float, Field(ge=0, le=BUFFER_M_MAX)] = 100.0

    _null_is_absent = model_validator(mode="before")(without_nulls)

    @field_validator("url")
    @classmethod
    def _address(cls, text: str) -> str:
        if not is_address(text):
            raise ValueError("url is no address: http://, https:// or s3://")
        return text

    def wish(self) -> dict[str, Any]:
        """In our words."""
        return {"url": self.url, "buffer_m": self.buffer_size_m, "code": SHAPES_CODE}


class PostProcessing(BaseModel):
    """What is wished. true, "True" and an object all mean yes."""

    model_config = ConfigDict(extra="allow", protected_namespaces=())

    cloud_masking: bool = False
    snow_ice_masking: bool = False
    permanent_water_masking: bool = False
    ocean_masking: bool = False
    regularization: bool = False
    regularization_custom: list[dict[str, Any]] = []
    mask_from_url: MaskFromUrl | None = None
    download_scripts: Any = None

    _null_is_absent = model_validator(mode="before")(without_nulls)

    @field_validator("download_scripts")
    @classmethod
    def _not_here(cls, given: Any) -> None:
        """A result that lacks what was wished is not to pass for one that has it."""
        if wished(given):
            raise ValueError("download_scripts is not known here: bring the script as a generic processor")

    @field_validator("mask_from_url", mode="before")
    @classmethod
    def _no_file(cls, given: Any) -> Any:
        """A form that was not filled in has an empty url; one without any lacks it."""
        if not wished(given) or (isinstance(given, dict) and not wished(given.get("url", True))):
            return None
        if not isinstance(given, dict):
            raise ValueError('it is an object: {"url": ..., "buffer_size_m": 100}')  # noqa: TRY004  pydantic's way to say 422
        return given

    @field_validator(*MASKS, "regularization", mode="before")
    @classmethod
    def _yes(cls, given: Any) -> Any:
        if isinstance(given, str):
            return WORDS.get(given.strip().lower(), given)
        return bool(given) if isinstance(given, dict) else given

    def asked(self) -> tuple[str, ...]:
        """Names of what is wanted that need no more than a name."""
        own = tuple(name for name in (*MASKS, "regularization") if getattr(self, name))
        return own + (("regularization",) if self.regularization_custom and not self.regularization else ())


def expect_no_secret(options: PostProcessing) -> None:
    """Raises ValueError for an address of a model's own that holds more than a place: others use the model, too."""
    mask = options.mask_from_url
    if mask is not None and urlsplit(mask.url).query:
        raise ValueError("mask_from_url: the address of a model's mask has no query, which its other users would see; "
                         "name it in the wish")  # fmt: skip
