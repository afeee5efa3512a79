"""What alignments bring: figures before and after `isc-fast align`, which copies align, how many other pairs, and at what cost.

    python bench/evidence.py                     the demo's 180 copies, 90 strangers and 45 references
    python bench/evidence.py --data HELD_OUT     a folder with query_images, reference_images and ground_truth.csv, such as
                                                 DATA/heldout of isc_fast.training.tiny.data_set
    python bench/evidence.py --smoke             takes seconds with few queries

The 10 best references of each query are looked at. The last part of a query's name is its edit. The reference way is the search
alone. The last line is JSON.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import Any

import isc_fast
from isc_fast.evaluation.metrics import Scores
from isc_fast.runs.demo import run_demo
from isc_fast.runs.pixels.align import align_matches

K = 10
PROTOCOL = "kit"


def figures(matches: isc_fast.Matches, truth: isc_fast.Truth) -> Scores:
    """The figures of the protocol that the held-out set is quoted in."""
    return isc_fast.evaluate(matches, truth, protocols=(PROTOCOL,))[PROTOCOL]


def edit_of(query: str) -> str:
    """The edit that made a query."""
    return query.replace(".", "-").rpartition("-")[2]


def main() -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, help="folder with queries, references and truth (default: the demo's)")
    parser.add_argument("--engine", default="demo")
    parser.add_argument("--inliers", type=int, nargs="+", default=[8, 12])
    parser.add_argument("--smoke", action="store_true", help="few queries")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        if given.data:
            sides = given.data / "query_images", given.data / "reference_images"
            truth = isc_fast.read_truth(given.data / "ground_truth.csv")
        else:
            run_demo(folder / "demo")
            sides = folder / "demo" / "queries", folder / "demo" / "references"
            truth = isc_fast.read_truth(folder / "demo" / "ground_truth.csv")
        engine = isc_fast.load_engine(given.engine)
        for name, side in zip(("queries", "references"), sides, strict=True):
            isc_fast.extract(str(side), engine, folder / f"{name}.h5", limit=60 if given.smoke else None)
        matches = isc_fast.search(
            *(isc_fast.read_descriptors(folder / f"{n}.h5") for n in ("queries", "references")), k=K
        )
        queries = list(dict.fromkeys(matches.query_ids))
        before = figures(matches, truth)
        print(f"{len(queries)} queries, {before.positives} true pairs, {len(matches)} pairs looked at")
        print(f"{'way':<18}{'µAP':>8}{'R@P90':>8}{'recall@1':>10}{'true':>8}{'others':>8}{'ms a query':>12}")
        found: dict[str, dict[str, Any]] = {}

        def show(name: str, scores: Scores, **more: Any) -> None:
            found[name] = {"micro_ap": scores.micro_ap, "r_at_p90": scores.recall_at_p90, **more}
            recall = scores.recall_at_p90 or 0.0
            cells = "".join(f"{more.get(key, '–'):>{width}}" for key, width in (("true", 8), ("others", 8), ("ms", 12)))
            print(
                f"{name:<18}{scores.micro_ap:>8.4f}{recall:>8.4f}{scores.recall_at_rank[1]:>10.4f}{cells}", flush=True
            )

        show("search alone", before)
        by_edit: dict[str, float] = {}
        for inliers in given.inliers[:1] if given.smoke else given.inliers:
            began = time.monotonic()
            made = align_matches(matches, str(sides[0]), str(sides[1]), folder / "aligned.jsonl", inliers=inliers)
            took = 1000 * (time.monotonic() - began) / len(queries)
            right = [pair for pair in made.alignments if pair in truth.pairs]
            others = len(made.alignments) - len(right)
            show(f"{inliers} inliers", figures(made.matches, truth), true=len(right), others=others, ms=round(took, 1))
            if inliers == 8 or given.smoke:
                of_edit = Counter(edit_of(query) for query, _ in truth.pairs if query in set(queries))
                aligned = Counter(edit_of(query) for query, _ in right)
                by_edit = {edit: aligned[edit] / count for edit, count in of_edit.items()}
        print("copies that align, by edit:")
        for edit, share in sorted(by_edit.items(), key=lambda pair: pair[1]):
            print(f"  {edit:<14}{share:>6.0%}")
        print(json.dumps({"bench": "evidence", "queries": len(queries), "rows": found, "by_edit": by_edit}))
    return 0


if __name__ == "__main__":
    sys.exit(main())
