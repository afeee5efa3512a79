"""The published weights: what can be fetched, from where, and a download that resumes and never leaves half a file."""

from __future__ import annotations

import contextlib
import fcntl
import http.client
import json
import os
import re
import time
import urllib.error
import urllib.request
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from ..errors import DownloadError
from ..files.atomic import make_folder, output_error, sync_folder

RELEASE_URL = "https://github.com/lyakaap/ISC21-Descriptor-Track-1st/releases/download/v1.0.1/"
RELEASES: dict[str, str] = {
    "isc_ft_v107": "isc_ft_v107.pth.tar",
    "isc_selfsup_v98": "isc_selfsup_v98.pth.tar",
}
"""Names of the published weights, and their files below `RELEASE_URL`."""

DownloadCallback = Callable[[int, int | None], None]
"""Called with (bytes that are here, bytes in all or None), first with what an earlier download left."""

_TIMEOUT_S = 30.0
_BACK_OFF_S = (1.0, 2.0, 5.0, 10.0)
_CHUNK_BYTES = 1 << 18
_TORCH_ZIP = b"PK\x03\x04"


class _NotWeightsError(DownloadError):
    """What arrived is something else; trying again would bring it again."""


class _DroppedError(Exception):
    """The connection broke or the server had a bad moment; worth another try."""


@dataclass
class _Remembered:
    """What is known about a part file, kept beside it."""

    url: str
    validator: str
    total: int | None


def not_a_torch_file(head: bytes) -> str | None:
    """What a file is instead of one that ``torch.save`` wrote, judged by its first bytes; None when it may be one."""
    if head.startswith(_TORCH_ZIP) or (head[:1] == b"\x80" and head[1:2] in (b"\2", b"\3", b"\4", b"\5")):
        return None  # a zip file as torch writes it today, or the pickle it wrote before
    start = head.lstrip(b"\xef\xbb\xbf \t\r\n")[:256].lower()
    if not head:
        return "the file is empty"
    if start.startswith((b"<!doctype", b"<html", b"<head", b"<?xml", b"<!--")):
        return "it is a web page, perhaps an error or login page"
    if head[:1] == b"\x08" and (b"pytorch" in head[:64] or b"onnx" in head[:64]):
        return "it is an ONNX file"
    if head[8:9] == b"{" and int.from_bytes(head[:8], "little") < 1 << 32:
        return "it is a safetensors file"
    if all(32 <= byte < 127 or byte in b"\t\r\n" for byte in head[:64]):
        return f"it is text that starts with {head[:40].decode('ascii')!r}"
    return f"it starts with the bytes {head[:8].hex(' ')}"


def cache_folder() -> Path:
    """Where fetched weights are kept: ``ISC_FAST_CACHE``, or ``isc-fast`` in the user's cache folder."""
    own = os.environ.get("ISC_FAST_CACHE")
    if own:
        return Path(own)
    shared = os.environ.get("XDG_CACHE_HOME")
    return (Path(shared) if shared else Path.home() / ".cache") / "isc-fast"


def release_url(name: str) -> str:
    """The address of published weights; ``ISC_FAST_RELEASE_URL`` names a mirror of the whole release."""
    base = os.environ.get("ISC_FAST_RELEASE_URL") or RELEASE_URL
    return base.rstrip("/") + "/" + RELEASES[name]


@contextlib.contextmanager
def _locked(path: Path) -> Iterator[None]:
    """Hold a lock file; another process that fetches the same weights waits here."""
    with open(path, "ab") as stream:
        fcntl.flock(stream, fcntl.LOCK_EX)
        yield


def _recall(note: Path, url: str) -> _Remembered | None:
    try:
        values = _Remembered(**json.loads(note.read_text()))
    except (OSError, ValueError, TypeError):
        return None
    return values if values.url == url and values.validator else None


def _validator(headers: Any) -> str:
    """What proves to the server that the part belongs to its file: a strong ETag, or the date of the last change."""
    etag = headers.get("ETag") or ""
    return etag if etag and not etag.startswith("W/") else headers.get("Last-Modified") or ""


def _start_and_total(response: Any, offset: int, known: _Remembered | None) -> tuple[int, int | None]:
    """At which byte the answer starts, and how long the whole file is."""
    if getattr(response, "status", None) != 206:
        length = response.headers.get("Content-Length")
        return 0, int(length) if length and length.isdigit() else None
    answer = re.fullmatch(r"bytes (\d+)-\d+/(\d+|\*)", (response.headers.get("Content-Range") or "").strip())
    if not answer or int(answer[1]) != offset:
        raise _DroppedError("the server sent another part of the file than it was asked for")
    total = int(answer[2]) if answer[2] != "*" else None
    now = _validator(response.headers)
    # If-Range makes an honest server start again by itself; some mirrors know Range and not If-Range.
    if known and ((now and now != known.validator) or (total and known.total and total != known.total)):
        raise _DroppedError("the file on the server has changed")
    return offset, total


def _drop(*paths: Path) -> None:
    for path in paths:
        path.unlink(missing_ok=True)


def _open(url: str, headers: dict[str, str]) -> Any:
    request = urllib.request.Request(url, headers={"User-Agent": "isc-fast", **headers})
    return urllib.request.urlopen(request, timeout=_TIMEOUT_S)


def _request(url: str, part: Path, note: Path, offset: int, known: _Remembered | None) -> Any:
    """Ask for the rest of the file, or for all of it."""
    headers = {"Range": f"bytes={offset}-", "If-Range": known.validator} if offset and known else {}
    try:
        return _open(url, headers)
    except urllib.error.HTTPError as error:
        if error.code == 416:  # the part is longer than what the server has now
            _drop(part, note)
            raise _DroppedError("the file on the server has changed") from error
        if error.code in (408, 429) or error.code >= 500:
            raise _DroppedError(f"the server answered {error.code} {error.reason}") from error
        raise DownloadError(f"the server answered {error.code} {error.reason}") from error
    except urllib.error.URLError as error:
        reason = error.reason
        if isinstance(reason, TimeoutError | ConnectionResetError | BrokenPipeError):
            raise _DroppedError(f"the connection broke ({reason})") from error
        words = getattr(reason, "strerror", None) or str(reason)
        raise DownloadError(f"no connection: {words}") from error
    except (http.client.HTTPException, OSError) as error:
        raise _DroppedError(f"the connection broke ({type(error).__name__})") from error
    except ValueError as error:
        raise DownloadError(f"not a web address: {error}") from error


def _download_once(url: str, part: Path, note: Path, progress: DownloadCallback | None) -> None:
    """One try: add to the part what is missing. Returns when the part is whole."""
    known = _recall(note, url)
    offset = part.stat().st_size if known and part.exists() else 0
    if known and offset and offset == known.total:
        return
    with _request(url, part, note, offset, known) as response:
        try:
            done, total = _start_and_total(response, offset, known)
        except _DroppedError:
            _drop(part, note)
            raise
        with open(part, "ab" if done else "wb") as stream:
            if not done:  # after the old part is gone: a note may never describe bytes of another file
                note.write_text(json.dumps(asdict(_Remembered(url, _validator(response.headers), total))))
            if progress:
                progress(done, total)
            for chunk in _chunks(response):
                wrong = None if done else not_a_torch_file(chunk)
                if wrong:
                    raise _NotWeightsError(f"what arrived are no weights: {wrong}")
                stream.write(chunk)
                done += len(chunk)
                if progress:
                    progress(done, total)
    if total is not None and done < total:
        raise _DroppedError(f"the connection broke after {done} of {total} bytes")
    if total is not None and done > total:
        _drop(part, note)
        raise _DroppedError(f"{done} bytes arrived where {total} were announced")


def _chunks(response: Any) -> Iterator[bytes]:
    """The body, until it ends or the connection does."""
    while True:
        try:
            chunk = response.read(_CHUNK_BYTES)
        except (http.client.HTTPException, OSError) as error:
            raise _DroppedError(f"the connection broke ({type(error).__name__})") from error
        if not chunk:
            return
        yield chunk


def _check_whole(part: Path) -> None:
    """Refuse a file that is long enough and still no weights, e.g. a zip file whose end is missing; then sync it."""
    with open(part, "rb") as stream:
        head = stream.read(512)
        wrong = not_a_torch_file(head)
        if wrong:
            raise _NotWeightsError(f"what arrived are no weights: {wrong}")
        if head.startswith(_TORCH_ZIP):
            try:
                with zipfile.ZipFile(stream):
                    pass
            except zipfile.BadZipFile as error:
                raise _NotWeightsError(f"what arrived is damaged ({error})") from error
        os.fsync(stream.fileno())


def _download(url: str, part: Path, note: Path, progress: DownloadCallback | None) -> None:
    for pause_s in (*_BACK_OFF_S, None):
        try:
            _download_once(url, part, note, progress)
            _check_whole(part)
            return
        except _NotWeightsError:
            _drop(part, note)
            raise
        except _DroppedError as error:
            if pause_s is None:
                kept = part.stat().st_size if part.exists() else 0
                raise DownloadError(f"{error}, {len(_BACK_OFF_S) + 1} times; {kept} bytes are kept") from error
            time.sleep(pause_s)


def fetch_weights(
    name: str, *, cache: str | os.PathLike[str] | None = None, progress: DownloadCallback | None = None
) -> Path:
    """The published weights as a file in the cache; downloaded the first time, resumed where an earlier try broke.

    Args:
        name: one of `RELEASES`.
        cache: folder; by default `cache_folder()`.
        progress: is told the bytes that are here and the bytes in all.

    Raises:
        DownloadError: there are no such weights, or they cannot be fetched; the message says how to go on without.
        OutputError: the cache cannot be written.
    """
    if name not in RELEASES:
        raise DownloadError(f"there are no published weights {name!r}; choose one of {', '.join(RELEASES)}")
    folder = make_folder(Path(cache) if cache is not None else cache_folder())
    final = folder / RELEASES[name]
    part, note = final.with_name(final.name + ".part"), final.with_name(final.name + ".part.json")
    if final.is_file():
        return final
    url = release_url(name)
    try:
        with _locked(final.with_name(final.name + ".lock")):
            if not final.is_file():  # another process may have fetched it while this one waited
                _download(url, part, note, progress)
                os.replace(part, final)
                _drop(note)
                sync_folder(folder)
    except DownloadError as error:
        raise DownloadError(
            f"cannot fetch {url}: {error}; run the same command again, or download the file by hand and pass its path "
            "to --ckpt, or set ISC_FAST_RELEASE_URL to a mirror"
        ) from error
    except OSError as error:
        raise output_error(final, error) from error
    return final
