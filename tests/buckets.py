"""Buckets of S3 on this machine, for tests: moto serves them from memory."""

from __future__ import annotations

import contextlib
import itertools
import logging
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

SECRET = "marker-SECRET-that-must-not-be-written"
KEY_ID = "AKIAMARKERKEYID"
_NUMBERS = itertools.count()


@dataclass(frozen=True)
class Bucket:
    """A bucket.

    Attributes:
        name: of it.
        port: of its server, on this machine.
        client: boto3's, which writes to it: another program than the one that is tested.
    """

    name: str
    port: int
    client: Any

    @property
    def url(self) -> str:
        return f"s3://{self.name}"

    def put(self, files: Mapping[str, bytes]) -> None:
        for key, content in files.items():
            self.client.put_object(Bucket=self.name, Key=key, Body=content)

    def put_folder(self, folder: Path, prefix: str = "") -> None:
        self.put(
            {
                prefix + file.relative_to(folder).as_posix(): file.read_bytes()
                for file in folder.rglob("*")
                if file.is_file()
            }
        )

    def beside(self, name: str) -> Bucket:
        """A new bucket with this name, of the same server."""
        self.client.create_bucket(Bucket=name)
        return Bucket(name, self.port, self.client)

    def delete(self, key: str) -> None:
        self.client.delete_object(Bucket=self.name, Key=key)


@contextlib.contextmanager
def served_by_moto() -> Iterator[int]:
    """The port of a server."""
    pytest.importorskip("moto")
    pytest.importorskip("flask_cors")
    from moto.server import ThreadedMotoServer

    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    server = ThreadedMotoServer("127.0.0.1", 0, verbose=False)
    server.start()
    try:
        yield server.get_host_and_port()[1]
    finally:
        server.stop()


def new_bucket(port: int) -> Bucket:
    """A new bucket of a server."""
    boto3 = pytest.importorskip("boto3")
    client = boto3.client(
        "s3",
        endpoint_url=f"http://127.0.0.1:{port}",
        region_name="us-east-1",
        aws_access_key_id=KEY_ID,
        aws_secret_access_key=SECRET,
    )
    bucket = Bucket(f"bucket-{next(_NUMBERS)}", port, client)
    client.create_bucket(Bucket=bucket.name)
    return bucket


def use(monkeypatch: pytest.MonkeyPatch, home: Path, endpoint: str) -> None:
    """Let this process find its buckets at an endpoint, with the credentials of the tests and no others."""
    from isc_fast.stores.store import store_of

    for name in ("AWS_PROFILE", "AWS_SESSION_TOKEN", "AWS_ENDPOINT", "AWS_ENDPOINT_URL_S3", "AWS_SKIP_SIGNATURE"):
        monkeypatch.delenv(name, raising=False)
    values = {
        "AWS_ENDPOINT_URL": endpoint,
        "AWS_ACCESS_KEY_ID": KEY_ID,
        "AWS_SECRET_ACCESS_KEY": SECRET,
        "AWS_REGION": "us-east-1",
        "AWS_CONFIG_FILE": str(home / "no-config"),
        "AWS_SHARED_CREDENTIALS_FILE": str(home / "no-credentials"),
    }
    for name, value in values.items():
        monkeypatch.setenv(name, value)
    store_of.cache_clear()  # it has the endpoint of the last test
