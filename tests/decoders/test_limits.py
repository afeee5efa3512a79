"""What one photo may cost: each of these files once took gigabytes, or minutes. Here each costs a line or its fair share."""

from __future__ import annotations

import io
import os
import resource
import signal
import struct
import subprocess
import sys
import threading
import time
import zlib
from pathlib import Path

import numpy as np
import pytest
from images import encode, noise
from PIL import Image

from isc_fast.decoders.base import make_decoder
from isc_fast.decoders.limits import MAX_PIXELS, Room, jpeg_bytes
from isc_fast.decoders.preprocessing import Preprocessing
from isc_fast.decoders.threads import PATIENCE_S, ThreadedDecoder

SMALL = Preprocessing(64, 64)


def chunk(kind: bytes, data: bytes = b"", claimed: int | None = None) -> bytes:
    length = len(data) if claimed is None else claimed
    return struct.pack(">I", length) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png(width: int, height: int, *more: bytes, rows: bytes = b"") -> bytes:
    head = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + head + b"".join(more) + chunk(b"IDAT", rows) + chunk(b"IEND")


DAMAGED_CHUNK = chunk(b"pHYs", bytes(9))[:-1] + b"x"
"""Pillow refuses a file with it, and `mending` does not."""


def tiff(entries: list[tuple[int, int, int, int]], size: int) -> bytes:
    """A TIFF of these entries (tag, type, number of values, value or place) that has so many bytes."""
    table = b"".join(struct.pack("<HHII", *entry) for entry in entries)
    return (b"II*\0\x08\0\0\0" + struct.pack("<H", len(entries)) + table).ljust(size, b"\0")


def tiles(width: int, height: int) -> list[tuple[int, int, int, int]]:
    """The entries of a page of 12-bit grey, which Pillow does not read, in tiles of one pixel."""
    sizes = [(256, 4, 1, width), (257, 4, 1, height), (258, 3, 1, 12), (259, 3, 1, 1), (262, 3, 1, 1)]
    each = [(322, 3, 1, 1), (323, 3, 1, 1), (324, 1, width * height, 512), (325, 1, width * height, 512)]
    return [*sizes, (277, 3, 1, 1), *each]


def many_scans(count: int) -> bytes:
    """A progressive JPEG with scans that add nothing."""
    data = encode(noise(1500, 2000), "JPEG", progressive=True)
    end = data.rindex(b"\xff\xd9")
    # Refines a coefficient of one component, and has a byte for it.
    empty = b"\xff\xda\x00\x08\x01\x01\x00\x01\x3f\x10" + b"\x00"
    return data[:end] + empty * count + data[end:]


def sparse(path: Path, content: bytes, size: int) -> Path:
    path.write_bytes(content)
    os.truncate(path, size)
    return path


def decode(name: str, path: Path) -> tuple[str, np.ndarray]:
    """The problem of a photo, or "", and its pixels."""
    (batch,) = make_decoder(name, 1).batches([[str(path)]], SMALL)
    return (batch.problems[0].reason if batch.problems[0] else ""), batch.pixels[0]


@pytest.fixture(params=["pillow", "turbo"])
def name(request) -> str:
    return request.param


@pytest.fixture
def bounded():
    """Let nothing here take more than 3 GB more than what is taken already."""
    limits = resource.getrlimit(resource.RLIMIT_AS)
    now = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (now + (3 << 30), limits[1]))
    yield
    resource.setrlimit(resource.RLIMIT_AS, limits)


@pytest.mark.timeout(60)
@pytest.mark.filterwarnings("ignore")
@pytest.mark.usefixtures("bounded")
@pytest.mark.parametrize(
    ("made", "words"),
    [
        (lambda: png(1, 178_000_000), "a side is longer than the limit"),
        (lambda: many_scans(20_000), "progressive JPEG of more than"),
        (lambda: b"P6 3000 3000 100 " + bytes(27_000_000), "slow to decode"),
        (lambda: b"P3 3000 3000 255 " + b"0 " * 27_000_000, "slow to decode"),
        (lambda: png(8, 8, chunk(b"tEXt", b"a\0b", claimed=0x7FFFFFFF)), ""),
        (lambda: png(1, 178_000_000, DAMAGED_CHUNK), "a side is longer than the limit"),
        (lambda: png(8, 8, chunk(b"tEXt") * 3_000_000), "a PNG of more than 262144 chunks"),
        (lambda: png(8, 8, DAMAGED_CHUNK + chunk(b"IDAT") * 3_000_000), "a PNG of more than 262144 chunks"),
        (lambda: tiff([(65000 + n % 500, 1, 10_000_000, 200) for n in range(4000)], 10_000_000), "lie over each other"),
        (lambda: tiff(tiles(8000, 8000), 64_000_000), "a TIFF of 64000000 strips or tiles"),
    ],
    ids=["narrow", "scans", "maxval", "plain", "chunk", "mended", "chunks", "data chunks", "tags", "tiles"],
)
def test_a_hostile_photo_costs_a_line(tmp_path, name, made, words):
    (tmp_path / "x").write_bytes(made())
    began = time.monotonic()
    reason, pixels = decode(name, tmp_path / "x")
    assert words in reason
    assert reason
    assert not pixels.any()
    assert time.monotonic() - began < 10


@pytest.mark.timeout(60)
@pytest.mark.usefixtures("bounded")
def test_what_stands_behind_a_jpeg_is_not_read(tmp_path, name):
    data = encode(noise(48, 64), "JPEG")
    (tmp_path / "a.jpg").write_bytes(data)
    reason, pixels = decode(name, sparse(tmp_path / "b.jpg", data, 6 << 30))
    assert not reason
    np.testing.assert_array_equal(pixels, decode(name, tmp_path / "a.jpg")[1])


@pytest.mark.timeout(60)
@pytest.mark.usefixtures("bounded")
def test_a_file_that_is_larger_than_any_photo_is_refused(tmp_path, name):
    data = png(8, 8, chunk(b"tEXt", b"", claimed=0x7FFFFFFF))
    assert "the file has" in decode(name, sparse(tmp_path / "x.png", data, 2 << 30))[0]


def test_ordinary_progressive_photos_are_decoded(tmp_path, name):
    (tmp_path / "x.jpg").write_bytes(encode(noise(600, 800), "JPEG", progressive=True))
    assert decode(name, tmp_path / "x.jpg")[0] == ""


def test_a_jpeg_above_the_limit_is_decoded_at_a_half(tmp_path, name, monkeypatch):
    """With a small limit, so that the test is quick: the photo is 4 times as large as what it is decoded to."""
    smooth = np.asarray(Image.fromarray(noise(8, 8)).resize((400, 300), Image.Resampling.BICUBIC))
    (tmp_path / "x.jpg").write_bytes(encode(smooth, "JPEG", quality=95))
    whole = decode(name, tmp_path / "x.jpg")[1]
    monkeypatch.setattr("isc_fast.decoders.limits.MAX_PIXELS", 70_000)
    monkeypatch.setattr("isc_fast.decoders.limits.MAX_JPEG_PIXELS", 140_000)
    sizes = []
    real = Image.Image.resize
    monkeypatch.setattr(Image.Image, "resize", lambda self, *a, **k: sizes.append(self.size) or real(self, *a, **k))
    reason, pixels = decode(name, tmp_path / "x.jpg")
    assert not reason
    assert name != "pillow" or sizes == [(200, 150)]
    assert np.abs(pixels.astype(int) - whole).max() <= 8
    monkeypatch.setattr("isc_fast.decoders.limits.MAX_JPEG_PIXELS", 100_000)
    assert decode(name, tmp_path / "x.jpg")[0] == "decompression bomb: 400 × 300 pixels, limit 100000"


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
@pytest.mark.usefixtures("bounded")
def test_a_photo_of_200_megapixels_is_decoded(tmp_path, name):
    photo = Image.linear_gradient("L").resize((20_000, 10_000))
    photo.save(tmp_path / "x.jpg")
    reason, pixels = decode(name, tmp_path / "x.jpg")
    assert not reason
    assert np.abs(pixels[..., 0].astype(int) - np.asarray(photo.resize((64, 64), Image.Resampling.BILINEAR))).max() <= 2


def test_room_is_given_in_order_and_never_exceeded():
    room = Room(100)
    most, now, order, lock = 0, 0, [], threading.Lock()

    def work(number: int, size: int) -> None:
        nonlocal most, now
        with room.taken(size):
            with lock:
                now += size
                most = max(most, now)
                order.append(number)
            time.sleep(0.01)
            with lock:
                now -= size

    sizes = [60, 60, 10, 30, 300, 40, 40, 40]
    threads = [threading.Thread(target=work, args=pair) for pair in enumerate(sizes)]
    for thread in threads:
        thread.start()
        time.sleep(0.002)
    for thread in threads:
        thread.join()
    assert order == sorted(order)
    assert most == 300, "what is alone may be larger than the room, and is alone"
    assert room._taken == 0


def test_as_much_of_a_jpeg_is_read_as_any_photo_needs():
    rough = noise(2000, 2000)
    data = io.BytesIO()
    Image.fromarray(rough).save(data, "JPEG", quality=100, subsampling=0)
    assert len(data.getvalue()) < jpeg_bytes((2000, 2000)) - (1 << 26) + 2000 * 2000
    assert jpeg_bytes((1, MAX_PIXELS)) < 2 << 30


@pytest.mark.parametrize("sent", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupt_does_not_wait_for_a_decoder_that_hangs(tmp_path, sent, folder_of):
    """The hanging library is a system call that nothing ends, in the place of Pillow's decoder."""
    folder = folder_of(tmp_path / "in", 6)
    code = """
import ctypes, os, signal, sys
from PIL import Image
import isc_fast.decoders.rules as rules
signal.signal(signal.SIGINT, signal.default_int_handler)
def hang(*_):
    os.write(1, b"hangs\\n")
    ctypes.CDLL(None).sleep(600)
rules.decode_rgb = hang
from isc_fast.cli.main import main
sys.exit(main(["extract", sys.argv[1], "--engine", "demo", "-o", sys.argv[2], "--decoder", "pillow"]))
"""
    command = [sys.executable, "-c", code, str(folder), str(tmp_path / "out.h5")]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout.readline() == "hangs\n"
            began = time.monotonic()
            process.send_signal(sent)
            assert process.wait(20) == 130
            assert time.monotonic() - began < 5
            assert "interrupted" in process.stderr.read()
        finally:
            process.kill()


def test_an_interrupt_while_photos_are_handed_over_does_not_wait_either():
    """The first photo is in the hands of a library that hangs when the interrupt comes before the second is handed over."""
    begun, release = threading.Event(), threading.Event()

    class Hanging(ThreadedDecoder):
        name = "hanging"

        def decode_into(self, photo, preprocessing, slot):
            begun.set()
            release.wait(60)

    class Interrupted(list):
        def __iter__(self):
            yield self[0]
            begun.wait(10)
            raise KeyboardInterrupt

    started = time.monotonic()
    try:
        with pytest.raises(KeyboardInterrupt):
            next(Hanging(2).batches([Interrupted([b"", b""])], SMALL))
        assert time.monotonic() - started < PATIENCE_S + 5
    finally:
        release.set()
