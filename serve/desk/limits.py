"""What the service allows, and which budget decides where a job runs; read from ``configs/service.yaml``."""

from __future__ import annotations

from fnmatch import fnmatchcase
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from swathe.errors import InputError
from swathe.job import Where
from swathe.user import Role

if TYPE_CHECKING:
    from pipelines.imagery.archive import Limits as ArchiveLimits
    from pipelines.sandbox.bounds import Bounds

Count = Annotated[int, Field(ge=1)]
Positive = Annotated[float, Field(gt=0)]


class Limits(BaseModel):
    """Bounds and budgets of a service. See ``configs/service.yaml``, where each is explained."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    online_s: Annotated[float, Field(ge=0)] = 10
    """Seconds up to which a job is small: on the standing pool, in places of its own."""
    pool_s: Annotated[float, Field(ge=0)] = 600
    """Estimated seconds up to which other jobs run on the standing pool; larger ones are Ray jobs."""
    pool_workers: Count | None = None
    """Workers of the standing pool; None: one per core."""
    cluster_workers: Count | None = None
    """Workers that a Ray job is expected to get; None: as many as the pool has."""
    max_area_km2: Positive = 1_000_000
    """Square kilometres of one job."""
    max_pixels: Count = 50_000_000_000
    """Pixels of one result."""
    max_predict_pixels: Count = 4_194_304
    """Pixels of an image that is answered at once: rows x columns."""
    max_predict_s: Positive = 10
    """Estimated seconds of such an answer."""
    max_upload_mb: Positive = 10_000
    """Megabytes of one upload, and of an archive at an address."""
    max_archives_mb: Positive = 50_000
    """Megabytes of all images that were unpacked from archives at addresses and are still kept."""
    max_weights_mb: Positive = 10_000
    """Megabytes of one file of weights that is fetched."""
    weights_s: Positive = 1800
    """Seconds within which such a file has to be here."""
    running_per_user: Count = 4
    """Jobs of one user at work at a time; small ones are counted for themselves, as many again."""
    queued_per_user: Count = 100
    """Jobs of one user that wait."""
    wishes_per_batch: Count = 1000
    """Jobs that one request may ask for."""
    storage_mb: Positive = 200_000
    """Megabytes of results and uploads of one user."""
    area_km2_30d: Positive = 10_000_000
    """Square kilometres of all jobs of one user in 30 days."""
    processor_s: Positive = 900
    """Seconds of a user's script, by the clock."""
    processor_memory_mb: Count = 4096
    """Megabytes of memory of a user's script."""
    processor_output_mb: Count = 4096
    """Megabytes that a user's script may write."""
    open_uploads_per_user: Count = 1000
    """Uploads of one user whose bytes are awaited; after a day without them they go."""
    projects_per_user: Count = 1000
    """Projects of one user."""
    keys_per_user: Count = 100
    """Keys of one user that have not expired; administrators make any number."""
    models_per_user: Annotated[int, Field(ge=0)] = 10
    """Cards that one user may add."""
    model_replicas: Count = 4
    """Replicas of one model that a member added; administrators' have no such bounds."""
    model_warm: Annotated[int, Field(ge=0)] = 1
    """Replicas of such a model that stay while nobody asks."""
    model_memory_gb: Positive = 8
    """Gigabytes of memory of one replica of such a model."""
    model_cpu: Positive = 8
    """Cores of one replica of such a model."""
    model_gpu: Annotated[float, Field(ge=0)] = 1
    """GPUs of one replica of such a model."""
    model_tiles_mb: Positive = 1024
    """Of the tiles that such a model is given at once."""
    rate_per_minute: Count = 600
    """Requests a minute of one user, with all their keys."""
    predict_rate_per_minute: Count = 300
    """Predictions a minute of one user."""
    tile_rate_per_minute: Count = 6000
    """Tiles and maps a minute of one user: a browser asks for dozens at every movement."""
    running_online: Count = 4
    """Small jobs at work on the standing pool at a time."""
    running_pool: Count = 8
    """Other jobs at work on the standing pool at a time."""
    running_cluster: Count = 4
    """Ray jobs at work at a time."""
    lease_s: Positive = 15
    """Seconds after which a silent attempt is taken for dead."""
    max_attempts: Count = 5
    """Attempts of one round of a job."""
    keep_days: Count | None = None
    """Days that results of ended jobs are kept; None: for ever."""
    unused_models_days: Positive | None = 7
    """Days that weights and exported networks which no card names are kept after their last use; None: for ever."""
    unused_models_mb: Positive | None = 50_000
    """Megabytes of them; None: any number."""
    token_role: Role = Role.MEMBER
    """Role of users whom an identity provider vouches for, at their first request."""
    dialects: tuple[str, ...] = ("*",)
    """Other services' APIs that are answered: names of packages in ``serve/dialects``; ``*`` stands for anything."""
    models: tuple[str, ...] = ("*",)
    """Ids of cards that are enabled from the start; ``*`` stands for anything."""

    def place_of(self, seconds: float) -> Where:
        """Where a job of so many estimated seconds runs."""
        if seconds <= self.online_s:
            return Where.ONLINE
        return Where.POOL if seconds <= self.pool_s else Where.CLUSTER

    def enables(self, model: str) -> bool:
        """Whether a model is on as long as nobody has decided otherwise."""
        return any(fnmatchcase(model, pattern) for pattern in self.models)

    @property
    def archives(self) -> ArchiveLimits:
        """What is taken of archives that users bring or name."""
        from pipelines.imagery.archive import Limits as ArchiveLimits

        most = self.max_upload_mb
        return ArchiveLimits(archive_mb=most, file_mb=most * 2, total_mb=most * 5)

    @property
    def bounds(self) -> Bounds:
        """What a user's script may take."""
        from pipelines.sandbox.bounds import Bounds

        return Bounds(self.processor_s, int(2 * self.processor_s), self.processor_memory_mb, self.processor_output_mb)

    @property
    def hands(self) -> int:
        """Workers of the standing pool. Not set, they are as many as this machine has cores: on others, others."""
        from cluster.machine import cores

        return self.pool_workers or cores()

    @property
    def crew(self) -> int:
        """Workers that a Ray job is expected to get."""
        return self.cluster_workers or self.hands


def read_limits(path: Path) -> Limits:
    """Limits of a file. Raises InputError (``limits.unreadable``, ``.invalid``) that names file and field."""
    try:
        document = yaml.safe_load(path.read_text())
        return Limits.model_validate(document or {})
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise InputError(f"{path} cannot be read: {' '.join(str(error).split())[:300]}", code="limits.unreadable",
                         field="SWATHE_SERVICE_CONFIG") from None  # fmt: skip
    except ValidationError as error:
        fault = error.errors(include_url=False)[0]
        where = ".".join(map(str, fault["loc"]))
        raise InputError(f"{path}: {where}: {fault['msg']}", code="limits.invalid", field=where,
                         hint="configs/service.yaml explains every field") from None  # fmt: skip
