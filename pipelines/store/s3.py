"""Objects in S3, or anything that speaks its language, through obstore; what the store says, in our words."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal
from uuid import uuid4

from pipelines.store.blobs import NOTHING, Blob, Blobs, Conflict, StoreSettings, checked, expiring
from swathe.errors import OutputError

if TYPE_CHECKING:
    from obstore.store import S3Credential, S3Store

PIECE = 8 << 20
"""Bytes of a part of a multipart upload; four are under way at a time."""
_MOST_PIECES = 9000
"""S3 takes 10 000."""
_ATTEMPTS = 3
"""At a download that breaks off."""
_CODE = re.compile(r"<Code>(\w+)</Code>|\(code: (\w+)\)")
_STATUS = re.compile(r"status code: (\d{3})")
_STRANGERS = {"InvalidAccessKeyId", "SignatureDoesNotMatch", "ExpiredToken", "InvalidToken", "TokenRefreshRequired",
              "RequestTimeTooSkewed"}  # fmt: skip


@dataclass(frozen=True, slots=True)
class S3Blobs(Blobs):
    """See :class:`pipelines.store.blobs.Blobs`. Conditions are S3's own: ``If-None-Match`` and ``If-Match``."""

    bucket: str
    """It has to exist."""
    prefix: str
    """Without slashes at its ends; may be empty."""
    settings: StoreSettings
    """How it is reached."""

    @property
    def place(self) -> str:
        """Bucket and prefix."""
        return f"s3://{self.bucket}/{self.prefix}".rstrip("/")

    def below(self, prefix: str) -> S3Blobs:
        """A longer prefix."""
        return replace(self, prefix=f"{self.prefix}/{checked(prefix)}".lstrip("/"))

    def put(self, name: str, content: bytes, *, over: str | None = None) -> str:
        """One request."""
        import obstore
        from obstore.exceptions import AlreadyExistsError, PreconditionError

        mode: Any = "overwrite" if over is None else "create" if over == NOTHING else {"e_tag": over}
        with self._said():
            try:
                found = obstore.put(self._store, checked(name), content, mode=mode, use_multipart=False)
            except (AlreadyExistsError, PreconditionError):
                raise Conflict(name) from None
            except FileNotFoundError as error:  # to replace what is gone: 404 where others answer 412
                if over and _code(error) == "NoSuchKey":
                    raise Conflict(name) from None
                raise
        return found["e_tag"] or ""

    def put_file(self, name: str, path: Path, *, keep: bool = True) -> None:  # noqa: ARG002  the protocol's
        """A multipart upload where the file has more than one piece. Memory: four pieces."""
        import obstore

        piece = max(PIECE, -(-path.stat().st_size // _MOST_PIECES))
        with self._said():
            obstore.put(self._store, checked(name), path, chunk_size=piece, max_concurrency=4)

    def get(self, name: str) -> bytes:
        """One request."""
        import obstore

        with self._said(reading=True):
            return obstore.get(self._store, checked(name)).bytes().to_bytes()

    def get_range(self, name: str, start: int, stop: int) -> bytes:
        """One ranged request."""
        import obstore

        with self._said(reading=True):
            return obstore.get_range(self._store, checked(name), start=start, end=stop).to_bytes()

    def fetch(self, name: str, path: Path) -> None:
        """Stream it; begun again where the connection breaks off."""
        fresh = path.with_name(f".fresh-{uuid4().hex}")
        try:
            for attempt in range(1, _ATTEMPTS + 1):
                try:
                    with self._said(reading=True):
                        self._pour(name, fresh)
                    break
                except OutputError as error:
                    if attempt == _ATTEMPTS or error.refined != "output.unreachable":
                        raise
            fresh.replace(path)
        finally:
            fresh.unlink(missing_ok=True)

    def _pour(self, name: str, path: Path) -> None:
        import obstore
        from obstore.exceptions import GenericError

        answer = obstore.get(self._store, checked(name))
        with path.open("wb") as file:
            for piece in answer.stream(min_chunk_size=PIECE):
                file.write(piece)
            if file.tell() != answer.meta["size"]:
                raise GenericError("the answer broke off")

    def look(self, name: str) -> Blob | None:
        """One HEAD; where it is refused a GET, as only that says why."""
        import obstore
        from obstore.exceptions import PermissionDeniedError

        with self._said(reading=True):
            try:
                return _blob(obstore.head(self._store, checked(name)))
            except FileNotFoundError:
                return None
            except PermissionDeniedError:
                obstore.get_range(self._store, name, start=0, end=1)
                raise

    def list(self, prefix: str = "") -> Iterator[Blob]:
        """Page by page."""
        import obstore

        with self._said():
            for page in obstore.list(self._store, checked(prefix.rstrip("/")) if prefix else None):
                yield from map(_blob, page)

    def delete(self, names: Iterable[str]) -> None:
        """A thousand a request."""
        import obstore

        chosen = [checked(name) for name in names]
        if chosen:
            with self._said():
                obstore.delete(self._store, chosen)

    def sign(self, name: str, method: Literal["GET", "PUT"], valid: timedelta) -> str | None:
        """Signed here, with version 4; the store enforces the expiry."""
        import obstore

        if self.settings.anonymous:
            return None
        with self._said():
            return obstore.sign(self._store, method, checked(name), expiring(valid))

    @property
    def _store(self) -> S3Store:
        return _opened(self.bucket, self.prefix, self.settings)

    @contextmanager
    def _said(self, *, reading: bool = False) -> Iterator[None]:
        """Turn what obstore raises into one clear problem; when reading, a missing object stays what it is."""
        from obstore.exceptions import BaseError

        try:
            yield
        except FileNotFoundError as error:
            if reading and _code(error) != "NoSuchBucket":
                raise
            raise self._problem(error) from error
        except BaseError as error:
            raise self._problem(error) from error

    def _problem(self, error: Exception) -> OutputError:
        code, status = _code(error), _status(error)
        if code == "NoSuchBucket" or isinstance(error, FileNotFoundError):
            return OutputError(f"there is no bucket {self.bucket}", code="output.bucket", field="--out",
                               hint="make it first, or check the name and the endpoint")  # fmt: skip
        if code in _STRANGERS or status == 401:  # noqa: PLR2004  HTTP's number
            return OutputError(
                f"{self.place}: the store does not accept the credentials ({code or status})",
                code="output.credentials", field="--out", hint="check AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY, "
                "AWS_SESSION_TOKEN or the profile, and AWS_ENDPOINT_URL",
            )  # fmt: skip
        if code in ("AccessDenied", "AllAccessDisabled") or status == 403:  # noqa: PLR2004  HTTP's number
            return OutputError(f"{self.place} may not be written to or read with these credentials",
                               code="output.denied", field="--out",
                               hint="it takes s3:GetObject, PutObject, DeleteObject and ListBucket")  # fmt: skip
        return OutputError(
            f"{self.place} does not answer: {code or _first_line(error)}", code="output.unreachable", field="--out",
            hint="check the endpoint and the network, then run the same command again: it continues where it stopped",
        )  # fmt: skip


@lru_cache(maxsize=32)
def _opened(bucket: str, prefix: str, settings: StoreSettings) -> S3Store:
    """One client a process; it keeps its connections."""
    from obstore.store import S3Store

    config: dict[str, Any] = {}
    region = settings.region or _aws().get_config_variable("region")
    if region:  # else obstore's own: AWS_REGION, or us-east-1
        config["region"] = region
    if settings.endpoint:
        config["endpoint"] = settings.endpoint
    if settings.anonymous:
        config["skip_signature"] = True
    elif settings.key:
        config |= {"access_key_id": settings.key, "secret_access_key": settings.secret}
        config |= {"session_token": settings.token} if settings.token else {}
    else:
        config["credential_provider"] = _credentials(f"s3://{bucket}")
    return S3Store(
        bucket, prefix=prefix or None, **config,
        client_options={
            "allow_http": settings.endpoint.startswith("http://"),
            "timeout": timedelta(seconds=settings.timeout_s),
            "connect_timeout": timedelta(seconds=min(10.0, settings.timeout_s)),
            "user_agent": "swathe",
        },
        retry_config={"max_retries": 10, "retry_timeout": timedelta(seconds=settings.patience_s)},
    )  # fmt: skip


@lru_cache(maxsize=1)
def _aws() -> Any:
    from botocore.session import Session

    return Session()


def _credentials(place: str) -> Callable[[], S3Credential]:
    """AWS's own chain, asked again before what it gave expires. Raises OutputError where it gives nothing."""
    found = _aws().get_credentials()
    if found is None:
        raise OutputError(
            f"there are no credentials for {place}", code="output.credentials", field="--out",
            hint="set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, a profile or a role",
        )  # fmt: skip

    def give() -> S3Credential:
        now = found.get_frozen_credentials()
        return {
            "access_key_id": now.access_key, "secret_access_key": now.secret_key, "token": now.token,
            "expires_at": datetime.now(UTC) + timedelta(minutes=5),
        }  # fmt: skip

    return give


def _blob(facts: Any) -> Blob:
    return Blob(facts["path"], facts["size"], facts["e_tag"] or "", facts["last_modified"])


def _code(error: BaseException) -> str:
    match = _CODE.search(str(error))
    return (match[1] or match[2]) if match else ""


def _status(error: BaseException) -> int:
    match = _STATUS.search(str(error))
    return int(match[1]) if match else 0


def _first_line(error: BaseException) -> str:
    return " ".join(str(error).split("\n\n", maxsplit=1)[0].split())[:200]
