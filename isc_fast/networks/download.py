"""A download over HTTP that resumes where it broke off, and that takes nothing but weights.

This is code of our own: the library `pooch` (1.9) checks digests, but starts a broken download again at its first byte, and
weights are some hundred megabytes.
"""

from __future__ import annotations

import http.client
import json
import re
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from ..errors import DownloadError
from ..files.atomic import sync_file
from ..files.reading import parse_json
from .torch_files import damage_of, not_a_torch_file

DownloadCallback = Callable[[int, int | None], None]
"""Called with the bytes that are here and the bytes in all, or None; first with the bytes that an earlier download left."""

_TIMEOUT_S = 30.0
_BACK_OFF_S = (1.0, 2.0, 5.0, 10.0)
_CHUNK_BYTES = 1 << 18


class _NotWeightsError(DownloadError):
    """The server sent something that is no file of weights; another try would bring the same again."""


class _DroppedError(Exception):
    """The connection broke, or the server failed for a moment; another try may succeed."""


@dataclass
class _Remembered:
    """The note beside a part file: where the part comes from, and the length of the whole file."""

    url: str
    validator: str
    total: int | None


def _recall(note: Path, url: str) -> _Remembered | None:
    try:
        values = _Remembered(**parse_json(note.read_text()))
    except (OSError, ValueError, TypeError):
        return None
    return values if values.url == url and values.validator else None


def _validator(headers: Any) -> str:
    """The header that shows the server which file a part belongs to: a strong ETag, or the date of the last change."""
    etag = headers.get("ETag") or ""
    return etag if etag and not etag.startswith("W/") else headers.get("Last-Modified") or ""


def _start_and_total(response: Any, offset: int, known: _Remembered | None) -> tuple[int, int | None]:
    """The byte at which the answer starts, and the length of the whole file."""
    if getattr(response, "status", None) != 206:
        length = response.headers.get("Content-Length")
        return 0, int(length) if length and length.isdigit() else None
    answer = re.fullmatch(r"bytes (\d+)-\d+/(\d+|\*)", (response.headers.get("Content-Range") or "").strip())
    if not answer or int(answer[1]) != offset:
        raise _DroppedError("the server sent another part of the file than the one that was requested")
    total = int(answer[2]) if answer[2] != "*" else None
    now = _validator(response.headers)
    # A server that knows If-Range starts again by itself; some mirrors know only Range.
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
    """Request the rest of the file, or all of it."""
    headers = {"Range": f"bytes={offset}-", "If-Range": known.validator} if offset and known else {}
    try:
        return _open(url, headers)
    except urllib.error.HTTPError as error:
        if error.code == 416:  # the part is longer than the file that the server has now
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
    """Try once to add the missing bytes to the part. Returns when the part is whole."""
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
            if not done:  # the old part is gone by now: a note must never describe bytes of another file
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
    """The body of the answer in chunks.

    Raises:
        _DroppedError: the connection broke before the end.
    """
    while True:
        try:
            chunk = response.read(_CHUNK_BYTES)
        except (http.client.HTTPException, OSError) as error:
            raise _DroppedError(f"the connection broke ({type(error).__name__})") from error
        if not chunk:
            return
        yield chunk


def download(url: str, part: Path, note: Path, progress: DownloadCallback | None) -> None:
    """Fetch a file of weights. A try that breaks off is resumed at once, and a later call resumes what an earlier one left.

    Args:
        url: the address.
        part: holds what has arrived; when this returns, it is the whole file, and synced.
        note: kept beside the part: says which file of which server the part belongs to.
        progress: see `DownloadCallback`.

    Raises:
        DownloadError: the file cannot be fetched, or is no file that torch wrote.
        OSError: the part cannot be written.
    """
    for pause_s in (*_BACK_OFF_S, None):
        try:
            _download_once(url, part, note, progress)
            damage = damage_of(part)
            if damage:
                raise _NotWeightsError(damage)
            sync_file(part)
            return
        except _NotWeightsError:
            _drop(part, note)
            raise
        except _DroppedError as error:
            if pause_s is None:
                kept = part.stat().st_size if part.exists() else 0
                raise DownloadError(f"{error}, {len(_BACK_OFF_S) + 1} times; {kept} bytes are kept") from error
            time.sleep(pause_s)
