"""Extract from a real server of S3 that is slow, spoils answers and is killed, and compare each result with the folder's.

    python tests/cluster/stores.py [--images 400] [--rounds 3] [--only WORD …]

The last line is JSON; the exit status is 1 if a result has other bytes or a run failed. It needs the dependency group cluster.
"""

from __future__ import annotations

import argparse
import io
import json
import os
import statistics
import sys
import tempfile
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
sys.path[:0] = [str(HERE), str(HERE.parent), str(HERE.parents[1] / "bench" / "common")]

import numpy as np
from helpers_containers import write_tar
from PIL import Image
from seaweed import KEY_ID, SECRET, Seaweed
from spoiling_proxy import at_random, proxy_to

from isc_fast.assets import demo_photos
from isc_fast.decoders.opening import open_photo
from isc_fast.descriptors.store import load_descriptors
from isc_fast.engines.base import Engine, load_engine
from isc_fast.errors import StoreError
from isc_fast.extraction.compute import opened_ahead
from isc_fast.extraction.pipeline import extract
from isc_fast.sources.listing import list_images, open_item
from isc_fast.stores.store import store_of

BUCKET = "photos"


@contextmanager
def at(url: str, secret: str = SECRET) -> Iterator[None]:
    """Let this process find its buckets there."""
    values = {
        "AWS_ENDPOINT_URL": url,
        "AWS_ACCESS_KEY_ID": KEY_ID,
        "AWS_SECRET_ACCESS_KEY": secret,
        "AWS_REGION": "us-east-1",
    }
    before = {name: os.environ.get(name) for name in values}
    os.environ.update(values)
    store_of.cache_clear()
    try:
        yield
    finally:
        for name, value in before.items():
            os.environ.pop(name) if value is None else os.environ.update({name: value})
        store_of.cache_clear()


def of_100_kb(photo: Path) -> bytes:
    """A photo of the package in more pixels, as large as photos of the web are: some 100 kB."""
    with Image.open(photo) as image:
        stream = io.BytesIO()
        image.convert("RGB").resize((image.width * 3 // 2, image.height * 3 // 2)).save(stream, "jpeg", quality=88)
    return stream.getvalue()


class Room:
    """A folder of photos, a bucket of the same, and the folder's descriptors."""

    def __init__(self, folder: Path, images: int, engine: Engine) -> None:
        self.folder, self.engine = folder, engine
        self.photos, self.tars = folder / "in" / "photos", folder / "in" / "tars"
        self.photos.mkdir(parents=True)
        self.tars.mkdir()
        contents = [of_100_kb(photo) for photo in demo_photos()]
        self.photo_kb = sum(map(len, contents)) / len(contents) / 1000
        files = {f"{number % 7}/{number:05d}.jpg": contents[number % len(contents)] for number in range(images)}
        for name, content in files.items():
            path = self.photos / name
            path.parent.mkdir(exist_ok=True)
            path.write_bytes(content)
        names = list(files)
        for number in range(4):
            write_tar(self.tars / f"{number}.tar", {name: files[name] for name in names[number::8]})
        self.server = Seaweed(folder / "weed" / "data")
        self.server.start()
        client = self.server.client()
        client.create_bucket(Bucket=BUCKET)
        for path in (folder / "in").rglob("*.*"):
            client.put_object(Bucket=BUCKET, Key=path.relative_to(folder / "in").as_posix(), Body=path.read_bytes())
        self.number = 0

    def out(self) -> Path:
        self.number += 1
        return self.folder / f"{self.number}.h5"

    def extract(self, what: str, output: Path, *, here: bool = False, **options: Any) -> float:
        """Images in a second."""
        source = self.folder / "in" / what if here else f"s3://{BUCKET}/{what}/"
        made = extract(source, self.engine, output, shard_size=32, **options)
        if made.failures:
            raise RuntimeError(f"{len(made.failures)} photos failed, such as {made.failures[0]}")
        return made.computed / made.seconds

    def open_all(self, *, ahead: bool) -> float:
        """Photos of the bucket in a second that are opened and not decoded."""
        items = list_images(f"s3://{BUCKET}/photos/").items
        began = time.monotonic()
        for photo in (opened_ahead if ahead else iter)(map(open_item, items)):
            with open_photo(photo) as stream:
                stream.read()
        return len(items) / (time.monotonic() - began)

    def same(self, one: Path, other: Path) -> None:
        a, b = load_descriptors(one), load_descriptors(other)
        if list(a.ids) != list(b.ids) or not np.array_equal(a.vectors, b.vectors):
            raise RuntimeError(f"{one.name} and {other.name} differ")


def rates(room: Room, rounds: int) -> dict[str, Any]:
    """The rate from the bucket beside that from the folder, in turns."""
    found: dict[str, list[float]] = {}
    with at(room.server.url):
        for _ in range(rounds):
            for what in ("photos", "tars"):
                here, there = room.out(), room.out()
                found.setdefault(f"{what}, folder", []).append(room.extract(what, here, here=True))
                found.setdefault(f"{what}, bucket", []).append(room.extract(what, there))
                room.same(there, here)
    medians = {name: round(statistics.median(values), 1) for name, values in found.items()}
    shares = {what: round(medians[f"{what}, bucket"] / medians[f"{what}, folder"], 3) for what in ("photos", "tars")}
    return {"photo_kb": round(room.photo_kb), "images_per_s": medians, "bucket against folder": shares}


def far(room: Room, _rounds: int) -> dict[str, Any]:
    """The rate where each answer takes 50 ms longer than a store on this machine takes."""
    near, slow = room.out(), room.out()
    with proxy_to(room.server.port, lambda _method, _path: None) as proxy, at(proxy.url):
        rate = room.extract("photos", near)
        forward = proxy.forward

        def later(*asked: Any) -> Any:
            time.sleep(0.05)
            return forward(*asked)

        proxy.forward = later  # type: ignore[method-assign]
        rate_far = room.extract("photos", slow)
        one_by_one, ahead = room.open_all(ahead=False), room.open_all(ahead=True)
    room.same(slow, near)
    rates = {
        "through the proxy": rate,
        "and 50 ms away": rate_far,
        "only opened": ahead,
        "and one after the other": one_by_one,
    }
    return {"images_per_s": {name: round(rate, 1) for name, rate in rates.items()}}


def spoilt(room: Room, _rounds: int) -> dict[str, Any]:
    """A quarter of all requests is spoilt; how many times as long it takes as through a proxy that spoils none."""
    seen: dict[str, int] = {}
    times: dict[str, float] = {}
    for what in ("photos", "tars"):
        here, calm, there = room.out(), room.out(), room.out()
        room.extract(what, here, here=True)
        with proxy_to(room.server.port, lambda _method, _path: None) as proxy, at(proxy.url):
            rate = room.extract(what, calm)
        with proxy_to(room.server.port, at_random(0.25, seed=3)) as proxy, at(proxy.url):
            times[what] = round(rate / room.extract(what, there), 2)
            for kind, count in proxy.seen.items():
                seen[kind or "as it should be"] = seen.get(kind or "as it should be", 0) + count
        room.same(there, here)
    return {"requests": seen, "times as long": times}


def killed(room: Room, _rounds: int) -> dict[str, Any]:
    """The server is killed in mid-run. The run ends with a line, and goes on when the server is back."""
    whole, output = room.out(), room.out()
    with at(room.server.url):
        room.extract("photos", whole)
        began = threading.Event()

        def progress(done: int, _total: int, _failed: int) -> None:
            if done >= 64 and not began.is_set():
                began.set()
                room.server.kill()

        try:
            room.extract("photos", output, progress=progress)
        except StoreError as error:
            told = str(error)
        else:
            raise RuntimeError("the run did not notice that its server was gone")
        finally:
            room.server.start()
        parts = len(list(Path(f"{output}.parts").glob("part-*")))
        room.extract("photos", output)
    if output.read_bytes() != whole.read_bytes():
        raise RuntimeError("the run that went on made other bytes")
    return {"parts kept": parts, "said": told}


def refused(room: Room, _rounds: int) -> dict[str, Any]:
    """A wrong secret key, a missing bucket and a dead endpoint are one line each, within 10 s."""
    said, seconds = {}, {}
    cases: dict[str, tuple[str, str, str]] = {
        "wrong secret": (room.server.url, "wrong", f"s3://{BUCKET}/photos/"),
        "no bucket": (room.server.url, SECRET, "s3://no-such-bucket/photos/"),
        "dead endpoint": ("http://127.0.0.1:9", SECRET, f"s3://{BUCKET}/photos/"),
    }
    for name, (url, secret, source) in cases.items():
        began = time.monotonic()
        with at(url, secret):
            try:
                extract(source, room.engine, room.out())
            except StoreError as error:
                said[name] = str(error)
            else:
                raise RuntimeError(f"{name}: nothing was said")
        seconds[name] = round(time.monotonic() - began, 1)
        if seconds[name] > 10 or SECRET in said[name] or KEY_ID in said[name]:
            raise RuntimeError(f"{name}: too late, or a secret: {said[name]}")
    return {"said": said, "seconds": seconds}


SCENES: dict[str, Callable[[Room, int], dict[str, Any]]] = {
    scene.__name__: scene for scene in (rates, far, spoilt, killed, refused)
}


def main() -> int:
    """Play the scenes."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=400)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--only", nargs="+", metavar="WORD", default=[""])
    arguments = parser.parse_args()
    result: dict[str, Any] = {"images": arguments.images}
    failed = []
    with tempfile.TemporaryDirectory(prefix="isc-fast-stores-") as folder:
        room = Room(Path(folder), arguments.images, load_engine("demo"))
        try:
            for name, scene in SCENES.items():
                if any(word in name for word in arguments.only):
                    try:
                        result[name] = scene(room, arguments.rounds)
                        print(f"{name}: {result[name]}", flush=True)
                    except Exception:
                        traceback.print_exc()
                        failed.append(name)
        finally:
            room.server.kill()
    print(json.dumps({**result, "failed": failed}))
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
