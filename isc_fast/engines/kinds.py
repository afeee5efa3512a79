"""The table of engine kinds: which files are engines, and what each kind can do.

`isc_fast.load_engine`, ``info``, ``tune``, ``doctor`` and ``export`` ask this table and compare no suffixes themselves. A new
kind is one file that defines an `EngineKind`, and one row here.
"""

from __future__ import annotations

import os
from pathlib import Path

from .kind import EngineKind
from .kind_aoti import AOTI
from .kind_onnx import ONNX
from .kind_plan import PLAN

KINDS: dict[str, EngineKind] = {kind.suffix: kind for kind in (ONNX, AOTI, PLAN)}
"""By suffix, in the order in which messages name them."""


def kind_of(path: str | os.PathLike[str]) -> EngineKind | None:
    """Return the kind of engine that a file is by its name, whatever the case of its suffix; None if it is none."""
    return KINDS.get(Path(path).suffix.lower())


def suffixes() -> tuple[str, ...]:
    """Return the suffixes of all kinds."""
    return tuple(KINDS)
