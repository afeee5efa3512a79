"""What is costly to open or to read stays for a while: open files, and pieces of tables."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable
from typing import Generic, TypeVar

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")


class _Slot(Generic[V]):
    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.values: list[V] = []
        self.size = 0


class Cache(Generic[K, V]):
    """Values by key, the least recently used of which go first. Several threads may ask; each value is made once.

    A value that goes stays with whoever has it, and is freed after that.

    Args:
        make: makes the value of a key. Where it raises, nothing is kept.
        limit: the sum of the sizes that are kept.
        size_of: the size of a value; by default 1.
        least: so many values stay whatever their size: as many as threads need at once.
    """

    def __init__(
        self, make: Callable[[K], V], *, limit: int, size_of: Callable[[V], int] = lambda _: 1, least: int = 2
    ) -> None:
        self._make, self._limit, self._size_of, self._least = make, limit, size_of, least
        self._lock = threading.Lock()
        self._slots: OrderedDict[K, _Slot[V]] = OrderedDict()
        self._total = 0

    def get(self, key: K) -> V:
        """The value of a key."""
        with self._lock:
            slot = self._slots.get(key)
            if slot is None:
                slot = self._slots[key] = _Slot()
            self._slots.move_to_end(key)
        with slot.lock:  # whoever wants the same value waits for it; nobody else does
            if not slot.values:
                try:
                    slot.values.append(self._make(key))
                except BaseException:
                    self._forget(key, slot)
                    raise
                self._count(key, slot)
            return slot.values[0]

    def _forget(self, key: K, slot: _Slot[V]) -> None:
        with self._lock:
            if self._slots.get(key) is slot:
                del self._slots[key]

    def _count(self, key: K, slot: _Slot[V]) -> None:
        size = self._size_of(slot.values[0])
        with self._lock:
            if self._slots.get(key) is not slot:
                return  # it has gone already, while it was made
            slot.size = size  # not before: whoever throws it away subtracts it
            self._total += size
            while self._total > self._limit and len(self._slots) > self._least:
                _, gone = self._slots.popitem(last=False)
                self._total -= gone.size
