"""``isc-fast export``: from a training checkpoint to a verified engine."""

from __future__ import annotations

import json
from argparse import ArgumentParser, Namespace

from ..engines.spec import PRECISIONS, RUNTIMES
from ..errors import require
from .flags import add_json, given
from .output import note, progress, show

HELP = "turn a training checkpoint into an engine, verified before it is published"
EXAMPLE = "isc-fast export --ckpt isc_ft_v107 -o v107.onnx"
_MB = 1_000_000


def _numbers(text: str) -> tuple[int, ...]:
    """``"1,16,64"`` → (1, 16, 64)."""
    return tuple(int(part) for part in text.split(","))


_numbers.__name__ = "numbers"  # the word that argparse uses in its message


def add(parser: ArgumentParser) -> None:
    """Add the flags."""
    parser.add_argument(
        "--ckpt",
        required=True,
        help="checkpoint file (of the ISC, SSCD or CopyNCE family), or the name of published weights that are then "
        "downloaded: isc_ft_v107, isc_selfsup_v98, sscd_disc_mixup, sscd_disc_large; an ONNX file of another tool, which is "
        "wrapped; for another precision or a .plan also an fp32 engine",
    )
    parser.add_argument(
        "-o",
        "--output",
        required=True,
        metavar="FILE",
        help="engine to make: v107.onnx; v107.pt2, compiled by torch; v107.plan, compiled by TensorRT for this GPU",
    )
    parser.add_argument("--name", help="what the engine calls itself; by default the preset's name or the file's")
    parser.add_argument("--size", type=int, metavar="PX", help="side of the input; by default the checkpoint's")
    parser.add_argument(
        "--gem-p",
        type=float,
        metavar="P",
        help="power of GeM pooling; by default the preset's, 1.0, or the checkpoint's",
    )
    parser.add_argument(
        "--weights-as",
        choices=("fp32", "fp16"),
        help="how weights are stored; fp16 halves the file, the arithmetic stays fp32 (default: fp32)",
    )
    parser.add_argument(
        "--tta",
        action="store_true",
        help="test-time augmentation of the published script: the engine sums the descriptors of 3 scales of a photo and their "
        "mirror images; 7 times the arithmetic",
    )
    parser.add_argument(
        "--preprocess",
        metavar="WORDS",
        help="for an ONNX file of another tool: how a photo becomes its input, as 'resize=stretch filter=bilinear "
        "mean=0.485,0.456,0.406 std=0.229,0.224,0.225'; also antialias=no, fill=R,G,B for resize=pad, channels=bgr",
    )
    parser.add_argument(
        "--precision",
        choices=PRECISIONS,
        help="of the arithmetic (default: fp32, for a .plan fp16); a reduced one is calibrated, measured on copies of other "
        "photos, and published only within the bounds",
    )
    parser.add_argument(
        "--runtime",
        choices=RUNTIMES,
        help="what runs an engine in reduced precision (default: openvino; for int8 alone onnxruntime where that is not "
        "installed)",
    )
    parser.add_argument(
        "--batch",
        type=_numbers,
        metavar="N[,N,N]",
        help="for a .plan: images in one execution: fewest, what it is tuned for, most (default: 1,16,64); or one number for "
        "a plan of just that",
    )
    parser.add_argument(
        "--timing-cache",
        metavar="FILE",
        help="for a .plan: keeps measured kernels between builds; the GPU's and TensorRT's names are put into its name",
    )
    parser.add_argument(
        "--version-compatible",
        action="store_true",
        help="for a .plan: later versions of TensorRT run it too; it then holds program code",
    )
    parser.add_argument(
        "--hardware-compatible", action="store_true", help="for a .plan: other GPUs, from Ampere on, run it too; slower"
    )
    parser.add_argument(
        "--device",
        choices=("cpu", "cuda"),
        help="for a .pt2: what it is compiled for; by default a GPU if there is one",
    )
    parser.add_argument("--photos", metavar="FOLDER", help="photos to verify with; by default those inside the package")
    add_json(parser, "the report as ")


def run(arguments: Namespace) -> int:
    """Export the engine and print the report."""
    library = require("isc_fast.export", "export")
    options = given(arguments, "name", "size", "gem_p", "weights_as", "tta", "precision", "runtime", "device")
    options |= given(arguments, "preprocess")
    options |= given(arguments, "batch", "timing_cache", "version_compatible", "hardware_compatible")
    if arguments.photos:
        from ..sources.listing import list_files

        options["photos"] = list_files(arguments.photos)
    with progress("download", "MB") as printer:
        report = library.export_engine(
            arguments.ckpt,
            arguments.output,
            log=note,
            progress=lambda done, total: printer(done // _MB, (total or done) // _MB, 0),
            **options,
        )
    show(json.dumps(report.to_dict()) if arguments.json else report)
    return 0
