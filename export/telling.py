"""Telling the user in one line what begins."""

from __future__ import annotations

from collections.abc import Callable

Say = Callable[[str], None]
"""Takes one line of text for the user."""


def say_nothing(line: str) -> None:
    """Drop the line: the default where nobody listens."""


def counting(say: Say, what: str, unit: str, every: int) -> Callable[[int, int], None]:
    """A callback that takes (done, in all) and says both for every so many, and for the last.

    Args:
        say: gets the lines.
        what: the work, such as ``"verifying"``.
        unit: what is counted, such as ``"photos"``.
        every: how many of them lie between two lines.
    """

    def tell(done: int, total: int) -> None:
        if done == total or done % every == 0:
            say(f"{what}: {done} of {total} {unit}")

    return tell
