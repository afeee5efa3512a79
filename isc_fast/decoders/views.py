"""Views of a photo: the whole of it, parts that are cut out of it, and each of these mirrored or turned, as data.

A network describes a photo as a whole. Where a query holds a copy as one part among others, such as in a collage, a part of the
query looks more like the original than the whole does. So a query may be described in several views, and what counts is the best.

| word | views |
|---|---|
| whole | the photo as it is; always the first one |
| 5 | whole, and its four quarters |
| 6 | these, and its middle, 60 % of each side |
| 10 | these, and its four halves |
| mirror | each view of the other words mirrored left to right as well |
| turn | each view turned clockwise by 90, 180 and 270 degrees as well; with mirror, the mirrored ones too |

A view is cut out of the decoded, upright photo at its full size, then mirrored, then turned, and then it becomes the input of the
network as any photo does.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from ..errors import InputError

WHOLE = "whole"
"""The view that is the photo as it is."""
ONLY_WHOLE = (WHOLE,)

TENTHS = 10
Box = tuple[int, int, int, int]

_CUTS: dict[str, Box] = {
    WHOLE: (0, 0, 10, 10),
    "top-left": (0, 0, 5, 5),
    "top-right": (5, 0, 10, 5),
    "bottom-left": (0, 5, 5, 10),
    "bottom-right": (5, 5, 10, 10),
    "middle": (2, 2, 8, 8),
    "left": (0, 0, 5, 10),
    "right": (5, 0, 10, 10),
    "top": (0, 0, 10, 5),
    "bottom": (0, 5, 10, 10),
}
"""By name, which part of a photo is cut out: left, top, right and bottom in tenths of its width and height."""
_COUNTS = {"5": 5, "6": 6, "10": 10}
"""Words that stand for the first so many cuts."""

_MOVES = {
    "": 1,
    "mirrored": 2,
    "turned-90": 6,
    "turned-180": 3,
    "turned-270": 8,
    "mirrored-turned-90": 7,
    "mirrored-turned-180": 4,
    "mirrored-turned-270": 5,
}
"""By name, what is done to a part, as the EXIF orientation whose correction does it."""
MIRROR, TURN = "mirror", "turn"
WORDS = (WHOLE, *_COUNTS, MIRROR, TURN)


@dataclass(frozen=True)
class View:
    """What is cut out of an upright photo, and how it is moved then.

    Attributes:
        box: left, top, right and bottom, in tenths of the photo's sides.
        move: the EXIF orientation, from 1 to 8, whose correction moves the part.
    """

    box: Box
    move: int


def _named(move: str, cut: str) -> str:
    return "-".join([*([move] if move else []), *([] if move and cut == WHOLE else [cut])])


VIEWS: dict[str, View] = {
    _named(move, cut): View(box, orientation) for move, orientation in _MOVES.items() for cut, box in _CUTS.items()
}
"""All views by name, such as ``"top-left"``, ``"mirrored"`` and ``"mirrored-turned-90-top-left"``."""


def view_names(words: str) -> tuple[str, ...]:
    """The names of the views that some words stand for, in the order of `VIEWS`, the whole photo first.

    Args:
        words: of `WORDS`, with commas between them, such as ``"10,mirror"``; the order does not matter.

    Raises:
        InputError: one is no such word.
    """
    given = [word.strip() for word in words.split(",")]
    for word in given:
        if word not in WORDS:
            raise InputError(
                f"there are no views {word!r}; give one or several of {', '.join(WORDS)}, with commas between them"
            )
    cuts = [*_CUTS][: max([1, *(_COUNTS[word] for word in given if word in _COUNTS)])]
    moves = [
        move
        for move in _MOVES
        if (MIRROR in given or "mirrored" not in move) and (TURN in given or "turned" not in move)
    ]
    return tuple(_named(move, cut) for move in moves for cut in cuts)


def in_words(names: Sequence[str]) -> str:
    """Some views as a message says them: the words that `view_names` takes, or the names where no words stand for them."""
    for cuts in ("", *_COUNTS):
        for moves in ((), (MIRROR,), (TURN,), (MIRROR, TURN)):
            words = ",".join([*([cuts] if cuts else []), *moves]) or WHOLE
            if view_names(words) == tuple(names):
                return words
    return ",".join(names)


def least_tenths(names: Sequence[str]) -> int:
    """The smallest part of a photo's width or height that one of these views shows, in tenths."""
    boxes = [VIEWS[name].box for name in names]
    return min(min(box[2] - box[0], box[3] - box[1]) for box in boxes)
