"""Makes the engine and the negatives inside the package from a network of the tiny schedule. From nothing, in about an hour
on two cores, with apt-get and npm at hand for the photos:

    pip install 'isc-fast[cpu,export,train]'
    python -m isc_fast.training.tiny.photo_pool POOL
    python -m isc_fast.training.tiny.data_set POOL -o DATA
    torchrun --nproc-per-node=2 -m isc_fast.training --schedule tiny --data DATA -o RUNS --device cpu --workers 0
    python -m isc_fast.training.tiny.demo_engine RUNS/tiny/checkpoint_0003.pth.tar --data DATA -o isc_fast/data
    python -m isc_fast.training.tiny.model_card --engine isc_fast/data/demo.onnx --data DATA -o CARD
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from ...assets import DEMO_ENGINE, DEMO_NEGATIVES
from ...descriptors.store import Descriptors, load_descriptors, write_descriptors
from ...errors import IscFastError
from ...export import export_engine
from ...extraction.pipeline import extract
from ...matching.smoothing import smooth_negatives

SIZE = 224  # larger than in training (192): as good on held-out photos, and better where a photo is small in its copy


def make_demo_files(checkpoint: str | Path, data: str | Path, output: str | Path) -> tuple[Path, Path]:
    """Write ``demo.onnx`` and ``demo-negatives.h5``.

    Args:
        checkpoint: of the last stage.
        data: made by `isc_fast.training.tiny.data_set`; its ``training_images`` become the negatives.
        output: folder.

    Raises:
        IscFastError: whatever exporting and extracting raise.
    """
    engine, negatives = Path(output, DEMO_ENGINE.name), Path(output, DEMO_NEGATIVES.name)
    print(export_engine(checkpoint, engine, name="demo", size=SIZE, weights_as="fp16", log=print))
    with tempfile.TemporaryDirectory() as scratch:
        described = extract(Path(data, "training_images"), engine, Path(scratch, "train.h5"), overwrite=True)
        plain = load_descriptors(described.path)
    # Ids and the plan of someone's own folder do not belong into the package.
    anonymous = Descriptors(plain.vectors, [str(row) for row in range(len(plain))], {**plain.meta, "plan": None})
    write_descriptors(negatives, smooth_negatives(anonymous))
    print(f"{len(anonymous)} negatives")
    return engine, negatives


def main(arguments: Sequence[str] | None = None) -> None:
    """Make both files."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("checkpoint", help="of the tiny schedule's last stage")
    parser.add_argument("--data", required=True, help="what it was trained on, as tiny_data made it")
    parser.add_argument("-o", "--output", required=True, help="folder for demo.onnx and demo-negatives.h5")
    given = parser.parse_args(arguments)
    make_demo_files(given.checkpoint, given.data, given.output)


if __name__ == "__main__":
    try:
        main()
    except IscFastError as error:
        sys.exit(f"error: {error}")
