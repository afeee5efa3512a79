"""``isc-fast train``: train a stage of the schedule, or a chain of them."""

from __future__ import annotations

from argparse import ArgumentParser, Namespace

from ..errors import require
from .output import named_progress, note, show

HELP = "train a stage of the schedule, or all up to one; the same command resumes after an interruption"
EXAMPLE = "isc-fast train --schedule v107 --data DISC21/ -o runs/"


def add(parser: ArgumentParser) -> None:
    """Add the flags."""
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument("--stage", metavar="NAME", help="one stage: v83, v83-2, v86, v98, v107, v198, v207, tiny-1, …")
    what.add_argument("--schedule", metavar="NAME", help="every stage up to this one: v107, v207, tiny, mini")
    parser.add_argument("--data", required=True, metavar="FOLDER", help="folder laid out like DISC21")
    parser.add_argument(
        "-o", "--output", metavar="FOLDER", help="for checkpoints and logs; with --schedule one for each stage"
    )
    parser.add_argument(
        "--init",
        metavar="FILE",
        help="weights to start from: the checkpoint of the stage before, or a timm backbone's file; by default ImageNet "
        "weights through timm, for stages that begin with them",
    )
    parser.add_argument(
        "--ground-truth", metavar="CSV", help="labelled pairs; by default the *truth*.csv whose name fits"
    )
    parser.add_argument(
        "--set",
        action="append",
        metavar="NAME=VALUE",
        help="change a value of the stage, such as batch_size=64, hard_view.blur=0.1 or, in a schedule, v98.learning_rate=0.05",
    )
    parser.add_argument(
        "--dry-run", action="store_true", help="print the plan, with a measured step's estimate of time, and stop"
    )
    parser.add_argument("--device", choices=("cpu", "cuda"), help="by default a GPU if there is one")
    parser.add_argument("--workers", type=int, metavar="N", help="processes that make views, for each training process")
    parser.add_argument(
        "--views-on",
        choices=("workers", "device"),
        help="where views are made (default: workers; device: decoded there too)",
    )
    parser.add_argument("--seed", type=int, metavar="N", help="seed of everything that is drawn (default: 0)")
    parser.add_argument(
        "--accumulate", type=int, metavar="N", help="parts that a batch is computed in, to save memory (default: 1)"
    )
    parser.add_argument("--compile", action="store_true", help="compile the network with torch.compile")
    parser.add_argument(
        "--ema-decay", type=float, metavar="D", help="also keep a moving average of the weights, such as 0.999"
    )
    parser.add_argument("--log-every", type=int, metavar="N", help="steps between rows of log.csv (default: 20)")
    parser.add_argument(
        "--checkpoint-minutes", type=float, metavar="M", help="time between states to resume from (default: 10)"
    )
    parser.add_argument(
        "--evaluate", metavar="FOLDER", help="queries, references and truth to evaluate on after each epoch"
    )
    parser.add_argument(
        "--fonts", metavar="FOLDER", help="fonts for the hard views; by default those that are installed"
    )
    parser.add_argument(
        "--emoji", metavar="FOLDER", help="emoji pictures for the hard views; by default those that are installed"
    )
    parser.add_argument("--max-steps", type=int, metavar="N", help="trial: save the state and stop after so many steps")
    parser.add_argument("--overwrite", action="store_true", help="begin anew, whatever the output folder holds")


def run(arguments: Namespace) -> int:
    """Train, and print where the checkpoint is."""
    training = require("isc_fast.training.verb", "train")
    with named_progress("steps") as printers:
        training.train(arguments, progress=printers, note=note, show=show)
    return 0
