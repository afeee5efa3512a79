"""Buckets of S3 on this machine, for benchmarks and tests: moto serves them from memory."""

from __future__ import annotations

import contextlib
import logging
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

SECRET = "marker-SECRET-that-must-not-be-written"
KEY_ID = "AKIAMARKERKEYID"
OTHERS = ("AWS_PROFILE", "AWS_SESSION_TOKEN", "AWS_ENDPOINT", "AWS_ENDPOINT_URL_S3", "AWS_SKIP_SIGNATURE")
"""Variables that would lead elsewhere."""


@contextlib.contextmanager
def served_by_moto() -> Iterator[int]:
    """The port of a server.

    Raises:
        ImportError: moto, or what it serves with, is not installed.
    """
    import flask_cors  # noqa: F401  moto needs it and does not say so
    from moto.server import ThreadedMotoServer

    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    server = ThreadedMotoServer("127.0.0.1", 0, verbose=False)
    server.start()
    try:
        yield server.get_host_and_port()[1]
    finally:
        server.stop()


def client_of(port: int) -> Any:
    """boto3's client of a server: another program than the one that is tried.

    Raises:
        ImportError: boto3 is not installed.
    """
    import boto3

    return boto3.client(
        "s3",
        endpoint_url=f"http://127.0.0.1:{port}",
        region_name="us-east-1",
        aws_access_key_id=KEY_ID,
        aws_secret_access_key=SECRET,
    )


def environment(home: Path, endpoint: str) -> dict[str, str]:
    """What leads a process to an endpoint, with these credentials and no others.

    Args:
        home: a folder without files of AWS's tools.
        endpoint: of the server.
    """
    return {
        "AWS_ENDPOINT_URL": endpoint,
        "AWS_ACCESS_KEY_ID": KEY_ID,
        "AWS_SECRET_ACCESS_KEY": SECRET,
        "AWS_REGION": "us-east-1",
        "AWS_CONFIG_FILE": str(home / "no-config"),
        "AWS_SHARED_CREDENTIALS_FILE": str(home / "no-credentials"),
    }


@contextlib.contextmanager
def at(home: Path, endpoint: str) -> Iterator[None]:
    """Let this process find its buckets at an endpoint while the block runs; see `environment`."""
    from isc_fast.stores.store import store_of

    values = environment(home, endpoint)
    before = {name: os.environ.pop(name, None) for name in (*values, *OTHERS)}
    os.environ.update(values)
    store_of.cache_clear()  # it has the endpoint of before
    try:
        yield
    finally:
        for name, value in before.items():
            os.environ.pop(name, None)
            if value is not None:
                os.environ[name] = value
        store_of.cache_clear()
