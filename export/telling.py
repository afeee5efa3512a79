"""Saying in one line what is being done."""

from __future__ import annotations

from collections.abc import Callable

Say = Callable[[str], None]


def counting(say: Say, what: str, unit: str, every: int) -> Callable[[int, int], None]:
    """A callback of (done, in all) that says so for every so many, and for the last."""

    def tell(done: int, total: int) -> None:
        if done == total or done % every == 0:
            say(f"{what}: {done} of {total} {unit}")

    return tell
