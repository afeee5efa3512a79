"""Evaluate a search with labelled pairs, and choose the threshold that gives 90 % precision.

    python examples/choose_a_threshold.py demo-out/queries demo-out/references demo-out/ground_truth.csv

The ground truth has the columns `query_id,reference_id`; an empty reference means that the query matches nothing.
"""

import sys

import isc_fast


def main(queries_folder: str, references_folder: str, truth_file: str, engine_file: str = "demo") -> None:
    engine = isc_fast.load_engine(engine_file)
    isc_fast.extract(queries_folder, engine, "queries.h5")
    isc_fast.extract(references_folder, engine, "references.h5")
    queries, references = isc_fast.read_descriptors("queries.h5"), isc_fast.read_descriptors("references.h5")

    found = isc_fast.evaluate(isc_fast.search(queries, references, k=10), isc_fast.read_truth(truth_file))
    print(found)
    threshold = found["kit"].threshold_at_p90
    if threshold is None:
        print("no threshold reaches 90 % precision")
        return
    matches = isc_fast.search(queries, references, threshold=threshold)
    print(f"{len(matches)} pairs at {threshold:.3f} or above")


if __name__ == "__main__":
    main(*sys.argv[1:])
