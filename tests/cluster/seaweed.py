"""A server of S3 on this machine that checks signatures and keeps its data on the disk: SeaweedFS (dependency group cluster)."""

from __future__ import annotations

import json
import shutil
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

KEY_ID, SECRET = "AKIACLUSTER", "secret-of-the-cluster"
_PATIENCE_S = 120


def _free_port() -> int:
    """A port that is free, and so is the one 10,000 above, which SeaweedFS takes for gRPC."""
    while True:
        with socket.socket() as one, socket.socket() as other:
            one.bind(("127.0.0.1", 0))
            port: int = one.getsockname()[1]
            try:
                other.bind(("127.0.0.1", port + 10_000))
            except (OSError, OverflowError):
                continue
            return port


class Seaweed:
    """The server; it may be killed and started again on the same data.

    Args:
        folder: for its data.
    """

    def __init__(self, folder: Path) -> None:
        self.folder, self.port = folder, _free_port()
        self._others = [_free_port() for _ in range(3)]
        folder.mkdir(parents=True)
        identity = {"name": "tests", "credentials": [{"accessKey": KEY_ID, "secretKey": SECRET}], "actions": ["Admin"]}
        (folder.parent / "s3.json").write_text(json.dumps({"identities": [identity]}))
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def client(self) -> Any:
        import boto3

        return boto3.client(
            "s3",
            endpoint_url=self.url,
            region_name="us-east-1",
            aws_access_key_id=KEY_ID,
            aws_secret_access_key=SECRET,
        )

    def start(self) -> None:
        """Start it, and wait until it answers."""
        weed = shutil.which("weed", path=str(Path(sys.executable).parent)) or "weed"
        master, volume, filer = map(str, self._others)
        command = [
            weed,
            "server",
            "-ip=127.0.0.1",
            "-ip.bind=127.0.0.1",
            f"-dir={self.folder}",
            f"-master.port={master}",
        ]
        command += [
            f"-volume.port={volume}",
            f"-filer.port={filer}",
            "-filer",
            "-s3",
            f"-s3.port={self.port}",
            "-volume.max=30",
        ]
        command += [f"-s3.config={self.folder.parent / 's3.json'}", "-s3.iam=false", "-master.volumeSizeLimitMB=64"]
        with open(self.folder.parent / "weed.log", "ab") as log:
            self._process = subprocess.Popen(command, stdout=log, stderr=log, cwd=self.folder.parent)
        until = time.monotonic() + _PATIENCE_S
        while True:
            try:
                self.client().create_bucket(Bucket="probe")
                return
            except Exception as error:
                if "BucketAlready" in str(error):
                    return
                if time.monotonic() > until or self._process.poll() is not None:
                    raise RuntimeError(f"SeaweedFS does not start; see {self.folder.parent / 'weed.log'}") from error
                time.sleep(0.5)

    def kill(self) -> None:
        """End it at once: it takes long to end when it is asked to."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None
