"""Fetching photos before somebody asks for them, so that nobody waits for a store's answer; with a limit on their bytes."""

from __future__ import annotations

import threading
import weakref
from collections import deque
from collections.abc import Callable

from ..items import Photo

_WAITING, _RUNNING, _TAKEN = range(3)
_IDLE_S = 5.0


class Ahead:
    """Threads that fetch what was begun, in that order, as long as all that is fetched and not taken fits the limit.

    Nobody waits for the limit: what has not begun when it is asked for is fetched by whoever asks.

    Args:
        threads: calls at once at most.
        most_bytes: of photos that are being fetched or lie ready; one photo may be larger.
    """

    def __init__(self, threads: int, most_bytes: int) -> None:
        self._most_threads, self._most_bytes = threads, most_bytes
        self.lock = threading.Condition(threading.RLock())  # a photo may be thrown away in the middle of anything
        self.bytes = 0
        self._threads = self._idle = 0
        self._waiting = deque[weakref.ref[Begun]]()

    def begin(self, fetch: Callable[[], Photo], size: int) -> Begun:
        """Let a photo be fetched. It is forgotten where nobody keeps what this returns.

        Args:
            fetch: fetches it.
            size: its bytes, as far as they are known.
        """
        begun = Begun(self, fetch, size)
        with self.lock:
            self._waiting.append(weakref.ref(begun))
            if self._idle:
                self.lock.notify()
            elif self._threads < self._most_threads:
                self._threads += 1
                threading.Thread(target=self._work, name="fetch", daemon=True).start()
        return begun

    def _work(self) -> None:
        while True:
            with self.lock:
                begun = self._next()
                while begun is None:
                    self._idle += 1
                    told = self.lock.wait(_IDLE_S)
                    self._idle -= 1
                    begun = self._next()
                    if begun is None and not told and not self._waiting:
                        self._threads -= 1
                        return
            begun.run()
            del begun  # else it would live until the next one

    def _next(self) -> Begun | None:
        """The next photo to fetch, if it fits. Call it with the lock."""
        while self._waiting:
            begun = self._waiting[0]()
            if begun is None or begun.state != _WAITING:
                self._waiting.popleft()
            elif self.bytes and self.bytes + begun.size > self._most_bytes:
                return None
            else:
                self._waiting.popleft()
                begun.state = _RUNNING
                self.bytes += begun.size
                return begun
        return None

    def changed(self, by: int) -> None:
        """Count bytes that came or went."""
        with self.lock:
            self.bytes += by
            self.lock.notify_all()


class Begun:
    """A photo that is being fetched, or will be: a function that waits for it, as `isc_fast.items.Photo` has it.

    What was fetched is given once. Who calls again fetches again.
    """

    def __init__(self, ahead: Ahead, fetch: Callable[[], Photo], size: int) -> None:
        self.size, self.state = size, _WAITING
        self._ahead, self._fetch = ahead, fetch
        self._done = threading.Event()
        self._made: Photo = b""
        self._error: BaseException | None = None

    def __call__(self) -> Photo:
        with self._ahead.lock:
            mine, self.state = self.state, _TAKEN
        if mine != _RUNNING:
            return self._fetch()
        self._done.wait()
        made, error, self._made = self._made, self._error, b""
        self._free()
        if error is not None:
            raise error
        return made

    def run(self) -> None:
        """Fetch it, in a thread that does nothing else."""
        try:
            self._made = self._fetch()
            if isinstance(self._made, bytes) and len(self._made) != self.size:
                by, self.size = len(self._made) - self.size, len(self._made)
                self._ahead.changed(by)
        except BaseException as error:
            self._error = error
        self._done.set()

    def _free(self) -> None:
        size, self.size = self.size, 0
        self._ahead.changed(-size)

    def __del__(self) -> None:
        if self._done.is_set() and self.size:  # it was fetched, and nobody took it
            self._free()
