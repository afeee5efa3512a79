"""The command line: flags of every verb. What they do stands in `isc_fast.cli.commands`, loaded when a verb is run.

Defaults stand in the library, not here: a flag that is not given is not passed on.
"""

from __future__ import annotations

import argparse
import os
import signal
import sys
from collections.abc import Callable, Sequence
from types import FrameType

from .. import __version__
from ..engines.spec import PRECISIONS, RUNTIMES
from ..errors import IscFastError

_ENGINE_HELP = "a file made by isc-fast export; 'demo' stands for the small engine inside the package"


def _add(verbs: argparse._SubParsersAction[argparse.ArgumentParser], name: str, text: str) -> argparse.ArgumentParser:
    return verbs.add_parser(name, help=text, description=text[0].upper() + text[1:] + ".")


def _numbers(text: str) -> tuple[int, ...]:
    """``"1,16,64"`` → (1, 16, 64)."""
    return tuple(int(part) for part in text.split(","))


_numbers.__name__ = "numbers"  # what argparse calls it in its message


def _add_run_flags(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--batch-size", type=int, metavar="N", help="images in one engine call")
    parser.add_argument(
        "--workers", type=int, metavar="N", help="threads that decode, in all; by default one for each core"
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
        "--provider", choices=("cuda", "tensorrt"), help="what ONNX Runtime computes with on a GPU (default: cuda)"
    )


def _add_search_device(parser: argparse.ArgumentParser, flag: str = "--device") -> None:
    parser.add_argument(
        flag,
        metavar="DEVICE",
        help="what searches: cpu (the default), cuda, cuda:N, several GPUs as cuda:0,1, or cuda:all; pairs and scores are the "
        "same",
    )


def _export(verbs: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    p = _add(verbs, "export", "turn a training checkpoint into an engine, verified before it is published")
    p.add_argument(
        "--ckpt",
        required=True,
        help="checkpoint file, or the name of published weights that are then downloaded: isc_ft_v107, isc_selfsup_v98; "
        "for another precision or a .plan also an fp32 engine",
    )
    p.add_argument(
        "-o",
        "--output",
        required=True,
        metavar="FILE",
        help="engine to make: v107.onnx; v107.pt2, compiled by torch; v107.plan, compiled by TensorRT for this GPU",
    )
    p.add_argument("--name", help="what the engine calls itself; by default the preset's name or the file's")
    p.add_argument("--size", type=int, metavar="PX", help="side of the input; by default the checkpoint's")
    p.add_argument(
        "--gem-p",
        type=float,
        metavar="P",
        help="power of GeM pooling; by default the preset's, 1.0, or the checkpoint's",
    )
    p.add_argument(
        "--weights-as",
        choices=("fp32", "fp16"),
        help="how weights are stored; fp16 halves the file, the arithmetic stays fp32 (default: fp32)",
    )
    p.add_argument(
        "--precision",
        choices=PRECISIONS,
        help="of the arithmetic (default: fp32, for a .plan fp16); reduced, it is calibrated, measured on copies of other "
        "photos, and published only within the bounds",
    )
    p.add_argument(
        "--runtime",
        choices=RUNTIMES,
        help="what runs an engine in reduced precision (default: openvino; for int8 alone onnxruntime where that is not "
        "installed)",
    )
    p.add_argument(
        "--batch",
        type=_numbers,
        metavar="N[,N,N]",
        help="for a .plan: images in one execution: fewest, what it is tuned for, most (default: 1,16,64); or one number for "
        "a plan of just that",
    )
    p.add_argument(
        "--timing-cache",
        metavar="FILE",
        help="for a .plan: keeps measured kernels between builds; the GPU's and TensorRT's names are put into its name",
    )
    p.add_argument(
        "--version-compatible",
        action="store_true",
        help="for a .plan: later versions of TensorRT run it too; it then holds program code",
    )
    p.add_argument(
        "--hardware-compatible", action="store_true", help="for a .plan: other GPUs, from Ampere on, run it too; slower"
    )
    p.add_argument(
        "--device",
        choices=("cpu", "cuda"),
        help="for a .pt2: what it is compiled for; by default a GPU if there is one",
    )
    p.add_argument("--photos", metavar="FOLDER", help="photos to verify with; by default those inside the package")
    p.add_argument("--json", action="store_true", help="print the report as JSON")


def _train(verbs: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    p = _add(
        verbs, "train", "train a stage of the schedule, or all up to one; stop it as you like, the same command goes on"
    )
    what = p.add_mutually_exclusive_group(required=True)
    what.add_argument("--stage", metavar="NAME", help="one stage: v83, v83-2, v86, v98, v107, v198, v207, tiny-1, …")
    what.add_argument("--schedule", metavar="NAME", help="every stage up to this one: v107, v207, tiny")
    p.add_argument("--data", required=True, metavar="FOLDER", help="folder laid out like DISC21")
    p.add_argument(
        "-o", "--output", metavar="FOLDER", help="for checkpoints and logs; with --schedule one for each stage"
    )
    p.add_argument(
        "--init",
        metavar="FILE",
        help="weights to start from: the checkpoint of the stage before, or a timm backbone's file; by default ImageNet "
        "weights through timm, for stages that begin with them",
    )
    p.add_argument("--ground-truth", metavar="CSV", help="labelled pairs; by default the *truth*.csv whose name fits")
    p.add_argument(
        "--set",
        action="append",
        metavar="NAME=VALUE",
        help="change a value of the stage, such as batch_size=64, hard_view.blur=0.1 or, in a schedule, v98.learning_rate=0.05",
    )
    p.add_argument(
        "--dry-run", action="store_true", help="print the plan, with a measured step's estimate of time, and stop"
    )
    p.add_argument("--device", choices=("cpu", "cuda"), help="by default a GPU if there is one")
    p.add_argument("--workers", type=int, metavar="N", help="processes that make views, for each training process")
    p.add_argument(
        "--views-on",
        choices=("workers", "device"),
        help="where views are made (default: workers; device: decoded there too)",
    )
    p.add_argument("--seed", type=int, metavar="N", help="of everything that is drawn (default: 0)")
    p.add_argument(
        "--accumulate", type=int, metavar="N", help="parts that a batch is computed in, to save memory (default: 1)"
    )
    p.add_argument("--compile", action="store_true", help="compile the network with torch.compile")
    p.add_argument(
        "--ema-decay", type=float, metavar="D", help="also keep a moving average of the weights, such as 0.999"
    )
    p.add_argument("--log-every", type=int, metavar="N", help="steps between rows of log.csv (default: 20)")
    p.add_argument(
        "--checkpoint-minutes", type=float, metavar="M", help="time between states to resume from (default: 10)"
    )
    p.add_argument("--evaluate", metavar="FOLDER", help="queries, references and truth to evaluate on after each epoch")
    p.add_argument("--fonts", metavar="FOLDER", help="fonts for the hard views; by default those that are installed")
    p.add_argument(
        "--emoji", metavar="FOLDER", help="emoji pictures for the hard views; by default those that are installed"
    )
    p.add_argument("--max-steps", type=int, metavar="N", help="stop after so many steps, as if interrupted")
    p.add_argument("--overwrite", action="store_true", help="begin anew, whatever the output folder holds")


def _extract(verbs: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    p = _add(verbs, "extract", "describe photos; interrupt it as you like, the same command goes on")
    p.add_argument("inputs", nargs="+", metavar="PHOTOS", help="folder, image, or list file (.txt: one path a line)")
    p.add_argument("--engine", required=True, metavar="FILE", help=_ENGINE_HELP)
    p.add_argument("-o", "--output", required=True, metavar="FILE", help="descriptor file to make, such as out.h5")
    p.add_argument(
        "--ids",
        choices=("auto", "path", "stem"),
        help="ids: path in the folder without suffix (auto, the default), with suffix (path), file name alone (stem)",
    )
    p.add_argument("--limit", type=int, metavar="N", help="only the first N images")
    p.add_argument("--shard-size", type=int, metavar="N", help="images of one part, the unit of resuming")
    p.add_argument("--overwrite", action="store_true", help="replace an output made from other inputs or recompute it")
    p.add_argument("--retry-failed", action="store_true", help="try the images again that failed")
    p.add_argument("--strict", action="store_true", help="exit with status 1 if any image failed")
    _add_run_flags(p)
    p.add_argument("--json", action="store_true", help="print the result as JSON")


def _negatives(verbs: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    p = _add(verbs, "negatives", "smooth the descriptors of training images into negatives, once for an engine")
    p.add_argument("descriptors", metavar="TRAIN.h5", help="descriptors of images that match nothing")
    p.add_argument("-o", "--output", required=True, metavar="FILE", help="negatives to make, such as negatives.h5")
    p.add_argument("-k", type=int, metavar="K", help="neighbours that are averaged (default: 10)")
    p.add_argument("--power", type=int, metavar="P", help="power of the similarity that weighs them (default: 3)")
    _add_search_device(p)


def _normalize(verbs: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    p = _add(verbs, "normalize", "subtract negatives from descriptors, for queries and references alike")
    p.add_argument("descriptors", metavar="FILE.h5")
    p.add_argument("--negatives", metavar="FILE", help="made by isc-fast negatives (plain descriptors for score)")
    p.add_argument("-o", "--output", required=True, metavar="FILE")
    p.add_argument(
        "--method",
        choices=("nes", "score"),
        help="negative embedding subtraction (default), or score normalisation, which leaves references as they are",
    )
    p.add_argument("--role", choices=("query", "reference"), help="for score: which side these descriptors are")
    p.add_argument("-k", type=int, metavar="K", help="nearest negatives (default: 10 for nes, 3 for score)")
    p.add_argument("--beta", type=float, metavar="B", help="their weight (default: 0.35 for nes, 1 for score)")
    p.add_argument("--iterations", type=int, metavar="N", help="how often they are subtracted (default: 1)")
    _add_search_device(p)


def _search(verbs: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    p = _add(verbs, "search", "find the references that queries were copied from; exact")
    p.add_argument("queries", metavar="QUERIES.h5")
    p.add_argument("references", metavar="REFERENCES.h5")
    p.add_argument("-o", "--output", required=True, metavar="FILE", help="matches.csv, or matches.jsonl for any id")
    p.add_argument("-k", type=int, metavar="K", help="best references of each query (default: 10, if no other limit)")
    p.add_argument("--max-pairs", type=int, metavar="N", help="best pairs of all queries together")
    p.add_argument("--threshold", type=float, metavar="S", help="lowest score")
    p.add_argument("--metric", choices=("ip", "l2"), help="score: cosine (default), or minus the squared distance")
    _add_search_device(p)


def _evaluate(verbs: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    p = _add(verbs, "evaluate", "score matches against a ground truth, in every protocol")
    p.add_argument("matches", metavar="MATCHES.csv")
    p.add_argument("truth", metavar="GROUND_TRUTH.csv")
    p.add_argument("--protocol", choices=("kit", "official", "per-query"), help="only this one")
    p.add_argument("--json", action="store_true", help="print JSON")


def _convert(verbs: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    p = _add(verbs, "convert", "read and write descriptor files of other tools")
    p.add_argument(
        "inputs",
        nargs="+",
        metavar="[SET=]FILE",
        help="descriptors of any format; several are put together; SET is query, reference or train",
    )
    p.add_argument("-o", "--output", required=True, metavar="FILE")
    p.add_argument(
        "--to",
        choices=("isc-fast", "submission", "reference", "kit", "clip-retrieval"),
        help="format to write (default: isc-fast)",
    )
    p.add_argument("--set", choices=("query", "reference", "train"), help="which set of a submission to read")


def _challenge(verbs: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    p = _add(
        verbs, "challenge", "the whole run on a folder laid out like DISC21: describe, normalise, search, evaluate"
    )
    p.add_argument("input", metavar="DISC21", help="folder with query_images, reference_images, training_images, …")
    p.add_argument("--engine", required=True, metavar="FILE", help=_ENGINE_HELP)
    p.add_argument("-o", "--output", required=True, metavar="FOLDER")
    p.add_argument(
        "--sets", metavar="LETTERS", help="q, p (phase-2 queries), r, t; such as qrt (default: all there are)"
    )
    p.add_argument("--limit", type=int, metavar="N", help="dry run: only the first N images of each set")
    p.add_argument("--reference-subset", metavar="FILE", help="only the references listed there, one id a line")
    p.add_argument("--ground-truth", metavar="CSV", help="by default the *truth*.csv whose name fits")
    p.add_argument("--overwrite", action="store_true", help="replace descriptors of other images or another engine")
    p.add_argument("--retry-failed", action="store_true", help="try the images again that failed")
    _add_search_device(p, "--search-device")
    _add_run_flags(p)


def _demo(verbs: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    p = _add(verbs, "demo", "find edited copies among photos inside the package, and make a page to look at")
    p.add_argument("-o", "--output", metavar="FOLDER", help="(default: demo-out)")
    p.add_argument("--engine", metavar="FILE", help="another engine than the one inside the package")


def _report(verbs: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    p = _add(verbs, "report", "make a page of matches with their pictures")
    p.add_argument("matches", metavar="MATCHES.csv")
    for side in ("queries", "references"):
        p.add_argument(
            f"--{side}", required=True, nargs="+", metavar="PHOTOS", help=f"what the {side} were extracted from"
        )
    p.add_argument("-o", "--output", required=True, metavar="FILE.html")
    p.add_argument("--ids", choices=("auto", "path", "stem"), help="as given to extract")
    p.add_argument("--truth", metavar="CSV", help="ground truth, to colour right and wrong")
    p.add_argument("--threshold", type=float, metavar="S", help="lowest score shown")
    p.add_argument("--max-rows", type=int, metavar="N", help="pairs shown at most (default: 200)")


def _tune(verbs: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    p = _add(verbs, "tune", "find how an engine runs fastest on this machine, and keep that beside it")
    p.add_argument("--engine", required=True, metavar="FILE", help=_ENGINE_HELP)
    p.add_argument("--seconds", type=float, metavar="S", help="that it may take, beside loading (default: 45)")
    p.add_argument("--json", action="store_true", help="print JSON")


def _doctor(verbs: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    p = _add(verbs, "doctor", "find out what works on this machine, and the line that installs or repairs the rest")
    p.add_argument("--json", action="store_true", help="print JSON")


def _info(verbs: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    p = _add(verbs, "info", "say what an engine or a descriptor file is")
    p.add_argument("file", metavar="FILE")
    p.add_argument("--failures", action="store_true", help="list the images that got no descriptor, as JSON lines")
    p.add_argument("--json", action="store_true", help="print JSON")


VERBS: dict[str, Callable[[argparse._SubParsersAction[argparse.ArgumentParser]], None]] = {
    "train": _train,
    "export": _export,
    "extract": _extract,
    "negatives": _negatives,
    "normalize": _normalize,
    "search": _search,
    "evaluate": _evaluate,
    "report": _report,
    "convert": _convert,
    "challenge": _challenge,
    "demo": _demo,
    "tune": _tune,
    "doctor": _doctor,
    "info": _info,
}


def make_parser() -> argparse.ArgumentParser:
    """The parser of the whole command line."""
    parser = argparse.ArgumentParser("isc-fast", description="Find edited copies of photos.")
    parser.add_argument("--version", action="version", version=f"isc-fast {__version__}")
    verbs = parser.add_subparsers(dest="verb", metavar="VERB", required=True)
    for add in VERBS.values():
        add(verbs)
    return parser


def _interrupt(_signal: int, _frame: FrameType | None) -> None:
    raise KeyboardInterrupt


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command line; returns the exit status: 0, 1 (``error: …``), 2 (usage), 130 (interrupted)."""
    given = make_parser().parse_args(arguments)
    signal.signal(signal.SIGTERM, _interrupt)  # a stopped container leaves a state that resumes, like Ctrl-C
    # Ids may hold bytes that are no valid text; print them as they are.
    for stream in (sys.stdout, sys.stderr):
        stream.reconfigure(errors="surrogateescape")  # type: ignore[union-attr]
    try:
        from . import commands

        status = commands.HANDLERS[given.verb](given)
        sys.stdout.flush()
        return status
    except IscFastError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("\ninterrupted; run the same command again to go on", file=sys.stderr)
        return 130
    except BrokenPipeError:  # the reader of a pipe went away: `isc-fast info … | head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1


if __name__ == "__main__":
    sys.exit(main())
