"""isc-fast: find edited copies of photos.

    import isc_fast

    engine = isc_fast.load_engine("v107.onnx")
    isc_fast.extract("references/", engine, "refs.h5")
    isc_fast.extract("queries/", engine, "queries.h5")
    matches = isc_fast.search(isc_fast.read_descriptors("queries.h5"), isc_fast.read_descriptors("refs.h5"), k=10)

Importing this package imports nothing heavy: each name is loaded when it is first used.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

if TYPE_CHECKING:
    from .challenge import run_challenge as run_challenge
    from .demo import run_demo as run_demo
    from .dialects import convert as convert
    from .dialects import read_descriptors as read_descriptors
    from .dialects import write_submission as write_submission
    from .engines import Engine as Engine
    from .engines import load_engine as load_engine
    from .errors import IscFastError as IscFastError
    from .index import search as search
    from .matches import Matches as Matches
    from .matches import Truth as Truth
    from .matches import read_matches as read_matches
    from .matches import read_truth as read_truth
    from .matches import write_matches as write_matches
    from .metrics import Evaluation as Evaluation
    from .metrics import evaluate as evaluate
    from .negatives import normalize_scores as normalize_scores
    from .negatives import normalize_to_file as normalize_to_file
    from .negatives import smooth_negatives as smooth_negatives
    from .negatives import smooth_to_file as smooth_to_file
    from .negatives import subtract_negatives as subtract_negatives
    from .pipeline import Extraction as Extraction
    from .pipeline import extract as extract
    from .report import write_report as write_report
    from .sources import list_images as list_images
    from .spec import EngineSpec as EngineSpec
    from .store import Descriptors as Descriptors
    from .store import open_descriptors as open_descriptors
    from .store import write_descriptors as write_descriptors
    from .tuner import tune as tune

_HOME = {
    "challenge": ("run_challenge",),
    "demo": ("run_demo",),
    "dialects": ("convert", "read_descriptors", "write_submission"),
    "engines": ("Engine", "load_engine"),
    "errors": ("IscFastError",),
    "index": ("search",),
    "matches": ("Matches", "Truth", "read_matches", "read_truth", "write_matches"),
    "metrics": ("Evaluation", "evaluate"),
    "negatives": ("normalize_scores", "normalize_to_file", "smooth_negatives", "smooth_to_file", "subtract_negatives"),
    "pipeline": ("Extraction", "extract"),
    "report": ("write_report",),
    "sources": ("list_images",),
    "spec": ("EngineSpec",),
    "store": ("Descriptors", "open_descriptors", "write_descriptors"),
    "tuner": ("tune",),  # a module of that name would take the function's place
}
_MODULE_OF = {name: module for module, names in _HOME.items() for name in names}

__all__ = sorted(_MODULE_OF)


def __getattr__(name: str) -> Any:
    if name not in _MODULE_OF:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(importlib.import_module(f".{_MODULE_OF[name]}", __name__), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
