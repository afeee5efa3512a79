"""isc-fast: find edited copies of photos.

    import isc_fast

    engine = isc_fast.load_engine("v107.onnx")
    isc_fast.extract("references/", engine, "refs.h5")
    isc_fast.extract("queries/", engine, "queries.h5")
    matches = isc_fast.search(isc_fast.read_descriptors("queries.h5"), isc_fast.read_descriptors("refs.h5"), k=10)

Importing this package imports nothing heavy: each name is loaded when it is first used. It also keeps the libraries below it from
reporting on their users (`isc_fast.silence`).
"""

from __future__ import annotations

from .silence import silence as _silence

_silence()

__version__ = "0.2.0"

TYPE_CHECKING = False
"""As in typing, whose import would take milliseconds in which an interrupt of the command line prints a traceback."""

if TYPE_CHECKING:
    from .descriptors.formats.submission import write_submission as write_submission
    from .descriptors.formats.table import convert as convert
    from .descriptors.formats.table import read_descriptors as read_descriptors
    from .descriptors.lengths import to_unit_length as to_unit_length
    from .descriptors.rewriting import Rewritten as Rewritten
    from .descriptors.rewriting import merge_descriptors as merge_descriptors
    from .descriptors.rewriting import remove_descriptors as remove_descriptors
    from .descriptors.rewriting import rename_descriptors as rename_descriptors
    from .descriptors.store import Descriptors as Descriptors
    from .descriptors.store import open_descriptors as open_descriptors
    from .descriptors.whole_file import assemble as assemble
    from .descriptors.writing import write_descriptors as write_descriptors
    from .engines.base import Engine as Engine
    from .engines.base import load_engine as load_engine
    from .engines.spec import EngineSpec as EngineSpec
    from .errors import IscFastError as IscFastError
    from .evaluation.metrics import Evaluation as Evaluation
    from .evaluation.metrics import evaluate as evaluate
    from .extraction.pipeline import Extraction as Extraction
    from .extraction.pipeline import extract as extract
    from .extraction.runners.cluster import Cluster as Cluster
    from .extraction.share import Share as Share
    from .matching.index.changes import IndexChange as IndexChange
    from .matching.index.changes import add_to_index as add_to_index
    from .matching.index.changes import build_index as build_index
    from .matching.index.changes import compact_index as compact_index
    from .matching.index.changes import remove_from_index as remove_from_index
    from .matching.lists.matches import Matches as Matches
    from .matching.lists.matches import Truth as Truth
    from .matching.lists.matches import read_matches as read_matches
    from .matching.lists.matches import read_truth as read_truth
    from .matching.lists.matches import write_matches as write_matches
    from .matching.normalizing.methods import normalize_to_file as normalize_to_file
    from .matching.normalizing.score_normalization import normalize_scores as normalize_scores
    from .matching.normalizing.smoothing import smooth_negatives as smooth_negatives
    from .matching.normalizing.smoothing import smooth_to_file as smooth_to_file
    from .matching.normalizing.subtraction import subtract_negatives as subtract_negatives
    from .matching.two_sides import search as search
    from .progress import ProgressPrinter as ProgressPrinter
    from .review.page import write_report as write_report
    from .runs.asking import Index as Index
    from .runs.asking import IndexAnswer as IndexAnswer
    from .runs.calibrate import Calibrated as Calibrated
    from .runs.calibrate import calibrate as calibrate
    from .runs.challenge import run_challenge as run_challenge
    from .runs.checks.verification import Verification as Verification
    from .runs.checks.verification import verify_file as verify_file
    from .runs.copies.dedup import DedupResult as DedupResult
    from .runs.copies.dedup import find_duplicates as find_duplicates
    from .runs.copies.find import FindResult as FindResult
    from .runs.copies.find import find_copies as find_copies
    from .runs.copies.leaks import LeaksResult as LeaksResult
    from .runs.copies.leaks import find_leaks as find_leaks
    from .runs.demo import run_demo as run_demo
    from .runs.file_kinds.table import FileFacts as FileFacts
    from .runs.file_kinds.table import describe_file as describe_file
    from .runs.pixels.align import Aligned as Aligned
    from .runs.pixels.align import align_matches as align_matches
    from .runs.pixels.align import align_photos as align_photos
    from .runs.sides.describing import Describing as Describing
    from .runs.sides.thresholds import AtPrecision as AtPrecision
    from .runs.tasks.normalizing import PartsMade as PartsMade
    from .runs.tasks.normalizing import normalize_to_folder as normalize_to_folder
    from .runs.tasks.normalizing import smooth_to_folder as smooth_to_folder
    from .runs.tasks.searching import SearchResult as SearchResult
    from .runs.tasks.searching import search_to_folder as search_to_folder
    from .runs.tuner import tune as tune
    from .sources.choice import Choice as Choice
    from .sources.listing import list_images as list_images

_HOME = {
    "matching.index.changes": (
        "IndexChange",
        "add_to_index",
        "build_index",
        "compact_index",
        "remove_from_index",
    ),
    "runs.pixels.align": (
        "Aligned",
        "align_matches",
        "align_photos",
    ),
    "runs.asking": (
        "IndexAnswer",
        "Index",
    ),
    "runs.calibrate": (
        "Calibrated",
        "calibrate",
    ),
    "runs.challenge": ("run_challenge",),
    "runs.copies.dedup": (
        "DedupResult",
        "find_duplicates",
    ),
    "runs.demo": ("run_demo",),
    "runs.sides.describing": ("Describing",),
    "progress": ("ProgressPrinter",),
    "runs.file_kinds.table": (
        "FileFacts",
        "describe_file",
    ),
    "runs.copies.find": (
        "FindResult",
        "find_copies",
    ),
    "descriptors.formats.submission": ("write_submission",),
    "descriptors.formats.table": (
        "convert",
        "read_descriptors",
    ),
    "descriptors.lengths": ("to_unit_length",),
    "engines.base": (
        "Engine",
        "load_engine",
    ),
    "errors": ("IscFastError",),
    "matching.two_sides": ("search",),
    "matching.lists.matches": (
        "Matches",
        "Truth",
        "read_matches",
        "read_truth",
        "write_matches",
    ),
    "evaluation.metrics": (
        "Evaluation",
        "evaluate",
    ),
    "matching.normalizing.methods": ("normalize_to_file",),
    "matching.normalizing.score_normalization": ("normalize_scores",),
    "matching.normalizing.smoothing": (
        "smooth_negatives",
        "smooth_to_file",
    ),
    "matching.normalizing.subtraction": ("subtract_negatives",),
    "extraction.pipeline": (
        "Extraction",
        "extract",
    ),
    "extraction.runners.cluster": ("Cluster",),
    "review.page": ("write_report",),
    "sources.choice": ("Choice",),
    "sources.listing": ("list_images",),
    "engines.spec": ("EngineSpec",),
    "descriptors.rewriting": (
        "Rewritten",
        "merge_descriptors",
        "remove_descriptors",
        "rename_descriptors",
    ),
    "descriptors.store": (
        "Descriptors",
        "open_descriptors",
    ),
    "descriptors.whole_file": ("assemble",),
    "descriptors.writing": ("write_descriptors",),
    "extraction.share": ("Share",),
    "runs.copies.leaks": (
        "LeaksResult",
        "find_leaks",
    ),
    "runs.tasks.normalizing": (
        "PartsMade",
        "normalize_to_folder",
        "smooth_to_folder",
    ),
    "runs.tasks.searching": (
        "SearchResult",
        "search_to_folder",
    ),
    "runs.sides.thresholds": ("AtPrecision",),
    "runs.tuner": ("tune",),
    "runs.checks.verification": (
        "Verification",
        "verify_file",
    ),
}
_MODULE_OF = {name: module for module, names in _HOME.items() for name in names}

__all__ = sorted(_MODULE_OF)

if TYPE_CHECKING:
    from typing import Any


def __getattr__(name: str) -> Any:
    if name not in _MODULE_OF:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    value = getattr(import_module(f".{_MODULE_OF[name]}", __name__), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
