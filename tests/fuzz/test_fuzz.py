"""What fuzzing found once stays mended: every reader gets its seeds and the kept findings. The long form is `fuzz.py`."""

from __future__ import annotations

from pathlib import Path
from random import Random

import pytest
from readers import READERS, Reader, make_ready

from isc_fast.errors import FormatError

FINDINGS = Path(__file__).parent / "findings"
CHANGES = 40
"""Changed copies of each seed, in `make test`."""


@pytest.fixture(params=READERS)
def ready(request, tmp_path) -> tuple[str, Reader, list[bytes]]:
    reader = READERS[request.param]
    if not reader.is_installed:
        pytest.skip(f"needs {reader.needs}")
    return request.param, reader, make_ready(reader, tmp_path)


def test_what_the_writers_write_is_read(ready, tmp_path):
    _, reader, seeds = ready
    assert seeds
    assert [seed for seed in seeds if not reader.attempt(tmp_path, seed)] == []


def test_findings_stay_mended(ready, tmp_path):
    name, reader, _ = ready
    for file in sorted(FINDINGS.glob(f"{name.replace(' ', '-')}-*")):
        reader.attempt(tmp_path, file.read_bytes())


def test_changed_bytes_are_read_or_refused(ready, tmp_path):
    name, reader, seeds = ready
    chance = Random(name)
    for seed in seeds:
        for _ in range(CHANGES):
            data = bytearray(seed)
            for _ in range(chance.randint(1, 3)):
                place = chance.randrange(len(data))
                data[place : place + chance.choice([0, 1, 1, 4])] = chance.randbytes(chance.choice([0, 1, 1, 4]))
                data = data or bytearray(b"\0")
            reader.attempt(tmp_path, bytes(data))


def test_every_finding_belongs_to_a_reader():
    names = [name.replace(" ", "-") for name in READERS]
    assert all(any(file.name.startswith(f"{name}-") for name in names) for file in FINDINGS.iterdir())


@pytest.mark.parametrize("fault", [ValueError("x"), FormatError(""), RecursionError()])
def test_a_fault_is_seen(tmp_path, fault):
    def read(_path: Path) -> None:
        raise fault

    with pytest.raises(AssertionError if isinstance(fault, FormatError) else type(fault)):
        Reader("a", lambda _folder: iter(()), read).attempt(tmp_path, b"")
