"""Descriptor files of strangers reach no other file, run nothing, and do not make a run wait."""

from __future__ import annotations

import os
import zipfile
from pathlib import Path

import h5py
import numpy as np
import pytest

import isc_fast
from isc_fast.cli.main import main
from isc_fast.descriptors.formats.base import read_npy
from isc_fast.descriptors.formats.table import read_descriptors
from isc_fast.descriptors.hdf5 import CHECKSUMS
from isc_fast.descriptors.store import Descriptors, load_descriptors
from isc_fast.descriptors.writing import write_descriptors
from isc_fast.errors import FormatError, InputError, OutputError

ROWS = np.eye(3, 8, dtype=np.float32)


@pytest.fixture
def ours(tmp_path: Path) -> Path:
    """Descriptors of a version that wrote no checksums: whoever prepares a file leaves them out."""
    write_descriptors(tmp_path / "sound.h5", Descriptors(ROWS, ["a", "b", "c"], {"engine_id": "0" * 64}))
    with h5py.File(tmp_path / "sound.h5") as sound, h5py.File(tmp_path / "x.h5", "w") as file:
        for name in sound:
            sound.copy(name, file)
        file.attrs.update({name: value for name, value in sound.attrs.items() if name != CHECKSUMS})
    with h5py.File(tmp_path / "secret.h5", "w") as file:
        file["vectors"] = ROWS
        file["ids"] = np.array([b"s"] * 3)
    return tmp_path / "x.h5"


def external_link(file: h5py.File, folder: Path) -> None:
    file["vectors"] = h5py.ExternalLink(str(folder / "secret.h5"), "/vectors")


def soft_link(file: h5py.File, folder: Path) -> None:
    file["elsewhere"] = h5py.ExternalLink(str(folder / "secret.h5"), "/")
    file["vectors"] = h5py.SoftLink("/elsewhere/vectors")


def external_data(file: h5py.File, folder: Path) -> None:
    file.create_dataset("vectors", (3, 8), "f4", external=[(str(folder / "secret.h5"), 0, 96)])


def virtual(file: h5py.File, folder: Path) -> None:
    layout = h5py.VirtualLayout((3, 8), "f4")
    layout[:] = h5py.VirtualSource(str(folder / "secret.h5"), "vectors", (3, 8))
    file.create_virtual_dataset("vectors", layout)


def virtual_of_itself(file: h5py.File, folder: Path) -> None:
    layout = h5py.VirtualLayout((3, 8), "f4")
    layout[:] = h5py.VirtualSource(".", "vectors", (3, 8))
    file.create_virtual_dataset("vectors", layout)


ELSEWHERE = [external_link, soft_link, external_data, virtual, virtual_of_itself]


@pytest.mark.parametrize("elsewhere", ELSEWHERE)
def test_vectors_in_another_file_are_not_read(ours, elsewhere):
    with h5py.File(ours, "r+") as file:
        del file["vectors"]
        elsewhere(file, ours.parent)
    with pytest.raises(FormatError, match="takes its data from other files, which isc-fast does not follow"):
        load_descriptors(ours)


@pytest.mark.parametrize("elsewhere", ELSEWHERE)
@pytest.mark.parametrize("names", [("image_names",), ("vectors_ids",)])
def test_nor_are_those_of_other_formats(tmp_path, ours, elsewhere, names, capsys):
    path = tmp_path / "foreign.h5"
    with h5py.File(path, "w") as file:
        elsewhere(file, ours.parent)
        if names == ("image_names",):
            file["image_names"] = np.array([b"a", b"b", b"c"])
        else:
            for side in ("query", "reference"):
                file[side] = h5py.ExternalLink(str(ours.parent / "secret.h5"), "/vectors")
                file[f"{side}_ids"] = np.array([b"a", b"b", b"c"])
    which = None if names == ("image_names",) else "query"
    with pytest.raises(FormatError, match="takes its data from other files, which isc-fast does not follow"):
        read_descriptors(path, which=which)
    assert main(["info", str(path)]) == 1
    assert "takes its data from other files" in capsys.readouterr().err


@pytest.mark.parametrize(
    "text", ["[" * 100_000, '{"version": 1, "x": ' + "9" * 30 + "}", "{", "3", "null", '{"version": null}']
)
def test_strange_json_is_one_line(ours, text, capsys):
    with h5py.File(ours, "r+") as file:
        file.attrs["isc_fast"] = text
    assert main(["info", str(ours)]) == 1
    out, err = capsys.readouterr()
    assert out == ""
    assert err.count("\n") == 1


@pytest.mark.parametrize("shape", [(1 << 40, 8), (3, 1 << 40)])
def test_a_size_that_no_machine_has_is_damage(ours, shape):
    path = ours.with_name("kit.h5")
    with h5py.File(path, "w") as file:
        file.create_dataset("vectors", shape, "f4", chunks=(1, 8))
        file["image_names"] = np.array([b"a", b"b", b"c"])
    with pytest.raises(FormatError, match="is damaged"):
        read_descriptors(path)


def test_a_file_that_may_not_be_read_is_told_in_the_system_s_words(ours, monkeypatch):
    def refuse(path, *arguments, **options):
        raise PermissionError(13, "Permission denied", path)

    monkeypatch.setattr(os, "open", refuse)  # root may read everything
    with pytest.raises(FormatError, match=r"cannot read .*x\.h5: Permission denied"):
        load_descriptors(ours)


def test_a_pipe_is_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "p.h5")
    with pytest.raises(FormatError, match="it is a pipe or a device"):
        load_descriptors(tmp_path / "p.h5")
    os.mkfifo(tmp_path / "l.txt")
    with pytest.raises(InputError, match="it is a pipe or a device"):
        isc_fast.list_images(tmp_path / "l.txt")


def npy(header: str, data: bytes = b"") -> bytes:
    text = header.encode().ljust(117) + b"\n"
    return b"\x93NUMPY\x01\x00" + len(text).to_bytes(2, "little") + text + data


DAMAGED = {
    "an archive": None,
    "empty": b"",
    "a size that no machine has": npy("{'descr': '<f4', 'fortran_order': False, 'shape': (1099511627776, 256)}"),
    "thirty digits": npy("{'descr': '<f4', 'fortran_order': False, 'shape': (" + "9" * 30 + ", 2)}"),
    "brackets": npy("(" * 100),
    "no text": b"\x93NUMPY\x03\x00\x76\x00\x00\x00" + b"\xff" * 118,
    "an unknown type": npy("{'descr': 'x9', 'fortran_order': False, 'shape': (1, 2)}"),
    "objects": npy("{'descr': '|O', 'fortran_order': False, 'shape': (1, 2)}", b"cos\nsystem\n(S'false'\ntR."),
    "cut short": npy("{'descr': '<f4', 'fortran_order': False, 'shape': (4, 2)}", b"\0" * 7),
}


@pytest.mark.parametrize("name", DAMAGED)
def test_a_damaged_npy_is_one_line(tmp_path, name):
    path = tmp_path / "x.npy"
    content = DAMAGED[name]
    if content is None:
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr("a.npy", npy("{'descr': '<f4', 'fortran_order': False, 'shape': (0, 2)}"))
    else:
        path.write_bytes(content)
    with pytest.raises(FormatError, match="is not a numpy array, or it is damaged") as error:
        read_npy(path)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("data", [b"", b"PAR1", b"PAR1" + bytes(100) + b"\xff\xff\xff\x7fPAR1", b"x" * 1000])
def test_a_damaged_parquet_is_one_line(tmp_path, data):
    pytest.importorskip("pyarrow")
    for folder in ("img_emb", "metadata"):
        (tmp_path / folder).mkdir()
    np.save(tmp_path / "img_emb" / "img_emb_0.npy", ROWS)
    (tmp_path / "metadata" / "metadata_0.parquet").write_bytes(data)
    with pytest.raises(FormatError, match=r"metadata_0\.parquet is not a parquet file, or it is damaged") as error:
        read_descriptors(tmp_path)
    assert "\n" not in str(error.value)


def test_descriptors_get_no_name_of_another_format(tmp_path):
    for name in ("x.csv", "x.json", "X.PARQUET", "x.npy", "x.h5.gz"):
        with pytest.raises(OutputError, match="written as HDF5, not as"):
            write_descriptors(tmp_path / name, Descriptors(ROWS, ["a", "b", "c"]))
    assert os.listdir(tmp_path) == []
