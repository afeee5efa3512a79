"""Decoding in processes of their own: a photo on which a library hangs, crashes or takes too much memory costs that photo alone.

Each thread of the decoder has one process (`isc_fast.decoders.isolated_child`), gives it photo after photo, and starts another
one where it is lost. Photos that a source opens are opened here, and their bytes are sent. The pixels are those of the decoder
that works in the processes, and so is its name.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import select
import subprocess
import threading
import time
from collections.abc import Generator, Iterable, Sequence
from typing import Any

from ..items import Photo, Pixels
from ..machine.child import child_command, signal_name
from .base import Batch
from .limits import ROOM
from .opening import ImageProblem, open_photo
from .preprocessing import Preprocessing
from .threads import ThreadedDecoder

PHOTO_S = 60.0
"""Seconds that a photo may take, waiting for room in memory not counted."""

_PIPE_BYTES = 1 << 20  # a photo of 512 × 512 fits
_CHILD = "isc_fast.decoders.isolated_child"


class _Lost(Exception):
    """The process is gone, or did not answer in time; the text is the reason."""


class _Child:
    """A process that decodes."""

    def __init__(self, decoder: str) -> None:
        command, environment = child_command(_CHILD, decoder)
        self._process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=environment, bufsize=0, start_new_session=True
        )  # a session of its own: Ctrl-C of a terminal is meant for the run, which ends the process
        self._held = bytearray()  # what was read and belongs to the next answer
        assert self._process.stdout is not None
        with contextlib.suppress(OSError):  # more than a user may have
            fcntl.fcntl(self._process.stdout, fcntl.F_SETPIPE_SZ, _PIPE_BYTES)

    def decode(self, job: dict[str, Any], content: bytes, slot: Pixels) -> tuple[str, str] | None:
        """Decode a photo into a slot; returns stage and reason where it has no pixels.

        Raises:
            _Lost: see there.
        """
        deadline = time.monotonic() + PHOTO_S
        try:
            self._send(json.dumps({**job, "bytes": len(content)}).encode("ascii") + b"\n" + content)
        except OSError:
            raise _Lost(self._end()) from None
        answer = self._line(deadline)
        if "room" in answer:
            with ROOM.taken(answer["room"]):
                deadline = time.monotonic() + PHOTO_S
                with contextlib.suppress(OSError):
                    self._send(b"\n")
                answer = self._line(deadline)
        if answer["problem"] is not None:
            stage, reason = answer["problem"]
            return stage, reason
        try:
            self._fill(memoryview(slot.reshape(-1).data), deadline)
        except _Lost:
            slot[:] = 0
            raise
        return None

    def _send(self, content: bytes) -> None:
        view = memoryview(content)
        assert self._process.stdin is not None
        while view:
            view = view[os.write(self._process.stdin.fileno(), view) :]

    def _line(self, deadline: float) -> dict[str, Any]:
        while b"\n" not in self._held:
            piece = bytearray(_PIPE_BYTES)
            self._held += piece[: self._read(memoryview(piece), deadline)]
        line, _, self._held = self._held.partition(b"\n")
        answer: dict[str, Any] = json.loads(line)
        return answer

    def _fill(self, view: memoryview, deadline: float) -> None:
        done = min(len(self._held), len(view))
        view[:done] = self._held[:done]
        self._held = self._held[done:]
        while done < len(view):
            done += self._read(view[done:], deadline)

    def _read(self, view: memoryview, deadline: float) -> int:
        assert self._process.stdout is not None
        descriptor = self._process.stdout.fileno()
        if not select.select([descriptor], [], [], max(0.0, deadline - time.monotonic()))[0]:
            self.kill()
            raise _Lost(f"not decoded within {PHOTO_S:.0f} s")
        count = os.readv(descriptor, [view])
        if not count:
            raise _Lost(self._end())
        return count

    def _end(self) -> str:
        self.kill()
        status = self._process.wait()
        how = signal_name(status) if status < 0 else f"status {status}"
        return f"the decoder's process ended over it ({how}), for a fault or for want of memory"

    def kill(self) -> None:
        """End the process at once; a thread that waits for its answer goes on."""
        self._process.kill()

    def close(self) -> None:
        """End the process, and free what belongs to it."""
        self.kill()
        self._process.wait()
        for stream in (self._process.stdin, self._process.stdout):
            assert stream is not None
            stream.close()


class IsolatedDecoder(ThreadedDecoder):
    """See the module's text.

    Args:
        name: of the decoder that works in the processes; one that decodes on the processor.
        workers: processes; by default one for each core of this process.
    """

    def __init__(self, name: str, workers: int | None = None) -> None:
        super().__init__(workers)
        self.name = name
        self._mine = threading.local()
        self._children: set[_Child] = set()
        self._lock = threading.Lock()

    def decode_into(self, photo: Photo, preprocessing: Preprocessing, slot: Pixels) -> None:
        """See `isc_fast.decoders.threads.ThreadedDecoder.decode_into`."""
        content = b""
        path = photo if isinstance(photo, str) else None
        if path is None:
            with open_photo(photo) as stream:
                content = stream.read()
        job = {
            "path": path,
            "height": preprocessing.height,
            "width": preprocessing.width,
            "preprocessing": preprocessing.name,
            "views": preprocessing.views,
        }
        child = getattr(self._mine, "child", None)
        if child is None or child not in self._children:
            child = self._mine.child = _Child(self.name)
            with self._lock:
                self._children.add(child)
        try:
            problem = child.decode(job, content, slot)
        except _Lost as error:
            self._forget(child)
            raise ImageProblem("decode", str(error)) from None
        if problem is not None:
            raise ImageProblem(*problem)

    def _forget(self, child: _Child) -> None:
        with self._lock:
            self._children.discard(child)
        child.close()

    def batches(self, jobs: Iterable[Sequence[Photo]], preprocessing: Preprocessing) -> Generator[Batch, None, None]:
        """See `isc_fast.decoders.base.Decoder`."""
        try:
            with contextlib.closing(super().batches(jobs, preprocessing)) as made:
                yield from made
        finally:
            for child in list(self._children):
                self._forget(child)
