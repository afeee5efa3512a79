"""Find which photos of one folder are copies of photos in another, and make a page to look at.

    python examples/find_copies.py demo-out/queries demo-out/references

The two descriptor files, `matches.csv` and `matches.html` appear in the current folder. If you interrupt the script, start it
again: it continues.
"""

import sys

import isc_fast


def main(queries_folder: str, references_folder: str, engine_file: str = "demo", threshold: str = "0.5") -> None:
    engine = isc_fast.load_engine(engine_file)
    isc_fast.extract(queries_folder, engine, "queries.h5")
    isc_fast.extract(references_folder, engine, "references.h5")
    queries = isc_fast.read_descriptors("queries.h5")
    with isc_fast.open_descriptors("references.h5") as references:  # may be larger than memory
        matches = isc_fast.search(queries, references, k=3, threshold=float(threshold))
    isc_fast.write_matches("matches.csv", matches)

    paths = [
        {item.id: item.path for item in isc_fast.list_images(f).found} for f in (queries_folder, references_folder)
    ]
    if len(matches):
        isc_fast.write_report("matches.html", matches, queries=paths[0], references=paths[1])
    print(f"{len(queries)} queries, {len(set(matches.query_ids))} of them with a copy at {threshold} or above")


if __name__ == "__main__":
    main(*sys.argv[1:])
