"""Find pairs of near duplicates inside one folder, best pairs first. Nothing is deleted.

python examples/find_duplicates.py demo-out/queries 0.6
"""

import sys

import isc_fast


def main(folder: str, threshold: str = "0.6", engine_file: str = "demo") -> None:
    made = isc_fast.extract(folder, engine_file, "photos.h5")
    for failure in made.failures:
        print(f"not described: {failure.path}: {failure.reason}", file=sys.stderr)
    photos = isc_fast.read_descriptors("photos.h5")
    matches = isc_fast.search(photos, photos, threshold=float(threshold))
    # Every photo finds itself, and every pair is found from both ends.
    pairs = [(one, other, score) for one, other, score in matches if one < other]
    for one, other, score in pairs:
        print(f"{score:.3f}  {one}  {other}")
    print(f"{len(photos)} photos, {len(pairs)} pairs at {threshold} or above")


if __name__ == "__main__":
    main(*sys.argv[1:])
