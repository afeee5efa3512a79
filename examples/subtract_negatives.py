"""Search with negative embedding subtraction: what unrelated photos have in common counts less.

    python examples/subtract_negatives.py demo-out/queries demo-out/references unrelated/

`unrelated/` holds photos that match nothing, some thousand if you can. Scores fall, and those of wrong pairs fall most.
"""

import sys

import isc_fast


def main(queries_folder: str, references_folder: str, unrelated_folder: str, engine_file: str = "demo") -> None:
    engine = isc_fast.load_engine(engine_file)
    sets = {"queries": queries_folder, "references": references_folder, "unrelated": unrelated_folder}
    for name, folder in sets.items():
        isc_fast.extract(folder, engine, f"{name}.h5")
    queries, references, unrelated = (isc_fast.read_descriptors(f"{name}.h5") for name in sets)

    negatives = isc_fast.smooth_negatives(unrelated)
    before = isc_fast.search(queries, references, k=1)
    after = isc_fast.search(
        isc_fast.subtract_negatives(queries, negatives), isc_fast.subtract_negatives(references, negatives), k=1
    )
    isc_fast.write_matches("matches.csv", after)
    print(f"mean score of the best matches: {before.scores.mean():.3f} before, {after.scores.mean():.3f} after")


if __name__ == "__main__":
    main(*sys.argv[1:])
