"""Search with descriptors of another network or tool: any array of numbers with an id for each row.

    python examples/other_networks.py vectors.npy ids.txt

Rows are scaled to unit length, so that a score is a cosine. The set is written in two formats: ours, and the evaluation kit's.
"""

import sys
from pathlib import Path

import numpy as np

import isc_fast


def main(vectors_file: str, ids_file: str) -> None:
    vectors = np.load(vectors_file).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    ids = Path(ids_file).read_text("utf-8").splitlines()
    mine = isc_fast.Descriptors(vectors, ids, {"engine_id": "the name of your network"})
    isc_fast.write_descriptors("vectors.h5", mine)
    isc_fast.convert({"": mine}, "kit.h5", "kit")

    with isc_fast.open_descriptors("vectors.h5") as stored:
        matches = isc_fast.search(mine, stored, k=2)
    others = [(query, reference, score) for query, reference, score in matches if query != reference]
    for query, reference, score in sorted(others, key=lambda match: -match[2])[:10]:
        print(f"{score:.3f}  {query}  {reference}")


if __name__ == "__main__":
    main(*sys.argv[1:])
