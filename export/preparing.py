"""How a photo becomes the input of a network of another tool, as a user says it in words.

The words are ``key=value`` with a space between them, such as ``resize=pad filter=lanczos fill=124,116,104 mean=0.5 std=0.5``:

| key | value |
|---|---|
| resize, filter, antialias, fill | of `isc_fast.decoders.preprocessing.Preprocessing`; antialias is yes or no |
| mean, std | of red, green and blue on the scale from 0 to 1, or one number for all three |
| channels | rgb, or bgr for a network that wants blue first |
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from ..decoders.preprocessing import Preprocessing
from ..errors import EngineError, InputError

EXAMPLE = "resize=stretch filter=bilinear mean=0.485,0.456,0.406 std=0.229,0.224,0.225"


@dataclass(frozen=True)
class Preparing:
    """How pixels become what a graph takes.

    Attributes:
        facts: the arguments of `Preprocessing` but the size.
        mean, std: of red, green and blue, on the scale from 0 to 1; None where the user says neither.
        bgr: whether the graph wants blue first.
    """

    facts: dict[str, Any]
    mean: tuple[float, ...] | None
    std: tuple[float, ...] | None
    bgr: bool

    def sized(self, height: int, width: int) -> Preprocessing:
        """The preprocessing for an input of that size.

        Raises:
            EngineError: a value is none that there is.
        """
        try:
            return Preprocessing(height, width, **self.facts)
        except InputError as error:
            raise EngineError(f"--preprocess: {error}") from error


def _three(text: str) -> tuple[float, ...]:
    numbers = tuple(float(part) for part in text.split(","))
    if len(numbers) not in (1, 3) or not all(math.isfinite(number) for number in numbers):
        raise ValueError(text)
    return numbers * (3 // len(numbers))


def _positive(text: str) -> tuple[float, ...]:
    numbers = _three(text)
    if min(numbers) <= 0:
        raise ValueError(text)
    return numbers


def _colour(text: str) -> tuple[int, int, int]:
    red, green, blue = (int(part) for part in text.split(","))
    return red, green, blue


def _one_of(**values: bool) -> Callable[[str], bool]:
    def value(text: str) -> bool:
        if text not in values:
            raise ValueError(text)
        return values[text]

    return value


_KEYS: dict[str, Callable[[str], Any]] = {
    "resize": str,
    "filter": str,
    "antialias": _one_of(yes=True, no=False),
    "fill": _colour,
    "mean": _three,
    "std": _positive,
    "channels": _one_of(rgb=False, bgr=True),
}


def read_preparing(text: str) -> Preparing:
    """Read the words of a user; what is not said is stretched, bilinear, antialiased, RGB.

    Raises:
        EngineError: a word is none that there is; the message names it and gives an example.
    """
    said: dict[str, Any] = {}
    for word in text.split():
        key, _, value = word.partition("=")
        try:
            if key in said:
                raise ValueError(key)
            said[key] = _KEYS[key](value)
        except (KeyError, ValueError) as error:
            raise EngineError(
                f"--preprocess cannot be read at {word!r}; expected each of {', '.join(_KEYS)} at most once, such as "
                f"{EXAMPLE!r}"
            ) from error
    if ("mean" in said) != ("std" in said):
        raise EngineError(f"--preprocess needs mean and std together, such as {EXAMPLE!r}")
    facts: dict[str, Any] = {key: said[key] for key in ("resize", "filter", "antialias", "fill") if key in said}
    made = Preparing(facts, said.get("mean"), said.get("std"), said.get("channels", False))
    made.sized(1, 1)  # says now what is wrong with a name
    return made
