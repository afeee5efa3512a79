"""Everything that the parts of a plan hold, from one look at each."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

import h5py
import numpy as np
import pytest

from isc_fast.descriptors.store import open_descriptors
from isc_fast.errors import DamageError, OutputError
from isc_fast.extraction import gathered, parts
from isc_fast.extraction.gathered import Gathered
from isc_fast.extraction.parts import PartsFolder
from isc_fast.extraction.plan import Plan
from isc_fast.files import spilled
from isc_fast.items import NOTED, Failure, Item

DIM, SIZES = 8, (5, 0, 5, 3)  # rows of each part; the others of its five images failed


def items_of(index: int, count: int = 5) -> list[Item]:
    return [Item(f"{index}/ö\udcff{row}", f"/photos/{index}/{row}.jpg") for row in range(count)]


@pytest.fixture
def finished(tmp_path):
    """A folder of parts of which one has no row and others have failures and notes, and its plan."""
    rng = np.random.default_rng(0)
    folder = PartsFolder(tmp_path / "out.h5")
    items = [item for index in range(len(SIZES)) for item in items_of(index)]
    plan = Plan(["in"], items, "e" * 64, "pillow", 5, 5)
    with folder.locked():
        plan, _ = folder.begin_or_resume(plan, overwrite=False)
        for index, rows in enumerate(SIZES):
            shard = plan.shard(index)
            bad = [Failure(item.id, item.path, "decode", f"bad {index}") for item in shard.items[rows:]]
            noted = [Failure(item.id, item.path, NOTED, "blank") for item in shard.items[: min(rows, index)]]
            stamps = rng.integers(0, 2**40, (5, 2))
            digests = rng.integers(1, 256, (5, 16)).astype(np.uint8)
            folder.write_part(
                plan.id, shard, rng.normal(size=(rows, DIM)).astype(np.float32), noted + bad, stamps, digests
            )
        yield folder, plan


def said(found: Gathered) -> dict[str, object]:
    """All that it holds, for comparison."""

    def stacked(blocks: object, width: int, dtype: object) -> list[object]:
        return np.concatenate([np.empty((0, width), dtype), *blocks]).tolist()

    return {
        "ids": list(found.ids),
        "vectors": stacked(found.vectors(), DIM, np.float32),
        "stamps": stacked(found.stamps(), 2, np.int64),
        "digests": stacked(found.digests(), 16, np.uint8),
        "failures": list(found.failures),
        "notes": list(found.notes),
        "failure_stamps": found.failure_stamps.tolist(),
        "failure_digests": found.failure_digests.tolist(),
        "has": (found.has_stamps, found.has_digests),
    }


def one_by_one(folder: PartsFolder, plan: Plan) -> dict[str, object]:
    """The same from the parts themselves."""
    made: dict[str, list[object]] = {}
    for index in range(plan.shard_count):
        with open_descriptors(folder.part(index)) as part:
            for name in (
                "ids",
                "vectors",
                "stamps",
                "digests",
                "failures",
                "notes",
                "failure_stamps",
                "failure_digests",
            ):
                values = getattr(part, name)[:]
                made.setdefault(name, []).extend(values.tolist() if isinstance(values, np.ndarray) else values)
    return {**made, "has": (True, True)}


@pytest.mark.parametrize("block_bytes", [1, 3 * 4 * DIM, 7 * 4 * DIM, 1 << 22])
def test_it_holds_what_the_parts_hold_whatever_the_blocks(finished, monkeypatch, block_bytes):
    monkeypatch.setattr(gathered, "_BLOCK_BYTES", block_bytes)
    monkeypatch.setattr(spilled, "_AT_ONCE", block_bytes)
    with contextlib.closing(Gathered(*finished, DIM)) as found:
        assert said(found) == one_by_one(*finished)
        assert said(found) == one_by_one(*finished)  # it may be gone through again
        assert [len(block) for block in found.vectors()][:-1] == [max(1, block_bytes // (4 * DIM))] * (
            len(list(found.vectors())) - 1
        )


def test_each_part_is_opened_once(finished, monkeypatch):
    opened: list[str] = []
    real = parts.open_descriptors

    def noting(path):
        opened.append(os.path.basename(path))
        return real(path)

    for module in (parts, gathered):
        monkeypatch.setattr(module, "open_descriptors", noting)
    with contextlib.closing(Gathered(*finished, DIM)) as found:
        said(found)
    assert opened == [f"part-{index:06d}.h5" for index in range(len(SIZES))]


def test_digests_that_no_part_has_are_unknown(finished):
    """Who brings an output with digests up to date asks for those of the new photos."""
    folder, plan = finished
    for index in range(plan.shard_count):
        with open_descriptors(folder.part(index)) as part:
            made, vectors, ids, failures = part.provenance, part.vectors[:], list(part.ids), list(part.failures)
        folder.put(made, [vectors], ids=ids, dim=DIM, failures=failures)
    with contextlib.closing(Gathered(folder, plan, DIM)) as found:
        assert said(found)["has"] == (False, False)
        assert said(found)["digests"] == [[0] * 16] * sum(SIZES)
        assert said(found)["stamps"] == [[-1, 0]] * sum(SIZES)


@pytest.mark.parametrize("call", ["write", "flush"])
def test_a_full_disk_is_told_once_and_of_the_output(finished, monkeypatch, call):
    """What the system holds back may fail when it is written at last, or when the file is closed."""
    folder, plan = finished

    class Full:
        def __init__(self, *_: object, **__: object) -> None:
            pass

        def write(self, content: bytes) -> None:
            if call == "write":
                raise OSError(28, "No space left on device")

        def flush(self) -> None:
            raise OSError(28, "No space left on device")

        close = flush

    monkeypatch.setattr(spilled.tempfile, "TemporaryFile", Full)
    with pytest.raises(OutputError, match=r"cannot write .*out\.h5: the disk is full"):
        Gathered(folder, plan, DIM)


def without_sums(file: Path) -> None:
    """Leave a part as early versions wrote it, without checksums."""
    with open_descriptors(file) as part, h5py.File(file.with_suffix(".old"), "w") as old:
        for name in part.vectors.file:
            part.vectors.file.copy(name, old)
        old.attrs["isc_fast"] = part.vectors.file.attrs["isc_fast"]
    os.replace(file.with_suffix(".old"), file)


def test_parts_of_early_versions_count_too(finished):
    """One has no checksums, and the first and the last one say nothing of their photos' files."""
    folder, plan = finished
    expected = one_by_one(folder, plan)
    without_sums(folder.part(2))
    for index in (0, 3):
        with open_descriptors(folder.part(index)) as part:
            content = {"ids": list(part.ids), "failures": list(part.failures), "notes": list(part.notes), "dim": DIM}
            made, vectors = part.provenance, part.vectors[:]
        folder.put(made, [vectors], **content)
    for name, unknown in (("stamps", [-1, 0]), ("digests", [0] * 16)):
        expected[name] = [*[unknown] * 5, *expected[name][5:-3], *[unknown] * 3]
        expected[f"failure_{name}"] = [*expected[f"failure_{name}"][:-2], *[unknown] * 2]
    with contextlib.closing(Gathered(folder, plan, DIM)) as found:
        assert said(found) == {**expected, "has": (False, True)}


def test_a_part_that_changes_between_the_looks_is_damage(finished):
    """Its rows are checked when they are read, against the checksums that the first look saw."""
    folder, plan = finished
    with contextlib.closing(Gathered(folder, plan, DIM)) as found:
        part = folder.part(2)
        content = bytearray(part.read_bytes())
        with open_descriptors(part) as opened:
            start = opened.vectors.id.get_offset()
        content[start] ^= 1
        part.write_bytes(content)
        with pytest.raises(DamageError, match=r"part-000002\.h5 is damaged: bytes"):
            list(found.vectors())
        other = folder.part(0).read_bytes()
        part.write_bytes(other)
        with pytest.raises(DamageError, match="another file"):
            list(found.vectors())


def test_it_leaves_nothing_and_its_ledgers_stay(finished):
    folder, plan = finished
    before = sorted(os.listdir(folder.folder))
    found = Gathered(folder, plan, DIM)
    assert sorted(os.listdir(folder.folder)) == before
    found.close()
    assert [row.reason for row in found.failures] == ["bad 1"] * 5 + ["bad 3"] * 2
    assert len(found.notes) == 0 + 0 + 2 + 3


def test_no_room_for_temporary_files_is_said_of_the_output(finished, monkeypatch):
    folder, plan = finished

    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(spilled.tempfile, "TemporaryFile", full)
    with pytest.raises(OutputError, match=r"cannot write .*out\.h5: the disk is full"):
        Gathered(folder, plan, DIM)
