"""Photos that are compared by their bytes: size and time of a file may say what they like."""

from __future__ import annotations

import hashlib
import io
import json
import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from fakes import FakeEngine, Interrupted
from PIL import Image
from toy_runner import Toy

from isc_fast import extract, merge_descriptors, open_descriptors, remove_descriptors, write_descriptors
from isc_fast.cli.main import main
from isc_fast.errors import FormatError, MismatchError
from isc_fast.extraction.job import Request
from isc_fast.extraction.pipeline import extract_with
from isc_fast.items import Item
from isc_fast.runs.sides.describing import Describing, WantedSide
from isc_fast.sources.base import Source
from isc_fast.sources.listing import Files, Listing

TIME = 10**18


def picture(path: Path, seed: int, time: int = TIME) -> None:
    """Write a picture whose file has the same size and time whatever the seed is."""
    pixels = np.random.default_rng(seed).integers(0, 256, (40, 48, 3), np.uint8)
    Image.fromarray(pixels).save(path, "BMP")
    os.utime(path, ns=(time, time))


@pytest.fixture
def folder(tmp_path) -> Path:
    made = tmp_path / "in"
    made.mkdir()
    for number in range(6):
        picture(made / f"p{number}.bmp", number)
    (made / "q.jpg").write_text("no picture")
    os.utime(made / "q.jpg", ns=(TIME, TIME))
    return made


def told(folder: Path, output: Path, **options) -> str | None:
    return extract(folder, FakeEngine(), output, **{"checksum": True, **options}).note


def digests(output: Path) -> dict[str, str]:
    """What the file says of rows and failures, by id."""
    with open_descriptors(output) as found:
        ids = [*found.ids, *(failure.id for failure in found.failures)]
        rows = [*found.digests[:], *found.failure_digests[:]]
        return {id_: row.tobytes().hex() for id_, row in zip(ids, rows, strict=True)}


def expected(folder: Path) -> dict[str, str]:
    return {file.stem: hashlib.sha256(file.read_bytes()).hexdigest()[:32] for file in folder.iterdir()}


def test_the_column_is_what_sha256sum_prints_and_only_on_request(tmp_path, folder):
    extract(folder, FakeEngine(), tmp_path / "plain.h5")
    with open_descriptors(tmp_path / "plain.h5") as found:
        assert (found.digests, found.failure_digests) == (None, None)
    told(folder, tmp_path / "out.h5")
    assert digests(tmp_path / "out.h5") == expected(folder)


def test_other_bytes_of_the_same_size_and_time_are_described_anew(tmp_path, folder):
    output = tmp_path / "out.h5"
    told(folder, output)
    picture(folder / "p2.bmp", 50)
    assert extract(folder, FakeEngine(), output).computed == 0, "size and time see nothing"
    assert told(folder, output) == "0 new, 1 changed, 0 gone, 6 as they were"
    told(folder, tmp_path / "fresh.h5")
    assert output.read_bytes() == (tmp_path / "fresh.h5").read_bytes()
    assert told(folder, output) is None


def test_a_touched_photo_keeps_its_row_and_its_new_time_is_known(tmp_path, folder):
    output = tmp_path / "out.h5"
    told(folder, output)
    for name in ("p1.bmp", "p4.bmp", "q.jpg"):
        os.utime(folder / name, ns=(TIME + 5, TIME + 5))
    made = extract(folder, FakeEngine(), output, checksum=True)
    assert (made.computed, made.note) == (0, "0 new, 0 changed, 0 gone, 7 as they were (3 of them only touched)")
    told(folder, tmp_path / "fresh.h5")
    assert output.read_bytes() == (tmp_path / "fresh.h5").read_bytes()
    assert extract(folder, FakeEngine(), output).note is None


def test_a_failure_is_compared_too(tmp_path, folder):
    output = tmp_path / "out.h5"
    told(folder, output)
    (folder / "q.jpg").write_text("also none!")
    os.utime(folder / "q.jpg", ns=(TIME, TIME))
    assert told(folder, output) == "0 new, 1 changed, 0 gone, 6 as they were"
    assert digests(output) == expected(folder)


def test_a_file_without_digests_gets_them_and_size_and_time_decide_that_once(tmp_path, folder):
    output = tmp_path / "out.h5"
    extract(folder, FakeEngine(), output)
    picture(folder / "p3.bmp", 60, TIME + 1)
    assert told(folder, output) == "0 new, 1 changed, 0 gone, 6 as they were"
    assert digests(output) == expected(folder)


def test_a_run_without_it_keeps_the_digests_of_what_stays(tmp_path, folder):
    output = tmp_path / "out.h5"
    told(folder, output)
    picture(folder / "p0.bmp", 70, TIME + 1)
    picture(folder / "z.bmp", 71)
    assert told(folder, output, checksum=False) == "1 new, 1 changed, 0 gone, 6 as they were"
    assert digests(output) == {**expected(folder), "p0": "0" * 32, "z": "0" * 32}
    assert told(folder, output) == "0 new, 0 changed, 0 gone, 8 as they were"
    assert digests(output) == expected(folder)


def test_what_is_gone_may_stay_with_its_digest(tmp_path, folder):
    output = tmp_path / "out.h5"
    told(folder, output)
    before = expected(folder)
    (folder / "p5.bmp").unlink()
    told(folder, output, keep_gone=True)
    assert digests(output) == before


def test_a_copy_of_the_folder_under_new_times_is_known_by_its_bytes(tmp_path, folder):
    output, other = tmp_path / "out.h5", tmp_path / "other"
    told(folder, output)
    other.mkdir()
    for file in folder.iterdir():
        (other / file.name).write_bytes(file.read_bytes())
    with pytest.raises(MismatchError, match="only copied or touched, --checksum sees it by their bytes"):
        told(other, output, checksum=False)
    assert told(other, output).startswith("0 new, 0 changed, 0 gone, 7 as they were")


def test_an_interrupted_run_goes_on(tmp_path, folder):
    output = tmp_path / "out.h5"
    with pytest.raises(KeyboardInterrupt):
        extract(folder, Interrupted(), output, batch_size=1, shard_size=1, checksum=True)
    picture(folder / "p0.bmp", 80)  # after it was described
    assert told(folder, output, batch_size=1, shard_size=1) == "0 new, 1 changed, 0 gone, 6 as they were"
    assert digests(output) == expected(folder)


def test_images_that_failed_are_tried_again(tmp_path, folder):
    output = tmp_path / "out.h5"
    told(folder, output, batch_size=2, shard_size=2)
    told(folder, output, retry_failed=True)
    assert digests(output) == expected(folder)


def test_processes_and_any_order_give_the_same_bytes(tmp_path, folder):
    whole = tmp_path / "whole.h5"
    told(folder, whole, batch_size=2, shard_size=2)
    extract_with(
        Toy(FakeEngine(), 1, deaths=1), folder, tmp_path / "o.h5", Request(batch_size=2, shard_size=2, checksum=True)
    )
    assert (tmp_path / "o.h5").read_bytes() == whole.read_bytes()


def test_workers_read_them_too(tmp_path, folder):
    pytest.importorskip("onnxruntime")
    extract(folder, "demo", tmp_path / "o.h5", devices="cpu,cpu", checksum=True)
    assert digests(tmp_path / "o.h5") == expected(folder)


def test_digests_go_with_their_rows(tmp_path, folder):
    """Through merging and removing."""
    one, two, both = (tmp_path / f"{name}.h5" for name in ("one", "two", "both"))
    told(folder, one)
    (tmp_path / "second").mkdir()
    picture(tmp_path / "second" / "s.bmp", 90)
    extract(tmp_path / "second", FakeEngine(), two)
    merge_descriptors([two, one], both)
    remove_descriptors(both, ["p1"], both)
    known = expected(folder)
    del known["p1"]
    assert digests(both) == {**known, "s": "0" * 32}


def test_views_change_where_their_photo_does(tmp_path, folder):
    (folder / "q.jpg").unlink()
    extract(folder, FakeEngine(), tmp_path / "v.h5", checksum=True, views="mirror")
    assert digests(tmp_path / "v.h5") == expected(folder)


class Made(Files):
    """Photos that their source computes, of files that say what they are made of."""

    by_path = False

    def content(self, item):
        return super().open(item)

    def open(self, item):
        return mirrored(super().open(item))


def mirrored(path):
    out = io.BytesIO()
    Image.open(path).convert("RGB").transpose(Image.Transpose.FLIP_LEFT_RIGHT).save(out, "PPM")
    return out.getvalue()


def test_a_photo_that_is_computed_changes_where_its_file_does(tmp_path, folder):
    (folder / "q.jpg").unlink()
    extract(Made(folder), FakeEngine(), tmp_path / "v.h5", checksum=True)
    assert digests(tmp_path / "v.h5") == expected(folder)


def test_a_side_of_a_comparison_is_described_alike(tmp_path, folder):
    """As dedup, find and leaks do."""
    for _ in range(2):
        (side,) = Describing(FakeEngine(), checksum=True).sides([WantedSide("photos", folder)], tmp_path)
        assert digests(side.path) == expected(folder)
        picture(folder / "p2.bmp", 50)
    (side,) = Describing(FakeEngine(), checksum=True).sides([WantedSide("photos", folder)], tmp_path)
    assert side.made is not None
    assert side.made.computed == 0


def test_photos_that_only_a_program_can_open(tmp_path):
    class Memory(Source):
        content_of = b"one"

        def list(self):
            return Listing([Item("a", "memory a"), Item("bad", "memory bad")])

        def open(self, item):
            if item.id == "bad":
                raise OSError("away")
            return self.content_of

    picture(tmp_path / "p.bmp", 1)
    source = Memory()
    source.content_of = (tmp_path / "p.bmp").read_bytes()
    told(source, tmp_path / "out.h5")
    assert digests(tmp_path / "out.h5") == {"a": hashlib.sha256(source.content_of).hexdigest()[:32], "bad": "0" * 32}
    assert told(source, tmp_path / "out.h5") is None
    picture(tmp_path / "p.bmp", 2)
    source.content_of = (tmp_path / "p.bmp").read_bytes()
    assert told(source, tmp_path / "out.h5") == "0 new, 1 changed, 0 gone, 1 as they were"


def test_a_column_that_does_not_go_with_the_rows_is_refused(tmp_path, folder):
    output = tmp_path / "out.h5"
    told(folder, output)
    with open_descriptors(output) as found:
        short = replace(found, failure_digests=np.zeros((5, 16), np.uint8))
        write_descriptors(output, short)
    with (
        pytest.raises(FormatError, match=r"failures/digest of type uint8 and shape \(5, 16\), not uint8 \(1, 16\)"),
        open_descriptors(output),
    ):
        pass


def test_the_command_line(tmp_path, folder, capsys):
    pytest.importorskip("onnxruntime")
    arguments = ["extract", str(folder), "--engine", "demo", "-o", str(tmp_path / "out.h5"), "--checksum", "--json"]
    assert main(arguments) == 0
    picture(folder / "p2.bmp", 50)
    capsys.readouterr()
    assert main(arguments) == 0
    assert json.loads(capsys.readouterr().out)["computed"] == 1
