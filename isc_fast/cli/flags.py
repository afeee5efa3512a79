"""Flags that several verbs share, and how flags become arguments of the library.

Defaults stand in the library, not here: a flag that the user leaves out is not passed on.
"""

from __future__ import annotations

from argparse import ArgumentParser, HelpFormatter, Namespace
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from ..engines.kind import PROVIDERS
from ..engines.spec import RUNTIMES

if TYPE_CHECKING:
    from ..runs.sides.describing import Describing
    from ..sources.choice import Choice

PHOTOS_HELP = (
    "folder, image, list (.txt: one path a line; .csv, .jsonl; - is standard input), .tar, .zip, .parquet, or .arrow of "
    "Hugging Face; also in buckets: s3://bucket/prefix/, gs://, az://, or a file at https://"
)
ENGINE_HELP = "a file made by isc-fast export; 'demo' stands for the small engine inside the package"


ID_RULES = ("auto", "path", "stem")
IDS_HELP = "ids: path in the folder without suffix (auto, the default), with suffix (path), file name alone (stem)"
CHECKSUM_HELP = "see by the bytes of a photo whether it has changed, not by size and time: every photo is read for that"
ISOLATE_HELP = "decode in processes of their own: a photo that hangs or crashes an image library costs that photo alone"


_EXAMPLE = "example: "


class _Help(HelpFormatter):
    """Breaks sentences into lines, but no command line, so that it can be copied."""

    def _fill_text(self, text: str, width: int, indent: str) -> str:
        return text if text.startswith(_EXAMPLE) else super()._fill_text(text, width, indent)


def help_of(words: str, example: str) -> dict[str, Any]:
    """What a parser shows: words that begin with a small letter and have no full stop, and a command line below the flags."""
    description = words[0].upper() + words[1:] + "."
    return {"description": description, "epilog": f"{_EXAMPLE}{example}", "formatter_class": _Help}


def given(arguments: Namespace, *names: str) -> dict[str, Any]:
    """Return the flags of these names that the user gave; the others keep the library's default."""
    values = vars(arguments)
    return {name: values[name] for name in names if values.get(name) is not None}


def engine_flags(arguments: Namespace) -> dict[str, Any]:
    """Return where an engine runs and how it is loaded, as `extract` and `run_challenge` take it."""
    return {
        "devices": arguments.device,
        "engine_options": given(arguments, "threads", "runtime", "provider", "trust_plan"),
    }


def add_dtype(parser: ArgumentParser, default: str = "float32") -> None:
    """Add the type in which rows are stored."""
    parser.add_argument(
        "--dtype",
        choices=("float32", "float16"),
        help=f"how the file holds the descriptors; float16 takes half the disk (default: {default})",
    )


def add_json(parser: ArgumentParser, what: str = "") -> None:
    """Add ``--json``."""
    parser.add_argument("--json", action="store_true", help=f"print {what}JSON")


def add_run_flags(parser: ArgumentParser, workers: Callable[[str], Any] = int, others: str = "") -> None:
    """Add what the verbs have in common that decode photos and run an engine on them.

    Args:
        parser: of the verb.
        workers: reads the number behind ``--workers``.
        others: what else may stand there.
    """
    parser.add_argument("--batch-size", type=int, metavar="N", help="images in one engine call")
    parser.add_argument(
        "--workers",
        type=workers,
        metavar="N",
        help=f"threads that decode, in all; by default one for each core{others}",
    )
    parser.add_argument(
        "--decoder",
        choices=("auto", "pillow", "turbo", "turbo-scaled", "dali", "dali-cpu"),
        help="what decodes; auto, the default: the one this output was begun with, else for a .plan dali, which decodes JPEGs "
        "on the GPU, else turbo if installed (pixels within one grey level of pillow's), else pillow",
    )
    parser.add_argument(
        "--threads", type=int, metavar="N", help="threads of the engine, in all; by default one for each core"
    )
    parser.add_argument(
        "--device",
        metavar="DEVICE",
        help="what the engine runs on: cpu, cuda or cuda:1; several beside each other, one process each: cuda:0,1, cuda:all, "
        "cpu,cpu (default: cpu, for a .plan cuda)",
    )
    parser.add_argument(
        "--trust-plan",
        action="store_true",
        help="let a version-compatible .plan run the program code that it holds; only where you trust its origin",
    )
    parser.add_argument(
        "--runtime", choices=RUNTIMES, help="what runs an fp32 engine (default: as tuned, or onnxruntime)"
    )
    parser.add_argument(
        "--provider", choices=PROVIDERS, help="what ONNX Runtime computes with on a GPU (default: cuda)"
    )


def add_choice_flags(parser: ArgumentParser) -> None:
    """Add which of the inputs' photos are taken, as `isc_fast.Choice` has it."""
    for name, what in (("include", "take only"), ("exclude", "leave out")):
        parser.add_argument(
            f"--{name}",
            action="append",
            metavar="GLOB",
            help=f"in folders and archives, {what} what this pattern fits, such as '*.jpg' or 'drafts/*'; may be repeated",
        )
    parser.add_argument(
        "--no-default-excludes",
        action="store_true",
        help="take also what programs keep beside photos, such as @eaDir, .thumbnails, ._* and trash",
    )
    parser.add_argument(
        "--sniff",
        action="store_true",
        help="in folders, take files without an image's name too, where their first bytes are an image's",
    )
    parser.add_argument(
        "--image-column", metavar="NAME", help="of Parquet, Arrow, .csv and .jsonl: where the photos are"
    )
    parser.add_argument("--id-column", metavar="NAME", help="likewise: where the ids are (default: row numbers)")


def choice(arguments: Namespace) -> Choice | None:
    """Return which photos are taken; None where the user gave none of the flags."""
    from ..sources.choice import Choice

    options = given(arguments, "include", "exclude", "image_column", "id_column")
    if arguments.sniff:
        options["sniff"] = True
    if arguments.no_default_excludes:
        options["default_excludes"] = False
    return Choice(**options) if options else None


def add_describing(parser: ArgumentParser, engine: str = "", *, keeps: bool = True) -> None:
    """Add what the verbs have in common that describe photos before they compare them.

    Args:
        parser: of the verb.
        engine: which engine it is, before what may be given.
        keeps: whether descriptors are kept in a folder, where they may be replaced.
    """
    parser.add_argument("--engine", metavar="FILE", help=f"{engine}{ENGINE_HELP} (default: demo)")
    parser.add_argument("--ids", choices=ID_RULES, help=IDS_HELP)
    if keeps:
        parser.add_argument(
            "--overwrite", action="store_true", help="replace descriptors in FOLDER of other photos or another engine"
        )
        parser.add_argument("--checksum", action="store_true", help=CHECKSUM_HELP)
    else:
        parser.set_defaults(overwrite=False, checksum=False)
    parser.add_argument("--isolate", action="store_true", help=ISOLATE_HELP)
    add_choice_flags(parser)
    add_run_flags(parser)


def describing_of(arguments: Namespace) -> Describing:
    """How photos are described, by the flags of `add_describing`."""
    from ..runs.sides.describing import Describing

    options = given(arguments, "engine", "ids", "batch_size", "workers", "decoder")
    options |= {"isolated": arguments.isolate, "overwrite": arguments.overwrite, "choice": choice(arguments)}
    options |= {"checksum": arguments.checksum}
    return Describing(**engine_flags(arguments), **options)


def add_search_device(parser: ArgumentParser, flag: str = "--device") -> None:
    """Add the device that searches; ``flag`` is its name where ``--device`` is the engine's."""
    parser.add_argument(
        flag,
        metavar="DEVICE",
        help="what searches: cpu (the default), cuda, cuda:N, several GPUs as cuda:0,1, or cuda:all; pairs and scores are the "
        "same",
    )


def add_views(parser: ArgumentParser, what: str, flag: str = "--views") -> None:
    """Add in which views photos are described; ``what`` names the photos."""
    parser.add_argument(
        flag,
        metavar="WORDS",
        help=f"views of {what}, of which the best counts: whole (the default), 5 (and its quarters), 6 (and its middle), 10 (and "
        "its halves), mirror, turn; several with commas, such as 10,mirror",
    )


def add_left_out(parser: ArgumentParser) -> None:
    """Add what is left out of a comparison."""
    parser.add_argument(
        "--verdicts", metavar="FILE", help="leave out the pairs that this file, saved from a page, says are wrong"
    )
    parser.add_argument("--stop-list", metavar="FILE", help="leave out the photos of these ids, on either side")


def add_negatives(parser: ArgumentParser, words: str) -> None:
    """Add the negatives of a comparison of two sides, and what becomes of them."""
    parser.add_argument("--negatives", metavar="FILE", help=words)
    parser.add_argument(
        "--method",
        choices=("nes", "score"),
        help="subtract the negatives from both sides (nes), or from a query's scores what it scores among them (score) (default: "
        "score for plain negatives, nes for those that isc-fast negatives smoothed)",
    )


def add_align(parser: ArgumentParser) -> None:
    """Add whether the pairs of a page are looked at in their pixels."""
    parser.add_argument(
        "--align",
        action="store_true",
        help="look at the pairs on the page in their pixels too, so that it lays copies over their originals; the lists stay as "
        "they are; needs the extra evidence",
    )


def add_threshold(
    parser: ArgumentParser, words: str = "lowest score of a pair, a cosine (default: what the engine carries)"
) -> None:
    """Add the lowest score of a pair, or the precision that is wanted in its place."""
    parser.add_argument(
        "--threshold",
        type=float,
        metavar="S",
        help=words,
    )
    parser.add_argument(
        "--calibration",
        metavar="FILE",
        help="what isc-fast calibrate wrote; its threshold for --precision takes this place",
    )
    parser.add_argument(
        "--precision", type=float, metavar="P", help="share of the pairs that should be right (default: 0.99)"
    )
    parser.add_argument(
        "--share",
        type=float,
        metavar="S",
        help="of the photos, or queries, that are taken to be copies (default: 0.01)",
    )


def threshold_of(arguments: Namespace) -> dict[str, Any]:
    """The threshold that the flags of `add_threshold` mean, as an option of the functions in `isc_fast.runs`."""
    from ..errors import InputError

    options = given(arguments, "precision", "share")
    if arguments.calibration is None:
        if options:
            raise InputError(
                f"--{next(iter(options))} needs a calibration: --calibration FILE, which isc-fast calibrate makes"
            )
        return given(arguments, "threshold")
    if arguments.threshold is not None:
        raise InputError("--threshold and --calibration both name a threshold; give one of them")
    from ..runs.sides.thresholds import AtPrecision

    return {"threshold": AtPrecision(arguments.calibration, **options)}


def add_tables(parser: ArgumentParser) -> None:
    """Add in which formats lists are written."""
    parser.add_argument(
        "--format", dest="form", choices=("csv", "json", "jsonl", "parquet"), help="of the lists (default: csv)"
    )
    parser.add_argument(
        "--nemo",
        action="store_true",
        help="also write the list of what could go as NeMo Curator takes it: Parquet, column id",
    )
