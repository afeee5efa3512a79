"""A proxy on this machine that spoils requests in the ways in which networks and stores do."""

from __future__ import annotations

import contextlib
import http.client
import random
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

KINDS = ("503", "cut before", "answer lost", "cut body", "slow")
"""What can happen: the store is busy; the connection ends before anything is done; it ends after it was done and before the
answer; the body ends in the middle; the answer comes late."""

Spoil = Callable[[str, str], str | None]
"""Says for method and path of a request how it is spoilt, or None."""


def at_random(share: float, seed: int = 0, calm: int = 1) -> Spoil:
    """Spoil a share of all requests, each kind as often as the others; not the first ones, so that there is a first contact."""
    chance, lock, left = random.Random(seed), threading.Lock(), [calm]

    def spoil(_method: str, _path: str) -> str | None:
        with lock:
            left[0] -= 1
            return chance.choice(KINDS) if left[0] < 0 and chance.random() < share else None

    return spoil


class Proxy:
    """Forwards requests to a server, and spoils some.

    Args:
        port: of the server, on this machine.
        spoil: may be replaced at any time.

    Attributes:
        url: of the proxy.
        seen: how many requests were spoilt in which way; "" for those that were not.
    """

    def __init__(self, port: int, spoil: Spoil) -> None:
        self.port, self.spoil = port, spoil
        self.seen = Counter[str]()
        proxy = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def log_message(self, *_: object) -> None:
                pass

            def _handle(self) -> None:
                self.close_connection = True
                body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
                kind = proxy.spoil(self.command, self.path) or ""
                proxy.seen[kind] += 1
                if kind == "cut before":
                    return
                if kind == "403":
                    self._answer(403, [], b"<Error><Code>AccessDenied</Code></Error>")
                    return
                if kind == "503":
                    self._answer(503, [], b"busy")
                    return
                if kind == "slow":
                    time.sleep(0.3)
                status, headers, content = proxy.forward(self.command, self.path, list(self.headers.items()), body)
                if kind != "answer lost":
                    self._answer(status, headers, content, whole=kind != "cut body")

            do_GET = do_PUT = do_POST = do_DELETE = do_HEAD = _handle

            def _answer(self, status: int, headers: list[tuple[str, str]], content: bytes, whole: bool = True) -> None:
                self.send_response_only(status)
                for name, value in headers:
                    if name.lower() not in ("transfer-encoding", "connection", "content-length"):
                        self.send_header(name, value)
                lengths = [value for name, value in headers if name.lower() == "content-length"]
                length = lengths[0] if lengths and self.command == "HEAD" else None
                self.send_header("Content-Length", length or str(len(content)))
                self.send_header("Connection", "close")
                self.end_headers()
                with contextlib.suppress(OSError):
                    self.wfile.write(content if whole else content[: len(content) // 2])

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self.server.server_address[1]}"

    def forward(
        self, method: str, path: str, headers: list[tuple[str, str]], body: bytes
    ) -> tuple[int, list[tuple[str, str]], bytes]:
        """Ask the server; the header Host stays, since it is signed."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
        with contextlib.closing(connection):
            connection.putrequest(method, path, skip_host=True, skip_accept_encoding=True)
            for name, value in headers:
                connection.putheader(name, value)
            connection.endheaders(body)
            answer = connection.getresponse()
            return answer.status, answer.getheaders(), answer.read()


@contextlib.contextmanager
def proxy_to(port: int, spoil: Spoil) -> Iterator[Proxy]:
    """A proxy that runs as long as the block."""
    proxy = Proxy(port, spoil)
    thread = threading.Thread(target=proxy.server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
    thread.start()
    try:
        yield proxy
    finally:
        proxy.server.shutdown()
        proxy.server.server_close()
