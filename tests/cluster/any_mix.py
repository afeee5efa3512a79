"""Any mix of executors, kills, orders and shares of arrays leads to one manifest, in a folder and on S3.

    python tests/cluster/any_mix.py [--seeds 20] [--first 0] [--images 60]

Seeds of even numbers write to a folder; the others to a bucket of a real server (SeaweedFS) through a proxy that spoils a quarter
of all requests. The Ray cluster is a head and two nodes. The last line is JSON; the exit status is 1 if a manifest has other
bytes, a photo is lost or doubled, or a run failed. It needs the dependency group cluster.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
import time
import traceback
from collections import Counter
from functools import partial
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
sys.path[:0] = [str(HERE), str(HERE.parent), str(HERE.parents[1] / "bench" / "common")]

from cluster import in_own_network, make_photos
from mixes import SIZES, play
from ray_room import Room
from seaweed import Seaweed
from spoiling_proxy import at_random, proxy_to
from stores import at

import isc_fast
from isc_fast.extraction.pipeline import extract

BUCKET = "mixes"


def parts_of(client: Any, output: str) -> int:
    """How many parts are there."""
    if not output.startswith("s3://"):
        return len(list(Path(output).glob("*/part-*.h5")))
    found = client.list_objects_v2(Bucket=BUCKET, Prefix=output.removeprefix(f"s3://{BUCKET}/"))
    return sum(one["Key"].endswith(".h5") for one in found.get("Contents", []))


def trouble_of(manifest: bytes, wanted: bytes, output: str, images: int) -> str:
    """What is wrong with a result, in words; empty where nothing is."""
    if manifest != wanted:
        return "OTHER MANIFEST"
    ids = list(isc_fast.read_descriptors(output).ids)
    if len(ids) != images or len({*ids}) != images:
        return f"{images - len({*ids})} LOST, {len(ids) - len({*ids})} DOUBLED"
    return ""


def main() -> int:
    """Play the mixes and return the exit status."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=20)
    parser.add_argument("--first", type=int, default=0)
    parser.add_argument("--images", type=int, default=60)
    given = parser.parse_args()
    in_own_network()
    rows, done, troubles = list[dict[str, object]](), Counter[str](), 0
    with tempfile.TemporaryDirectory() as text:
        folder = Path(text)
        photos = make_photos(folder / "photos", given.images, poison=False)
        extract(photos, "demo", f"{folder}/whole/", **SIZES)
        wanted = (folder / "whole" / "manifest.json").read_bytes()
        server = Seaweed(folder / "weed" / "data")
        server.start()
        client = server.client()
        client.create_bucket(Bucket=BUCKET)
        try:
            with proxy_to(server.port, at_random(0.25, given.first)) as proxy, at(proxy.url), Room(nodes=2) as room:
                os.environ.update(room.environment)
                for seed in range(given.first, given.first + given.seeds):
                    room.forget()
                    room.be_slow()
                    output = f"s3://{BUCKET}/{seed}/" if seed % 2 else f"{folder}/out-{seed}/"
                    began, trouble, mix = time.monotonic(), "", Counter[str]()
                    try:
                        parts = partial(parts_of, client, output)
                        mix = play(seed, photos, output, address=room.address, actors=room.pids, parts=parts)
                        done += mix
                        if seed % 2:
                            manifest = client.get_object(Bucket=BUCKET, Key=f"{seed}/manifest.json")["Body"].read()
                        else:
                            manifest = (Path(output) / "manifest.json").read_bytes()
                        trouble = trouble_of(manifest, wanted, output, given.images)
                    except Exception:
                        traceback.print_exc()
                        trouble = "FAILED"
                    troubles += bool(trouble)
                    row = {"seed": seed, "where": "S3" if seed % 2 else "folder", "result": trouble or "same manifest"}
                    rows.append({**row, "seconds": round(time.monotonic() - began, 1), **mix})
                    print(*(f"{key} {value}" for key, value in rows[-1].items()), sep=", ", flush=True)
                spoilt = proxy.seen.total() - proxy.seen[""], proxy.seen.total()
        finally:
            server.kill()
    print(
        json.dumps(
            {"bench": "mixes", "same": len(rows) - troubles, "of": len(rows), "spoilt": spoilt, **done, "rows": rows}
        )
    )
    return 1 if troubles else 0


if __name__ == "__main__":
    sys.exit(main())
