"""Everything that can go wrong, as one tree; what a person is told about it, as one value.

    SwatheError                      base; never raised itself
    ├── InputError                   the request is wrong; nothing was done (exit 2)
    │   ├── ImageryError             a file cannot be read, or is not what was announced
    │   │   ├── GridError            no CRS, rotated, mixed grids, an area outside the image
    │   │   └── BandError            a band is missing, unknown or named twice
    │   ├── AreaError                an area of interest that is no area
    │   ├── CardError                a model card that does not hold together
    │   ├── UnknownModelError        no card of that id
    │   ├── WeightsError             weights missing, corrupt, unverifiable
    │   ├── UnsafeModelError         a config or checkpoint asks for code we do not run
    │   ├── OutputError              the output folder is taken, read-only or full
    │   ├── AccessError              who asks is not known
    │   │   └── ForbiddenError       who asks is known, and may not
    │   ├── NotFoundError            there is no such thing, or it is somebody else's
    │   ├── ConflictError            the thing is not in a state for this, or has changed meanwhile
    │   └── LimitError               more than is allowed: of a size (422, 413), or at this time (BusyError)
    │       └── BusyError            come again later; says when
    ├── StoreError                   the service's database or storage is out of reach
    ├── ServiceError                 told by a client: the service cannot be reached, or what it says is not understood
    ├── ReadError                    imagery that was readable at the plan is lost now
    ├── ModelError                   the model failed on a tile (shape, NaN, runtime)
    ├── ClusterError                 Ray cannot be started, reached or kept
    └── Interrupted                  stopped by the user; the run can be resumed (exit 130)

Errors carry a stable ``code``, a ``hint`` that says what to do, and the ``field`` at fault.
``STATUS`` maps each class to an HTTP status and ``EXIT`` to an exit code of the command line.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import ClassVar


@dataclass(frozen=True, slots=True)
class Problem:
    """What went wrong, in the form of RFC 9457 with three fields more."""

    code: str
    """Stable word for programs, e.g. ``imagery.unreadable``."""
    title: str
    """One short sentence, the same for every problem of this code."""
    detail: str
    """What happened this time."""
    hint: str = ""
    """What to do about it."""
    field: str = ""
    """The argument or JSON field at fault."""
    status: int = 500
    """HTTP status."""

    def line(self) -> str:
        """One line for a terminal."""
        hint = f" — {self.hint}" if self.hint else ""
        return f"{self.code}: {self.detail}{hint}"

    def as_dict(self) -> dict[str, object]:
        """RFC 9457 members; empty ones are left out."""
        body = {k: v for k, v in asdict(self).items() if v not in ("", None)}
        return {"type": f"urn:swathe:problem:{self.code}", **body}


class SwatheError(Exception):
    """Base of all errors this project raises on purpose."""

    code: ClassVar[str] = "internal"
    title: ClassVar[str] = "Something went wrong inside swathe."

    def __init__(self, detail: str, *, hint: str = "", field: str = "", code: str = "") -> None:
        """Keep ``detail`` as the message; ``code`` refines the class's own, e.g. ``grid.rotated``."""
        super().__init__(detail)
        self.detail = detail
        self.hint = hint
        self.field = field
        self.refined = code

    def __reduce__(self) -> tuple[object, ...]:
        """Survive the trip between Ray processes with hint, field and code."""
        return _rebuild, (type(self), self.detail, self.hint, self.field, self.refined)

    @property
    def problem(self) -> Problem:
        """The value that is shown, logged or sent."""
        return Problem(
            code=self.refined or self.code,
            title=self.title,
            detail=self.detail,
            hint=self.hint,
            field=self.field,
            status=status_of(type(self)),
        )


def _rebuild(cls: type[SwatheError], detail: str, hint: str, field: str, code: str) -> SwatheError:
    return cls(detail, hint=hint, field=field, code=code)


class InputError(SwatheError):
    """The request is wrong; nothing was done."""

    code = "input"
    title = "The request cannot be carried out as it stands."


class ImageryError(InputError):
    """A file cannot be read, or is not what was announced."""

    code = "imagery"
    title = "The imagery cannot be used."


class GridError(ImageryError):
    """No CRS, rotated, mixed grids, or an area outside the image."""

    code = "grid"
    title = "The imagery's grid cannot be used."


class BandError(ImageryError):
    """A band is missing, unknown or named twice."""

    code = "band"
    title = "The bands do not match."


class AreaError(InputError):
    """An area of interest that is no area."""

    code = "area"
    title = "The area of interest cannot be used."


class CardError(InputError):
    """A model card that does not hold together."""

    code = "card"
    title = "The model card is not valid."


class UnknownModelError(InputError):
    """No card of that id."""

    code = "model.unknown"
    title = "There is no such model."


class WeightsError(InputError):
    """Weights are missing, corrupt or cannot be verified."""

    code = "weights"
    title = "The model's weights cannot be used."


class UnsafeModelError(InputError):
    """A config or checkpoint asks for code that is not on the allow-list."""

    code = "model.unsafe"
    title = "The model asks for code that is not allowed."


class OutputError(InputError):
    """The output folder is taken, read-only or full."""

    code = "output"
    title = "The output cannot be written."


class AccessError(InputError):
    """Who asks is not known: no key, a wrong one, an expired one."""

    code = "access"
    title = "The request is not authorised."


class ForbiddenError(AccessError):
    """Who asks is known, and may not."""

    code = "access.forbidden"
    title = "The key does not allow this."


class NotFoundError(InputError):
    """There is no such thing, or it is somebody else's: the answer is the same."""

    code = "unknown"
    title = "There is no such thing."


class ConflictError(InputError):
    """The thing is not in a state for this, or has changed meanwhile."""

    code = "conflict"
    title = "This cannot be done now."


class LimitError(InputError):
    """More than is allowed: the problem names both numbers."""

    code = "limit"
    title = "This is more than is allowed."


class BusyError(LimitError):
    """Too much at this time; ``retry_after`` says when to come again."""

    code = "busy"
    title = "Too much at this time."

    def __init__(self, detail: str, *, hint: str = "", field: str = "", code: str = "", retry_after: int = 5) -> None:
        """``retry_after``: seconds."""
        super().__init__(detail, hint=hint, field=field, code=code)
        self.retry_after = retry_after


class StoreError(SwatheError):
    """The service's database or storage is out of reach."""

    code = "store"
    title = "The service cannot reach its own storage."


class ServiceError(SwatheError):
    """Told by a client: the service cannot be reached, or what it says is not understood."""

    code = "service"
    title = "The service cannot be used."


class ReadError(SwatheError):
    """Imagery that was readable when the run was planned is lost now."""

    code = "read"
    title = "Part of the imagery could not be read."


class ModelError(SwatheError):
    """The model failed: wrong shape, values that are not finite, a runtime error."""

    code = "model.failed"
    title = "The model failed."


class ClusterError(SwatheError):
    """Ray cannot be started, reached or kept."""

    code = "cluster"
    title = "The Ray cluster cannot be used."


class Interrupted(SwatheError):  # noqa: N818  what users call it; the suffix would say nothing more
    """Stopped by the user; the same command resumes."""

    code = "interrupted"
    title = "The run was interrupted."


STATUS: dict[type[SwatheError], int] = {
    SwatheError: 500,
    InputError: 400,
    ImageryError: 422,
    GridError: 422,
    BandError: 422,
    AreaError: 422,
    CardError: 422,
    UnknownModelError: 404,
    WeightsError: 409,
    UnsafeModelError: 403,
    OutputError: 507,
    AccessError: 401,
    ForbiddenError: 403,
    NotFoundError: 404,
    ConflictError: 409,
    LimitError: 422,
    BusyError: 429,
    StoreError: 503,
    ServiceError: 502,
    ReadError: 502,
    ModelError: 500,
    ClusterError: 503,
    Interrupted: 499,
}

OK, FAILED, BAD_INPUT, INCOMPLETE, INTERRUPTED = 0, 1, 2, 3, 130
"""Exit codes: complete, broken, refused, finished with failed chunks or steps, stopped by the user."""

EXIT: dict[type[SwatheError], int] = {
    SwatheError: FAILED,
    InputError: BAD_INPUT,
    Interrupted: INTERRUPTED,
}


def status_of(error: type[SwatheError]) -> int:
    """HTTP status of an error class, from itself or its nearest ancestor in ``STATUS``."""
    return next(STATUS[c] for c in error.__mro__ if c in STATUS)


def exit_code_of(error: type[SwatheError]) -> int:
    """Exit code of an error class, from itself or its nearest ancestor in ``EXIT``."""
    return next(EXIT[c] for c in error.__mro__ if c in EXIT)
