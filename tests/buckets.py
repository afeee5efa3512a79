"""Buckets of S3 on this machine, for tests: moto serves them from memory."""

from __future__ import annotations

import contextlib
import itertools
import threading
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import local_s3
import pytest
from local_s3 import KEY_ID as KEY_ID
from local_s3 import SECRET as SECRET

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
    """The port of a server; the test is skipped where nothing can serve."""
    for name in ("moto", "flask_cors", "boto3"):
        pytest.importorskip(name)
    with local_s3.served_by_moto() as port:
        yield port


def new_bucket(port: int) -> Bucket:
    """A new bucket of a server."""
    client = local_s3.client_of(port)
    bucket = Bucket(f"bucket-{next(_NUMBERS)}", port, client)
    client.create_bucket(Bucket=bucket.name)
    return bucket


def use(monkeypatch: pytest.MonkeyPatch, home: Path, endpoint: str) -> None:
    """Let this process find its buckets at an endpoint, with the credentials of the tests and no others."""
    from isc_fast.stores.store import store_of

    for name in local_s3.OTHERS:
        monkeypatch.delenv(name, raising=False)
    for name, value in local_s3.environment(home, endpoint).items():
        monkeypatch.setenv(name, value)
    store_of.cache_clear()  # it has the endpoint of the last test


def created_by_eight(store: Any, key: str) -> list[bool]:
    """What eight threads hear that create one object at once, each with bytes of its own."""
    made: list[bool] = []
    threads = [threading.Thread(target=lambda n=n: made.append(store.create(key, b"%d" % n))) for n in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return made
