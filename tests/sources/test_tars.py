from __future__ import annotations

import contextlib
import gzip
import io
import os
import tarfile

import numpy as np
import pytest
from helpers_containers import write_tar
from test_containers import SMALL, content, reason

from isc_fast.errors import InputError
from isc_fast.sources.listing import list_images
from isc_fast.sources.tar_headers import BLOCK, EndOfTar, Member, members

NAMES = {
    "a.png": b"one",
    "./b/c.png": b"",
    "ü 🦊.png": bytes(511),
    os.fsdecode(b"caf\xe9.png"): bytes(512),
    f"{'deep/' * 30}x.png": bytes(513),
    f"{'n' * 95}.png": b"two",
    f"{'l' * 300}/{'m' * 250}.png": b"three",
    "/etc/d.png": b"four",
    "../../up.png": b"five",
}


def walked(archive: bytes) -> list[Member]:
    return list(members(lambda size, at: archive[at : at + size], len(archive)))


def built(*parts: tuple[tarfile.TarInfo, bytes], form: int = tarfile.PAX_FORMAT) -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=form) as tar:
        for about, data in parts:
            about.size = len(data)
            tar.addfile(about, io.BytesIO(data))
    return out.getvalue()


def about(name: str, **values: object) -> tarfile.TarInfo:
    made = tarfile.TarInfo(name)
    for key, value in values.items():
        setattr(made, key, value)
    return made


@pytest.mark.parametrize("form", [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
def test_it_reads_what_tarfile_writes(form):
    """`tarfile` is the oracle: the same names, sizes and bytes, in each of the three formats."""
    names = {name: data for name, data in NAMES.items() if form != tarfile.USTAR_FORMAT or len(name) < 200}
    archive = built(*((about(name), data) for name, data in names.items()), form=form)
    with tarfile.open(fileobj=io.BytesIO(archive)) as tar:
        expected = [(one.name.removeprefix("./"), one.offset_data, one.size) for one in tar]
    assert [(one.name, one.offset, one.size) for one in walked(archive)] == expected
    assert [archive[one.offset : one.offset + one.size] for one in walked(archive)] == list(names.values())


def test_records_for_all_that_follow_and_odd_records(tmp_path):
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=tarfile.PAX_FORMAT, pax_headers={"comment": "ü" * 400}) as tar:
        for name in ("a.png", "ü.png"):
            tar.addfile(about(name, size=3, pax_headers={"mtime": "1.5", "VENDOR.x": "a=b\nc"}), io.BytesIO(b"abc"))
    assert [(one.name, one.size) for one in walked(out.getvalue())] == [("a.png", 3), ("ü.png", 3)]


def test_a_size_in_binary_as_gnu_writes_it():
    archive = bytearray(built((about("a.png"), b"x" * 600), form=tarfile.GNU_FORMAT))
    archive[124:136] = b"\x80" + (600).to_bytes(11, "big")
    archive[148:156] = b" " * 8
    archive[148:156] = b"%06o\0 " % sum(archive[:512])
    assert [(one.name, one.size) for one in walked(bytes(archive))] == [("a.png", 600)]


def test_links_devices_and_holes_are_rows_of_the_ledger_and_names_are_only_names(tmp_path):
    secret = tmp_path / "secret.png"
    secret.write_bytes(SMALL["a.png"])
    kinds = {
        "1": tarfile.LNKTYPE,
        "2": tarfile.SYMTYPE,
        "3": tarfile.CHRTYPE,
        "4": tarfile.BLKTYPE,
        "6": tarfile.FIFOTYPE,
    }
    parts = [(about(f"{key}.png", type=kind, linkname=str(secret)), b"") for key, kind in kinds.items()]
    parts += [(about("folder.png", type=tarfile.DIRTYPE), b""), (about("z.png", type=b"Z"), b"odd")]
    parts += [(about("holes.png", pax_headers={"GNU.sparse.major": "1"}), b"map")]
    parts += [(about(name), SMALL["b.png"]) for name in ("/etc/passwd.png", "../../up.png")]
    (tmp_path / "x.tar").write_bytes(built(*parts))
    found = {item.id: item for item in list_images(tmp_path / "x.tar").items}
    assert list(found) == [*(f"x/{key}" for key in kinds), "x/z", "x/holes", "x//etc/passwd", "x/../../up"]
    assert reason(found["x/1"]) == "a link to another member, and links are not followed"
    assert reason(found["x/2"]) == "a symbolic link, and links are not followed"
    assert reason(found["x/3"]) == reason(found["x/4"]) == "a device, not a photo"
    assert reason(found["x/6"]) == "a pipe, not a photo"
    assert reason(found["x/z"]) == "no regular file"
    assert reason(found["x/holes"]).startswith("stored with holes")
    assert content(found["x//etc/passwd"]) == content(found["x/../../up"]) == SMALL["b.png"]
    assert sorted(os.listdir(tmp_path)) == ["secret.png", "x.tar"]


def test_a_webdataset_shard(tmp_path):
    files = {}
    for number in range(3):
        files |= {f"{number:06d}.jpg": b"photo", f"{number:06d}.json": b"{}", f"{number:06d}.txt": b"caption"}
    write_tar(tmp_path / "shard-000000.tar", files)
    found = list_images(tmp_path / "shard-000000.tar")
    assert [item.id for item in found.items] == [f"shard-000000/{number:06d}" for number in range(3)]
    assert found.ignored_suffixes == {".json": 3, ".txt": 3}


def test_ids_keep_the_suffix_only_where_they_must(tmp_path):
    write_tar(tmp_path / "x.tar", dict.fromkeys(["1.jpg", "1.seg.png", "2.jpg", "2.png", "IMG.2020.01.jpg"], b""))
    ids = [item.id for item in list_images(tmp_path / "x.tar").items]
    assert ids == ["x/1", "x/1.seg", "x/2.jpg", "x/2.png", "x/IMG.2020.01"]


@pytest.mark.parametrize("rule", ["auto", "path", "stem"])
def test_a_name_that_a_container_holds_twice_is_a_row_of_the_ledger(tmp_path, rule):
    parts = [(about(name), data) for name, data in (("a.png", b"1"), ("b.png", b"2"), ("a.png", b"3"), ("a.png", b"4"))]
    (tmp_path / "x.tar").write_bytes(built(*parts))
    one, two, three, four = list_images(tmp_path / "x.tar", ids=rule).items
    ending, start = ".png" if rule == "path" else "", "" if rule == "stem" else "x/"
    assert [one.id, two.id, three.id, four.id] == [f"{start}a{ending}", f"{start}b{ending}", "x/a.png#2", "x/a.png#3"]
    assert (content(one), content(two)) == (b"1", b"2")
    assert reason(three) == reason(four) == "the container holds this name twice, and the first is described"


@pytest.mark.parametrize("suffix", ["tar.gz", "tgz", "TAR.ZST", "tar"])
def test_a_compressed_archive_says_unpack_it(tmp_path, suffix):
    file = tmp_path / f"x.{suffix}"
    file.write_bytes(gzip.compress(built((about("a.png"), b"1"))))
    with pytest.raises(InputError, match=r"no random access: unpack it, and give the \.tar or the folder$"):
        list_images(file)


# --- archives that are cut or damaged ---

ARCHIVE = built(*((about(f"{number}.png"), bytes([number]) * 700) for number in range(4)), form=tarfile.USTAR_FORMAT)


@pytest.mark.parametrize("cut", range(0, len(ARCHIVE), BLOCK))
@pytest.mark.parametrize("more", [0, 100])
def test_an_archive_cut_at_any_block_gives_its_rows_and_one_more(tmp_path, cut, more):
    file = tmp_path / "x.tar"
    file.write_bytes(ARCHIVE[: cut + more])
    size = 3 * BLOCK  # of a member with its header
    whole = min((cut + more) // size, 4)
    if whole == 0:
        with pytest.raises(InputError, match=r"^cannot read .*x\.tar: the archive is cut short at byte \d+"):
            list_images(file)
        return
    items = list_images(file).items
    assert [content(item) for item in items[:whole]] == [bytes([number]) * 700 for number in range(whole)]
    if cut > 4 * size:
        assert len(items) == 4
    else:
        assert items[whole].id == "x#end"
        assert reason(items[whole]).startswith(f"the archive is cut short at byte {cut + more}")
        assert len(items) == whole + 1


def test_a_damaged_header_ends_an_archive(tmp_path):
    damaged = bytearray(ARCHIVE)
    damaged[3 * BLOCK + 5] ^= 1
    (tmp_path / "x.tar").write_bytes(damaged)
    one, end = list_images(tmp_path / "x.tar").items
    assert reason(end) == f"the archive is damaged at byte {3 * BLOCK}: there is no header of tar"
    assert content(one) == bytes(700)


def test_archives_behind_each_other_are_read_to_the_last(tmp_path):
    second = built((about("more.png"), b"more"))
    (tmp_path / "x.tar").write_bytes(ARCHIVE + second)
    assert [item.id for item in list_images(tmp_path / "x.tar").items][4:] == ["x/more"]
    (tmp_path / "y.tar").write_bytes(ARCHIVE + b"signature of something" * 99)
    assert "damaged behind its end, at byte" in reason(list_images(tmp_path / "y.tar").items[-1])


@pytest.mark.parametrize("seed", range(6))
def test_flipped_bits_never_do_more_than_end_an_archive(tmp_path, seed):
    forms = (tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT)
    archive = built(
        *((about(f"{'n' * 60}/{'n' * 60}{name}"), data) for name, data in SMALL.items()), form=forms[seed % 3]
    )
    rng = np.random.default_rng(seed)
    heads = [at for at in range(0, len(archive), BLOCK) if archive[at + 257 : at + 262] == b"ustar"]
    for _ in range(150):
        damaged = bytearray(archive)
        for at in rng.choice(heads, rng.integers(1, 4)):
            damaged[at + rng.integers(BLOCK)] ^= 1 << rng.integers(8)
            if rng.random() < 0.7:  # whoever makes such files makes the sum right too
                damaged[at + 148 : at + 156] = b" " * 8
                damaged[at + 148 : at + 156] = b"%06o\0 " % sum(damaged[at : at + BLOCK])
        found = list[Member]()
        with contextlib.suppress(EndOfTar):
            for one in members(lambda size, at, data=bytes(damaged): data[at : at + size], len(archive)):
                found.append(one)
        assert all(one.problem or 0 <= one.offset <= one.offset + one.size <= len(archive) for one in found)


def test_a_record_or_a_name_without_an_end_is_not_read_into_memory():
    header = bytearray(built((about("n" * 300), b""), form=tarfile.GNU_FORMAT)[:512])
    header[124:136] = b"%011o\0" % (1 << 30)
    header[148:156] = b" " * 8
    header[148:156] = b"%06o\0 " % sum(header)
    asked: list[int] = []

    def read(size: int, at: int) -> bytes:
        asked.append(size)
        return bytes(header)[at : at + size]

    with pytest.raises(EndOfTar, match="where a long name stands"):
        list(members(read, 1 << 31))
    assert max(asked) == BLOCK
