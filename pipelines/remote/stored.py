"""Objects in S3: where they are asked for, and the signature (botocore's, version 4) that goes with it."""

from __future__ import annotations

import asyncio
import re
import time
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from pipelines.remote.address import Stored
from pipelines.remote.network import Network
from pipelines.remote.secrets import key_names
from swathe.errors import ImageryError
from swathe.source import AMAZON, OWN_KEYS, Auth, AuthKind

if TYPE_CHECKING:
    from botocore.credentials import ReadOnlyCredentials

_GOOD_S = 240.0
"""A signature is used again for so long; S3 takes it for 15 minutes. The range is no part of it, so that one is enough
for all requests of an object."""
_LOOK_S = 60.0
"""Credentials are looked up again after so long, as those of a role change."""
_JUST_S = 1.0
"""Longer ago than another refused request may just have done it."""
_HELD = 8192
_REGION = re.compile(r"[a-z0-9-]{2,32}")
_DEFAULT = "us-east-1"
REGION = "x-amz-bucket-region"
"""The header in which S3 says where a bucket lies."""


@dataclass(frozen=True, slots=True)
class _Ready:
    url: str
    headers: Mapping[str, str] = field(repr=False)
    until: float


@dataclass(frozen=True, slots=True)
class _Found:
    keys: ReadOnlyCredentials | None = field(repr=False)
    at: float


class Bucketeer:
    """Signs requests for objects.

    With the pair of keys that a source names; where it names none with one's own: those of ``Network.secrets``, else of
    AWS's own chain.
    """

    def __init__(self, network: Network) -> None:
        """Nothing is looked up yet."""
        self._network = network
        self._door = asyncio.Lock()
        self._session: Any = None
        self._found: dict[str, _Found] = {}
        self._regions: dict[str, str] = {}
        self._ready: OrderedDict[tuple[Stored, Auth], _Ready] = OrderedDict()

    async def sign(self, place: Stored, auth: Auth) -> tuple[str, Mapping[str, str]]:
        """(url, headers) of a GET. Raises ImageryError (``url.credentials``), InputError (``secret.missing``)."""
        now = time.monotonic()
        found = self._ready.get((place, auth))
        if found is None or found.until < now:
            keys = None if self._anonymous(auth) else await self._keys(auth.keys, _LOOK_S)
            url, headers = self._signed(place, auth, keys)
            found = self._ready[place, auth] = _Ready(url, headers, now + _GOOD_S)
            if len(self._ready) > _HELD:
                self._ready.popitem(last=False)
        return found.url, found.headers

    async def renew(self, place: Stored, auth: Auth, used: Mapping[str, str], answer: Mapping[str, str]) -> bool:
        """After a refusal: whether another region or other credentials are to be tried."""
        found = self._ready.get((place, auth))
        if found is not None and found.headers is used:
            del self._ready[place, auth]
        region = answer.get(REGION, "")
        if not self._endpoint(auth) and _REGION.fullmatch(region) and region != self._region(place, auth):
            self._regions[place.bucket] = region
            return True
        known = self._found.get(auth.keys)
        keys = None if self._anonymous(auth) else await self._keys(auth.keys, _JUST_S)
        return keys is not None and (known is None or keys != known.keys)

    # --- credentials ------------------------------------------------------------------------------------------------

    async def _keys(self, pair: str, fresh_s: float) -> ReadOnlyCredentials | None:
        """Looked up again where that is longer ago."""
        async with self._door:
            known = self._found.get(pair)
            if known is None or time.monotonic() - known.at > fresh_s:
                known = self._found[pair] = _Found(await asyncio.to_thread(self._find, pair), time.monotonic())
            return known.keys

    def _find(self, pair: str) -> ReadOnlyCredentials | None:
        """In a thread: libraries are loaded, and a role's credentials are asked for over the network."""
        import botocore.auth  # noqa: F401  half a second, once
        from botocore.credentials import ReadOnlyCredentials
        from botocore.exceptions import BotoCoreError
        from botocore.session import Session

        if self._session is None:
            self._session = Session()
        secrets, names = self._network.secrets, key_names(pair)
        if pair != OWN_KEYS:  # whoever names a pair means no other
            return ReadOnlyCredentials(secrets.need(names[0]), secrets.need(names[1]), secrets.get(names[2]))
        key, secret, token = map(secrets.get, names)
        if key and secret:
            return ReadOnlyCredentials(key, secret, token)
        try:
            found = self._session.get_credentials()
            return found.get_frozen_credentials() if found is not None else None
        except BotoCoreError:
            return None

    # --- the request ------------------------------------------------------------------------------------------------

    def _signed(self, place: Stored, auth: Auth, keys: ReadOnlyCredentials | None) -> tuple[str, Mapping[str, str]]:
        region = self._region(place, auth)
        url = self._url(place, region, self._endpoint(auth))
        headers = {"x-amz-request-payer": "requester"} if auth.requester_pays else {}
        if keys is None and (self._anonymous(auth) or auth.kind is not AuthKind.S3):
            return url, headers
        if keys is None:
            raise ImageryError(
                f"there are no credentials to read s3://{place.bucket}/{place.key}",
                code="url.credentials",
                hint="set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, a profile or a role",
            )
        from botocore.auth import S3SigV4Auth
        from botocore.awsrequest import AWSRequest
        from botocore.credentials import Credentials

        request = AWSRequest("GET", url, headers=headers)
        S3SigV4Auth(Credentials(keys.access_key, keys.secret_key, keys.token), "s3", region).add_auth(request)
        return url, dict(request.headers.items())

    def _anonymous(self, auth: Auth) -> bool:
        """Whether nothing is signed: keys that a source names are there to be used."""
        return auth.anonymous or (self._network.s3_anonymous and auth.keys == OWN_KEYS)

    def _endpoint(self, auth: Auth) -> str:
        """Where buckets lie; empty: at Amazon, whatever server one's own are kept on."""
        return "" if auth.endpoint == AMAZON else auth.endpoint or self._network.s3_endpoint

    def _region(self, place: Stored, auth: Auth) -> str:
        asked = self._session.get_config_variable("region") if self._session is not None else ""
        found = self._regions.get(place.bucket) or auth.region or asked or _DEFAULT
        if not _REGION.fullmatch(found):
            raise ImageryError("the region of a bucket is no region", code="url.host", hint="us-west-2, for example")
        return found

    def _url(self, place: Stored, region: str, endpoint: str) -> str:
        """Amazon's own by the bucket's name, others by the path, which every S3 understands."""
        key = f"?{place.query}" if place.query else quote(place.key, safe="/-._~")
        if endpoint:
            return f"{endpoint.rstrip('/')}/{place.bucket}/{key}"
        host = f"s3.{region}.amazonaws.com" + (".cn" if region.startswith("cn-") else "")
        if "." in place.bucket or not place.bucket.islower():  # no certificate, or no host, has such a name
            return f"https://{host}/{place.bucket}/{key}"
        return f"https://{place.bucket}.{host}/{key}"
