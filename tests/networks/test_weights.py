from __future__ import annotations

import hashlib
import http.server
import io
import os
import random
import socket
import subprocess
import sys
import threading
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from isc_fast.errors import CheckpointError, DownloadError, IscFastError, OutputError
from isc_fast.networks import download
from isc_fast.networks.torch_files import not_a_torch_file
from isc_fast.networks.weights import RELEASE_URL, RELEASES, Release, fetch_weights, release_url

NAME = "isc_ft_v107"
FILE = "isc_ft_v107.pth.tar"


def zip_of(size: int, seed: int) -> bytes:
    """Bytes that look like what torch.save writes."""
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_STORED) as archive:
        archive.writestr("archive/data/0", random.Random(seed).randbytes(size))
    return stream.getvalue()


class Server:
    """A web server whose manners the tests choose."""

    def __init__(self) -> None:
        self.content = zip_of(1_500_000, 1)
        self.etag: str | None = '"first"'
        self.ranges = True  # knows Range
        self.if_range = True  # knows If-Range
        self.length = True  # says Content-Length
        self.status = 200
        self.cut_after: list[int] = []  # bytes after which the connection of the next answers breaks
        self.failing: list[int] = []  # status of the next answers
        self.requests: list[dict[str, str]] = []
        server = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def log_message(self, *_: Any) -> None:
                pass

            def do_GET(self) -> None:
                server.answer(self)

        self.http = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.http.server_port}/v1.0.1"

    def answer(self, request: http.server.BaseHTTPRequestHandler) -> None:
        self.requests.append({"path": request.path, **{key.lower(): value for key, value in request.headers.items()}})
        status = self.failing.pop(0) if self.failing else self.status
        asked = request.headers.get("Range")
        start, body = 0, self.content
        if status != 200:
            body = b"<html>no</html>"
        elif asked and self.ranges and (not self.if_range or request.headers.get("If-Range") == self.etag):
            start = int(asked.removeprefix("bytes=").rstrip("-"))
            status, body = (206, body[start:]) if start < len(body) else (416, b"")
        request.send_response(status)
        if self.etag:
            request.send_header("ETag", self.etag)
        if status == 206:
            request.send_header("Content-Range", f"bytes {start}-{len(self.content) - 1}/{len(self.content)}")
        if self.length:
            request.send_header("Content-Length", str(len(body)))
        request.end_headers()
        request.wfile.write(body[: self.cut_after.pop(0)] if self.cut_after else body)


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    made = Server()
    thread = threading.Thread(target=made.http.serve_forever, daemon=True)
    thread.start()
    monkeypatch.setenv("ISC_FAST_RELEASE_URL", made.url)
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    monkeypatch.setattr(download, "_BACK_OFF_S", (0.0, 0.0, 0.0))
    yield made
    made.http.shutdown()
    made.http.server_close()
    thread.join()


def whole(folder: Path) -> list[str]:
    """Names of what is there, but for the lock and the digest beside a file that is whole."""
    return sorted(name for name in os.listdir(folder) if not name.endswith((".lock", ".sha256")))


def interrupted(server: Server, cache: Path, after: int) -> None:
    """Leave what a process that was killed during the download leaves."""

    def stop(done: int, _: int | None) -> None:
        if done >= after:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fetch_weights(NAME, cache=cache, progress=stop)
    assert FILE not in os.listdir(cache)
    server.requests.clear()


def test_a_download_arrives_whole_and_reports_its_progress(server: Server, tmp_path: Path) -> None:
    seen: list[tuple[int, int | None]] = []
    path = fetch_weights(NAME, cache=tmp_path, progress=lambda done, total: seen.append((done, total)))
    assert path == tmp_path / FILE
    assert path.read_bytes() == server.content
    assert whole(tmp_path) == [FILE]
    assert server.requests[0]["path"] == f"/v1.0.1/{FILE}"
    size = len(server.content)
    assert seen[0] == (0, size)
    assert seen[-1] == (size, size)
    assert seen == sorted(seen)
    assert len(seen) > 3


def test_what_is_in_the_cache_is_not_asked_for_again(server: Server, tmp_path: Path) -> None:
    first = fetch_weights(NAME, cache=tmp_path)
    server.requests.clear()
    assert fetch_weights(NAME, cache=tmp_path) == first
    assert server.requests == []


def test_a_broken_connection_is_resumed_at_once(server: Server, tmp_path: Path) -> None:
    server.cut_after = [700_000, 300_000]
    path = fetch_weights(NAME, cache=tmp_path)
    assert path.read_bytes() == server.content
    assert [request.get("range") for request in server.requests] == [None, "bytes=700000-", "bytes=1000000-"]
    assert server.requests[1]["if-range"] == '"first"'


def test_an_interrupted_download_is_resumed_later(server: Server, tmp_path: Path) -> None:
    interrupted(server, tmp_path, 600_000)
    seen: list[int] = []
    path = fetch_weights(NAME, cache=tmp_path, progress=lambda done, _: seen.append(done))
    assert path.read_bytes() == server.content
    assert len(server.requests) == 1
    assert int(server.requests[0]["range"].strip("bytes=-")) == seen[0] > 0
    assert whole(tmp_path) == [FILE]


def test_a_part_that_is_whole_needs_no_request(server: Server, tmp_path: Path) -> None:
    interrupted(server, tmp_path, len(server.content))
    assert fetch_weights(NAME, cache=tmp_path).read_bytes() == server.content
    assert server.requests == []


@pytest.mark.parametrize("if_range", [True, False], ids=["knows If-Range", "ignores If-Range"])
def test_a_file_that_changed_on_the_server_starts_again(server: Server, tmp_path: Path, if_range: bool) -> None:
    interrupted(server, tmp_path, 600_000)
    server.content, server.etag, server.if_range = zip_of(1_500_000, 2), '"second"', if_range
    assert fetch_weights(NAME, cache=tmp_path).read_bytes() == server.content
    assert "range" in server.requests[0]


def test_a_file_that_became_shorter_starts_again(server: Server, tmp_path: Path) -> None:
    interrupted(server, tmp_path, 600_000)
    server.content, server.if_range = zip_of(100_000, 3), False  # the server answers 416
    assert fetch_weights(NAME, cache=tmp_path).read_bytes() == server.content


def test_a_server_that_knows_no_ranges(server: Server, tmp_path: Path) -> None:
    server.ranges = False
    server.cut_after = [700_000]
    assert fetch_weights(NAME, cache=tmp_path).read_bytes() == server.content


def test_without_a_validator_nothing_is_pieced_together(server: Server, tmp_path: Path) -> None:
    server.etag, server.if_range = None, False
    interrupted(server, tmp_path, 600_000)
    server.content = zip_of(1_500_000, 4)
    assert fetch_weights(NAME, cache=tmp_path).read_bytes() == server.content
    assert "range" not in server.requests[0]


def test_a_part_from_another_mirror_is_not_used(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    interrupted(server, tmp_path, 600_000)
    monkeypatch.setenv("ISC_FAST_RELEASE_URL", server.url + "/other")
    server.content = zip_of(1_500_000, 5)
    assert fetch_weights(NAME, cache=tmp_path).read_bytes() == server.content
    assert "range" not in server.requests[0]


def test_a_connection_that_keeps_breaking_is_given_up_and_kept(server: Server, tmp_path: Path) -> None:
    server.cut_after = [100_000] * 100
    with pytest.raises(
        DownloadError, match=r"400000 of \d+ bytes, 4 times; 400000 bytes are kept.*run the same command"
    ):
        fetch_weights(NAME, cache=tmp_path)
    assert len(server.requests) == 4
    assert FILE not in whole(tmp_path)
    server.cut_after = []
    assert fetch_weights(NAME, cache=tmp_path).read_bytes() == server.content


def test_a_cut_that_no_length_betrays_is_found(server: Server, tmp_path: Path) -> None:
    server.length = False
    server.cut_after = [700_000]
    with pytest.raises(DownloadError, match="damaged"):
        fetch_weights(NAME, cache=tmp_path)
    assert whole(tmp_path) == []


def test_a_server_with_a_bad_moment_is_asked_again(server: Server, tmp_path: Path) -> None:
    server.failing = [503, 429]
    assert fetch_weights(NAME, cache=tmp_path).read_bytes() == server.content


def test_not_found_says_how_to_go_on(server: Server, tmp_path: Path) -> None:
    server.status = 404
    with pytest.raises(DownloadError) as caught:
        fetch_weights(NAME, cache=tmp_path)
    message = str(caught.value)
    assert "\n" not in message
    for part in (f"{server.url}/{FILE}", "404", "--ckpt", "ISC_FAST_RELEASE_URL"):
        assert part in message
    assert len(server.requests) == 1
    assert whole(tmp_path) == []


def test_a_failure_in_between_keeps_the_part(server: Server, tmp_path: Path) -> None:
    interrupted(server, tmp_path, 600_000)
    server.failing = [404]
    with pytest.raises(DownloadError, match="404"):
        fetch_weights(NAME, cache=tmp_path)
    assert fetch_weights(NAME, cache=tmp_path).read_bytes() == server.content
    assert "range" in server.requests[-1]


@pytest.mark.parametrize(
    ("content", "said"), [(b"<!DOCTYPE html>\n<title>Sign in</title>", "web page"), (b"", "empty"), (b"hello", "text")]
)
def test_what_is_no_weights_file_is_refused(server: Server, tmp_path: Path, content: bytes, said: str) -> None:
    server.content = content
    with pytest.raises(DownloadError, match=said):
        fetch_weights(NAME, cache=tmp_path)
    assert whole(tmp_path) == []
    assert len(server.requests) == 1


def test_nothing_listens(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket() as reserved:
        reserved.bind(("127.0.0.1", 0))
        monkeypatch.setenv("no_proxy", "127.0.0.1")
        monkeypatch.setenv("ISC_FAST_RELEASE_URL", f"http://127.0.0.1:{reserved.getsockname()[1]}")
        with pytest.raises(DownloadError, match="no connection: Connection refused"):
            fetch_weights(NAME, cache=tmp_path)


@pytest.mark.parametrize("url", ["mirror.local/weights", "https://"])
def test_a_mirror_that_is_no_address(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, url: str) -> None:
    monkeypatch.setenv("ISC_FAST_RELEASE_URL", url)
    with pytest.raises(DownloadError, match="ISC_FAST_RELEASE_URL"):
        fetch_weights(NAME, cache=tmp_path)


def test_a_folder_serves_as_a_mirror(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    mirror = tmp_path / "mirror"
    mirror.mkdir()
    content = zip_of(1000, 6)
    (mirror / FILE).write_bytes(content)
    monkeypatch.setenv("ISC_FAST_RELEASE_URL", mirror.as_uri())
    assert fetch_weights(NAME, cache=tmp_path / "cache").read_bytes() == content


def test_two_threads_fetch_once(server: Server, tmp_path: Path) -> None:
    found: list[Path] = []
    threads = [threading.Thread(target=lambda: found.append(fetch_weights(NAME, cache=tmp_path))) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == [tmp_path / FILE] * 4
    assert len(server.requests) == 1


def test_two_processes_fetch_once(server: Server, tmp_path: Path) -> None:
    code = f"from isc_fast.networks.weights import fetch_weights; print(fetch_weights({NAME!r}))"
    environment = {**os.environ, "ISC_FAST_CACHE": str(tmp_path)}
    started = [
        subprocess.Popen([sys.executable, "-c", code], env=environment, stdout=subprocess.PIPE, text=True)
        for _ in range(2)
    ]
    assert [process.communicate()[0].strip() for process in started] == [str(tmp_path / FILE)] * 2
    assert (tmp_path / FILE).read_bytes() == server.content
    assert len(server.requests) == 1


def test_where_the_cache_is(server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.delenv("ISC_FAST_CACHE", raising=False)
    assert fetch_weights(NAME) == tmp_path / "home/.cache/isc-fast" / FILE
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    assert fetch_weights(NAME) == tmp_path / "xdg/isc-fast" / FILE
    monkeypatch.setenv("ISC_FAST_CACHE", str(tmp_path / "own"))
    assert fetch_weights(NAME) == tmp_path / "own" / FILE


def test_a_cache_that_cannot_be_used(server: Server, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError):
        fetch_weights(NAME, cache=tmp_path / "file")


def test_a_full_disk_is_not_taken_for_the_network(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OutputError, match="disk is full"):
        fetch_weights(NAME, cache=tmp_path)
    assert FILE not in whole(tmp_path)


def test_unknown_weights_name_the_known_ones(tmp_path: Path) -> None:
    with pytest.raises(DownloadError, match=r"'isc_v99'.*isc_ft_v107, isc_selfsup_v98"):
        fetch_weights("isc_v99", cache=tmp_path)


def test_the_table_of_releases(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("ISC_FAST_RELEASE_URL", raising=False)
    assert set(RELEASES) == {"isc_ft_v107", "isc_selfsup_v98", "sscd_disc_mixup", "sscd_disc_large"}
    assert release_url("sscd_disc_mixup") == (
        "https://dl.fbaipublicfiles.com/sscd-copy-detection/sscd_disc_mixup.torchvision.pt"
    )
    monkeypatch.setenv("ISC_FAST_RELEASE_URL", "http://mirror/all/")
    assert release_url("sscd_disc_large") == "http://mirror/all/sscd_disc_large.classy.pt"
    monkeypatch.delenv("ISC_FAST_RELEASE_URL")
    assert release_url(NAME) == RELEASE_URL + FILE
    assert release_url(NAME).startswith("https://github.com/lyakaap/ISC21-Descriptor-Track-1st/releases/download/")
    assert issubclass(DownloadError, IscFastError)


@pytest.mark.parametrize("head", [b"PK\x03\x04rest", b"\x80\x02\x8a\nl\xfc\x9cF", b"\x80\x04\x95"])
def test_what_torch_writes_is_taken(head: bytes) -> None:
    assert not_a_torch_file(head) is None


def sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def test_the_first_digest_is_kept_as_sha256sum_writes_it(server: Server, tmp_path: Path) -> None:
    path = fetch_weights(NAME, cache=tmp_path)
    kept = tmp_path / f"{FILE}.sha256"
    assert kept.read_text() == f"{sha256(server.content)}  {FILE}\n"
    done = subprocess.run(["sha256sum", "-c", kept.name], cwd=tmp_path, capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (0, f"{FILE}: OK\n")
    assert fetch_weights(NAME, cache=tmp_path) == path


def test_a_later_download_of_another_file_is_refused(server: Server, tmp_path: Path) -> None:
    first = server.content
    fetch_weights(NAME, cache=tmp_path).unlink()
    server.content, server.etag = zip_of(1_500_000, 7), '"second"'
    with pytest.raises(DownloadError) as caught:
        fetch_weights(NAME, cache=tmp_path)
    for part in (sha256(first), sha256(server.content), f"{FILE}.sha256", "first download", server.url):
        assert part in str(caught.value)
    assert "\n" not in str(caught.value)
    assert whole(tmp_path) == [], "what was refused is not kept, and so not refused again without being fetched again"
    server.content = first
    assert fetch_weights(NAME, cache=tmp_path).read_bytes() == first
    (tmp_path / FILE).unlink()
    (tmp_path / f"{FILE}.sha256").unlink()  # as the message says
    server.content = zip_of(1_500_000, 7)
    assert fetch_weights(NAME, cache=tmp_path).read_bytes() == server.content


def test_a_file_that_was_changed_in_the_cache_is_refused(server: Server, tmp_path: Path) -> None:
    path = fetch_weights(NAME, cache=tmp_path)
    changed = zip_of(1_500_000, 8)
    path.write_bytes(changed)
    server.requests.clear()
    with pytest.raises(
        DownloadError, match=f"changed after .*{sha256(changed)}, expected {sha256(server.content)}.*delete"
    ):
        fetch_weights(NAME, cache=tmp_path)
    assert server.requests == [], "nothing is replaced behind the user's back"
    path.unlink()
    assert fetch_weights(NAME, cache=tmp_path).read_bytes() == server.content


def test_a_changed_file_is_refused_where_it_is_used(server: Server, tmp_path: Path) -> None:
    pytest.importorskip("torch")
    from isc_fast.networks.checkpoint import load_checkpoint

    path = fetch_weights(NAME, cache=tmp_path)
    with pytest.raises(CheckpointError, match="not a checkpoint"):  # it is the right file, and no network
        load_checkpoint(path)
    changed = zip_of(1000, 9)
    path.write_bytes(changed)
    with pytest.raises(CheckpointError, match=rf"{sha256(changed)}, and {FILE}\.sha256 .* {sha256(server.content)}"):
        load_checkpoint(path)


def test_a_file_of_an_older_version_gets_its_digest(server: Server, tmp_path: Path) -> None:
    """Nothing was kept then: what is there now is what later calls compare with."""
    (tmp_path / FILE).write_bytes(server.content)
    fetch_weights(NAME, cache=tmp_path)
    assert sha256(server.content) in (tmp_path / f"{FILE}.sha256").read_text()
    assert server.requests == []


def test_a_pinned_digest(server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pinned = sha256(server.content)
    monkeypatch.setitem(RELEASES, NAME, Release(FILE, pinned))
    assert fetch_weights(NAME, cache=tmp_path / "good").read_bytes() == server.content
    server.content = zip_of(1_500_000, 10)
    with pytest.raises(DownloadError, match=rf"{sha256(server.content)}, expected {pinned} \(the pinned one\)"):
        fetch_weights(NAME, cache=tmp_path / "bad")
    assert whole(tmp_path / "bad") == []
    (tmp_path / "good" / FILE).write_bytes(server.content)
    with pytest.raises(DownloadError, match=r"changed after it was downloaded.*the pinned one"):
        fetch_weights(NAME, cache=tmp_path / "good")


def test_a_digest_that_says_nothing_is_replaced(server: Server, tmp_path: Path) -> None:
    (tmp_path / f"{FILE}.sha256").write_text("nothing\n")
    fetch_weights(NAME, cache=tmp_path)
    assert sha256(server.content) in (tmp_path / f"{FILE}.sha256").read_text()
