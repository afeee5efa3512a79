from __future__ import annotations

import contextlib
import io
import struct
import zipfile
from pathlib import Path

import numpy as np
import pytest
from helpers_containers import write_zip
from test_containers import SMALL, content, reason

from isc_fast import extract
from isc_fast.decoders.opening import ImageProblem
from isc_fast.errors import InputError
from isc_fast.sources.listing import list_images
from isc_fast.sources.zip_directory import members


def archive_of(files: dict[str, bytes], method: int = zipfile.ZIP_DEFLATED, **options: object) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", method, **options) as archive:
        for name, data in files.items():
            archive.writestr(name, data)
    return out.getvalue()


@pytest.mark.parametrize("method", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
def test_it_reads_what_zipfile_writes(tmp_path, method):
    files = {"a.png": SMALL["a.png"], "d/ü 🦊.png": b"", "d/": b"", "__MACOSX/d/._a.png": b"fork", "b.txt": b"text"}
    write_zip(tmp_path / "x.zip", files, method)
    found = list_images(tmp_path / "x.zip")
    assert [(item.id, content(item)) for item in found.items] == [("x/a", SMALL["a.png"]), ("x/d/ü 🦊", b"")]
    assert (found.ignored_suffixes, found.excluded) == ({".txt": 1}, {"__MACOSX": 1})


def test_the_directory_is_read_in_blocks(tmp_path, monkeypatch):
    files = {f"{'n' * (number % 190)}{number}.png": bytes([number % 256]) for number in range(300)}
    archive = archive_of(files)
    with zipfile.ZipFile(io.BytesIO(archive)) as oracle:
        expected = [
            (one.filename, one.header_offset, one.compress_size, one.file_size, one.CRC) for one in oracle.infolist()
        ]
    for size in (1, 46, 47, 100, 1000, 1 << 20):
        monkeypatch.setattr("isc_fast.sources.zip_directory._BLOCK", size)
        found = members(lambda size, at: archive[at : at + size], len(archive))
        assert [(one.name, one.offset, one.packed, one.size, one.crc) for one in found] == expected


def test_a_comment_and_bytes_before_the_archive(tmp_path):
    out = io.BytesIO(b"#!/bin/sh\n" * 100)
    out.seek(0, 2)
    with zipfile.ZipFile(out, "a") as archive:
        archive.writestr("a.png", b"one")
        archive.comment = b"PK\5\6 comment " * 40
    (tmp_path / "x.zip").write_bytes(out.getvalue())
    (item,) = list_images(tmp_path / "x.zip").items
    assert content(item) == b"one"
    (tmp_path / "y.zip").write_bytes(b"shell" * 99 + archive_of({"a.png": b"two"}))
    (item,) = list_images(tmp_path / "y.zip").items
    assert content(item) == b"two"


def test_zip64(tmp_path):
    """An archive whose sizes, offsets and counts stand in fields of 64 bits, as `zipfile` writes it where it is told to."""
    with zipfile.ZipFile(tmp_path / "x.zip", "w") as archive, archive.open("a.png", "w", force_zip64=True) as stream:
        stream.write(SMALL["a.png"])
    (item,) = list_images(tmp_path / "x.zip").items
    assert content(item) == SMALL["a.png"]


@pytest.mark.slow
def test_zip64_of_more_than_four_gigabytes_and_65535_members(tmp_path):
    """Holes on the disk, so that it takes no room: a stored member of 4.3 GB stands before the photo."""
    file = tmp_path / "x.zip"
    big = (1 << 32) + 4096
    with open(file, "wb") as out:
        local = struct.pack("<4s5H3L2H", b"PK\3\4", 45, 0, 0, 0, 0, 0, 0xFFFFFFFF, 0xFFFFFFFF, 7, 20)
        out.write(local + b"big.bin" + struct.pack("<2H2Q", 1, 16, big, big))
        out.seek(big, 1)
        with zipfile.ZipFile(out, "a", allowZip64=True) as archive:
            for number in range(66_000):
                archive.writestr(f"{number}.txt", b"")
            archive.writestr("a.png", SMALL["a.png"])
    (item,) = list_images(file).items
    assert content(item) == SMALL["a.png"]


def test_names_of_old_archives_and_of_unix(tmp_path):
    archive = archive_of({"caf1.png": b"1", "caf2.png": b"2"})
    archive = archive.replace(b"caf1", b"caf\x82").replace(b"caf2", b"ca\xc3\xa9")
    (tmp_path / "x.zip").write_bytes(archive)
    assert [item.id for item in list_images(tmp_path / "x.zip").items] == ["x/café", "x/caé"]


def test_what_is_encrypted_linked_or_packed_otherwise_is_a_row_of_the_ledger(tmp_path):
    link = zipfile.ZipInfo("link.png")
    link.external_attr = 0o120777 << 16
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        archive.writestr(link, "/etc/passwd")
        archive.writestr("lzma.png", b"x", zipfile.ZIP_LZMA)
        archive.writestr("a.png", b"secret")
    data = bytearray(out.getvalue())
    with zipfile.ZipFile(io.BytesIO(bytes(data))) as archive:
        data[archive.getinfo("a.png").header_offset + 6] |= 1
    data[data.rindex(b"PK\1\2") + 8] |= 1
    (tmp_path / "x.zip").write_bytes(data)
    reasons = [reason(item) for item in list_images(tmp_path / "x.zip").items]
    assert reasons == [
        "a symbolic link, and links are not followed",
        "compressed by method 14, which is not read: unpack the archive",
        "encrypted: unpack the archive with its password",
    ]


def test_an_archive_that_is_encrypted_as_a_whole_is_one_line(tmp_path, engine):
    data = bytearray(archive_of({"a.png": b"secret"}))
    data[data.rindex(b"PK\1\2") + 8] |= 1
    (tmp_path / "x.zip").write_bytes(data)
    with pytest.raises(
        InputError, match=r"^none of the 1 images .*x\.zip.*: encrypted: unpack the archive with its password$"
    ):
        extract(tmp_path / "x.zip", engine, tmp_path / "out.h5")


def test_a_bomb_costs_its_row(tmp_path):
    """A member that says 100 bytes and unpacks to a gigabyte, and one that says so."""
    data = bytearray(archive_of({"a.png": bytes(1 << 28), "b.png": bytes((1 << 28) + 1), "c.png": b"fine"}))
    at = data.index(b"PK\1\2")
    data[at + 24 : at + 28] = (100).to_bytes(4, "little")
    (tmp_path / "x.zip").write_bytes(data)
    one, two, three = list_images(tmp_path / "x.zip").items
    assert reason(one) == "the photo differs from its checksum in the archive"
    assert reason(two) == "the photo has 268435457 bytes, limit 268435456 in a container: unpack it"
    assert content(three) == b"fine"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda data: data[:-30], "it lacks the directory at its end, so it is cut short or something else"),
        (lambda data: data[:-18] + b"\1\0" + data[-16:], "it is one of several parts; put them together first"),
        (lambda data: data[:-10] + b"\xf0\xff\0\0" + data[-6:], "its directory is said to be larger than the archive"),
        (lambda data: data.replace(b"PK\1\2", b"PK\1\3"), "its directory is damaged"),
    ],
)
def test_archives_that_are_refused(tmp_path, change, message):
    (tmp_path / "x.zip").write_bytes(change(archive_of(SMALL)))
    with pytest.raises(InputError) as raised:
        list_images(tmp_path / "x.zip")
    assert str(raised.value).startswith(f"{tmp_path}/x.zip is not a zip archive that can be read: {message}")


def read_all(file: Path) -> None:
    """List, and read every photo: only InputErrors and problems may come of it, and no other photo."""
    try:
        items = list_images(file).items
    except InputError:
        return
    for item in items:
        with contextlib.suppress(ImageProblem):
            assert content(item) in SMALL.values(), item


@pytest.mark.parametrize("method", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
def test_an_archive_cut_or_flipped_anywhere_gives_no_wrong_photo(tmp_path, method):
    archive = archive_of(dict(list(SMALL.items())[:3]), method)
    file = tmp_path / "x.zip"
    rng = np.random.default_rng(0)
    directory = archive.index(b"PK\1\2")
    for cut in (*range(0, len(archive), 512), *range(directory, len(archive), 7)):
        file.write_bytes(archive[:cut])
        read_all(file)
    for number in range(300):
        damaged = bytearray(archive)
        where = rng.integers(directory, len(archive)) if number % 2 else rng.integers(len(archive))
        damaged[where] ^= 1 << rng.integers(8)
        file.write_bytes(damaged)
        read_all(file)
