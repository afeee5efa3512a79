"""One run on a cluster, as a program that may be killed: ``python driver.py PHOTOS OUT.h5 ADDRESS MIN MAX PATIENCE_S``."""

from __future__ import annotations

import json
import sys

import isc_fast


def main() -> None:
    photos, output, address, least, most, patience_s = sys.argv[1:]
    cluster = isc_fast.Cluster(address, workers=(int(least), int(most)), patience_s=float(patience_s))
    made = isc_fast.extract(photos, "demo", output, batch_size=4, shard_size=8, cluster=cluster)
    print(json.dumps({"count": made.count, "computed": made.computed, "failed": len(made.failures)}))


if __name__ == "__main__":
    main()
