"""Ledgers of images without a descriptor, which lie on the disk where they are long."""

from __future__ import annotations

import numpy as np
import pytest

from isc_fast.descriptors.store import Descriptors, load_descriptors, open_descriptors
from isc_fast.descriptors.writing import write_descriptors
from isc_fast.files.lazy import BLOCK
from isc_fast.files.ledger import TemporaryLedger, keep
from isc_fast.items import Failure


def rows(count: int) -> list[Failure]:
    return [Failure(f"id{n}\udcff", f"/photos/ö{n}", "read", "gone" * (n % 5)) for n in range(count)]


@pytest.mark.parametrize("count", [0, 1, BLOCK - 1, BLOCK, 2 * BLOCK + 7])
def test_a_ledger_gives_back_its_rows(count):
    ledger = TemporaryLedger(rows(count)[: count // 2])
    ledger.extend(iter(rows(count)[count // 2 :]))
    assert ledger == rows(count)
    assert len(ledger) == count
    assert ledger[count // 3 : count // 3 + 5] == rows(count)[count // 3 : count // 3 + 5]
    assert list(keep(ledger)) == rows(count)


@pytest.mark.parametrize("count", [0, 3, BLOCK + 1])
def test_a_ledger_is_kept_after_its_file_is_closed(tmp_path, count):
    file = tmp_path / "a.h5"
    write_descriptors(file, Descriptors(np.eye(2, dtype=np.float32), ["a", "b"], {}, rows(count), rows(count)))
    with open_descriptors(file) as found:
        assert (list(found.failures), list(found.notes)) == (rows(count), rows(count))
        kept = keep(found.failures)
    loaded = load_descriptors(file)
    file.unlink()
    assert (kept, loaded.failures, loaded.notes) == (rows(count), rows(count), rows(count))


def test_the_same_bytes_come_from_a_list_and_from_the_disk(tmp_path):
    """What a run computes and what it resumes with must give one output."""
    made = []
    for name, ledger in (("a.h5", rows(BLOCK + 9)), ("b.h5", TemporaryLedger(rows(BLOCK + 9)))):
        write_descriptors(tmp_path / name, Descriptors(np.eye(2, dtype=np.float32), ["a", "b"], {}, ledger))
        made.append((tmp_path / name).read_bytes())
    assert made[0] == made[1]
