"""The desk: every use case of the service in our own words. It knows no HTTP and no Ray; APIs speak to it alone."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

from serve.desk.adoption import Adoption
from serve.desk.archives import Archives
from serve.desk.audit import Audit
from serve.desk.batches import Batches
from serve.desk.catalogue import Holdings
from serve.desk.jobs import Jobs
from serve.desk.keys import Keys
from serve.desk.layers import Layers
from serve.desk.links import UPLOAD, Kind, Links
from serve.desk.models import Models
from serve.desk.predict import Predictions
from serve.desk.presets import Presets
from serve.desk.processors import KIND as PROCESSOR
from serve.desk.processors import Processors
from serve.desk.projects import Projects
from serve.desk.sources import Sources
from serve.desk.uploads import Uploads
from serve.desk.usage import Usage
from serve.desk.users import Users

if TYPE_CHECKING:
    from serve.settings import ServiceSettings
    from serve.store.store import Store


WARM = ("pipelines.begin", "pipelines.searched", "pipelines.estimate", "pipelines.catalogue.plain", "pipelines.online",
        "pipelines.layers.draw")  # fmt: skip
"""What is imported late, because a command line need not load it."""


class Desk:
    """All of it. Calls block; from an event loop they are made in threads.

    Each takes the caller first, checks what they may, and raises nothing but SwatheError; what somebody may not see
    is NotFoundError. Changes stand with their line of the audit log or not at all.
    """

    def __init__(self, settings: ServiceSettings, store: Store) -> None:
        self.settings = settings
        self.store = store
        self.models = Models(settings, store)
        self.jobs = Jobs(settings, store, self.models)
        self.batches = Batches(settings, store, self.jobs)
        self.presets = Presets(store)
        self.layers = Layers(settings, self.jobs, self.models)
        self.predictions = Predictions(settings, store, self.models)
        self.uploads = Uploads(settings, store)
        self.adoption = Adoption(settings, self.models, self.uploads)
        self.sources = Sources(settings)
        self.processors = Processors(settings, store)
        self.projects = Projects(settings, store)
        self.keys = Keys(settings, store)
        self.users = Users(settings, store)
        self.usage = Usage(settings, store)
        self.archives = Archives(settings, store, self.jobs)
        self.links = Links(settings, store, {
            "file": Kind(self.jobs.file_name, self.jobs.content),
            "log": Kind(self.jobs.log_name, self.jobs.log),
            "archive": Kind(self.archives.named, self.archives.content),
            PROCESSOR: Kind(self.processors.file_name, self.processors.content),
            UPLOAD: Kind(self.uploads.content_name, self.uploads.content),
        })  # fmt: skip
        self.catalogue = Holdings(settings, store, self.uploads)
        self.audit = Audit(store)

    def warm(self) -> None:
        """Load what the first request would wait for: imports, cards, how well scripts can be shut in."""
        for name in WARM:
            import_module(name)
        self.models.enabled()
        from pipelines.sandbox.isolation import isolation

        isolation()
