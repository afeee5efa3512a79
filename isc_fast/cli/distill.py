"""``isc-fast distill``: train a small network to give a large engine's descriptors."""

from __future__ import annotations

import json
from argparse import ArgumentParser, Namespace

from ..errors import InputError, require
from ..machine.allocator import keep_freed_memory
from .flags import ENGINE_HELP, PHOTOS_HELP, add_choice_flags, add_json, choice, given
from .output import named_progress, note, show

HELP = "train a small network to give a large engine's descriptors; the same command resumes after an interruption"
EXAMPLE = "isc-fast distill --teacher v107.onnx --data photos/ -o student.onnx"
_OF_RUN = ("device", "teacher_device", "workers", "seed", "accumulate", "checkpoint_minutes", "log_every", "max_steps")


def add(parser: ArgumentParser) -> None:
    """Add the flags."""
    parser.add_argument(
        "--teacher", required=True, metavar="ENGINE", help=f"whose descriptors are learned: {ENGINE_HELP}"
    )
    parser.add_argument("--data", required=True, metavar="PHOTOS", help=PHOTOS_HELP)
    parser.add_argument(
        "-o",
        "--output",
        metavar="FILE",
        help="engine to make: student.onnx; checkpoints and logs lie beside it in student.training/",
    )
    parser.add_argument(
        "--arch", metavar="NAME", help="the student's backbone in timm (default: tf_efficientnet_lite0)"
    )
    parser.add_argument("--size", type=int, metavar="PX", help="side of the student's input (default: 224)")
    parser.add_argument("--epochs", type=int, metavar="N", help="how often each photo is seen (default: 20)")
    parser.add_argument("--name", help="what the engine calls itself; by default the file's name")
    parser.add_argument(
        "--init",
        metavar="FILE",
        help="weights to start from: a checkpoint of this network, or a timm backbone's file; by default ImageNet weights",
    )
    parser.add_argument(
        "--set",
        action="append",
        metavar="NAME=VALUE",
        help="change another value of the training, such as batch_size=64, similarity=2 or hard_view.blur=0.1",
    )
    parser.add_argument(
        "--min-cosine",
        type=float,
        metavar="C",
        help="do not publish a student whose mean cosine with the teacher is lower, on photos that were held out (default: 0.6)",
    )
    parser.add_argument(
        "--min-neighbours",
        type=float,
        metavar="S",
        help="nor one that finds another nearest photo than the teacher in more than 1 - S of the edited views (default: 0.6)",
    )
    parser.add_argument(
        "--dry-run", action="store_true", help="print the plan, with hours from a measured step and teacher, and stop"
    )
    parser.add_argument("--device", choices=("cpu", "cuda"), help="what trains; by default a GPU if there is one")
    parser.add_argument(
        "--teacher-device",
        metavar="DEVICE",
        help="what the teacher runs on: cpu, cuda or cuda:1 (default: as --device)",
    )
    parser.add_argument("--workers", type=int, metavar="N", help="processes that make views, for each training process")
    parser.add_argument("--seed", type=int, metavar="N", help="seed of everything that is drawn (default: 0)")
    parser.add_argument(
        "--accumulate", type=int, metavar="N", help="parts that a batch is computed in, to save memory (default: 1)"
    )
    parser.add_argument("--log-every", type=int, metavar="N", help="steps between rows of log.csv (default: 20)")
    parser.add_argument(
        "--checkpoint-minutes", type=float, metavar="M", help="time between states to resume from (default: 10)"
    )
    parser.add_argument("--max-steps", type=int, metavar="N", help="trial: save the state and stop after so many steps")
    parser.add_argument("--overwrite", action="store_true", help="train anew, whatever lies beside the output")
    add_choice_flags(parser)
    add_json(parser, "the report as ")


def run(arguments: Namespace) -> int:
    """Train and export the student, and print the report, or print the plan."""
    keep_freed_memory()
    training = require("isc_fast.training.distillation", "train")
    options = require("isc_fast.training.options", "train").RunOptions(**given(arguments, *_OF_RUN))
    wanted = given(arguments, "arch", "size", "epochs") | {"choice": choice(arguments), "options": options}
    wanted |= {"settings": arguments.set} if arguments.set else {}
    reported_once = require("isc_fast.training.reporting", "train").reported_once
    with named_progress("steps", comparing="photos") as printers, reported_once(arguments.max_steps, note):
        if arguments.dry_run:
            plan = training.plan_distillation(arguments.teacher, arguments.data, **wanted)
            if plan:
                show(plan)
            return 0
        if arguments.output is None:
            raise InputError("name the engine to make: -o FILE.onnx")
        wanted |= given(arguments, "name", "min_cosine", "min_neighbours")
        wanted |= {"start": arguments.init} if arguments.init else {}
        made = training.distill(
            arguments.teacher,
            arguments.data,
            arguments.output,
            overwrite=arguments.overwrite,
            progress=printers,
            log=note,
            **wanted,
        )
        if made is not None:
            show(json.dumps(made.to_dict()) if arguments.json else made)
    return 0
