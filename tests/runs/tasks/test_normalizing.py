"""Normalising and smoothing in tasks: the rows of one process, bit for bit, in a result in parts that every verb takes."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from helpers_search import QUERIES, REFERENCES, clustered, in_parts, two_sides

import isc_fast
from isc_fast.cli.main import main
from isc_fast.descriptors import store
from isc_fast.descriptors.formats.table import open_any
from isc_fast.descriptors.manifest import starts_of
from isc_fast.descriptors.store import Descriptors
from isc_fast.descriptors.writing import write_descriptors
from isc_fast.errors import DamageError, InputError, IscFastError, MismatchError
from isc_fast.extraction.share import Share
from isc_fast.items import Failure
from isc_fast.runs.tasks.normalizing import normalize_to_folder, smooth_to_folder

OF_PART = 100  # photos at least, so parts of 64 stand in pairs


@pytest.fixture(params=[1, 2], ids=["one view", "two views"])
def sides(request, tmp_path: Path) -> tuple[Path, Path]:
    return two_sides(tmp_path, request.param)


@pytest.fixture(autouse=True)
def small_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        "isc_fast.runs.tasks.normalizing.starts_of", lambda count, _, ends: starts_of(count, OF_PART, ends)
    )


@pytest.fixture
def negatives(tmp_path: Path, sides: tuple[Path, Path]) -> Path:
    """In parts, of the views of the others."""
    with open_any(sides[0]) as found:
        views, meta = len(found.views), dict(found.meta)
    in_parts(tmp_path / "t", clustered(3, 300, views), [f"t{row}" for row in range(300)], 64, meta)
    return tmp_path / "t"


def same(parts: Path, file: Path) -> None:
    """A result in parts and a file hold the same, and say the same of it."""
    with open_any(parts) as one, open_any(file) as other:
        assert np.asarray(one.vectors[:]).tobytes() == np.asarray(other.vectors[:]).tobytes()
        assert [*one.ids] == [*other.ids]
        assert dict(one.meta) == dict(other.meta)
        assert [*one.failures] == [*other.failures]


def smoothed(plain: Path, output: Path) -> Path:
    with open_any(plain) as found:
        isc_fast.smooth_to_file(found, output)
    return output


def normalized(plain: Path, negatives: Path | None, output: Path, **options: object) -> Path:
    with open_any(plain) as found:
        against = None if negatives is None else isc_fast.read_descriptors(negatives)
        isc_fast.normalize_to_file(found, against, output, **options)  # type: ignore[arg-type]
    return output


def test_smoothing_subtracting_and_searching_in_tasks_give_the_bytes_of_one_process(tmp_path, sides, negatives):
    """The whole way, each step by two workers on what the step before has made."""
    made = smooth_to_folder(negatives, tmp_path / "n", workers=2)
    assert (made.complete, made.count, made.parts, made.computed) == (True, 300, 3, 3)
    whole = smoothed(negatives, tmp_path / "n.h5")
    same(tmp_path / "n", whole)
    files = []
    for name, side, parts in (("q", sides[0], 1), ("r", sides[1], 6)):
        made = normalize_to_folder(side, tmp_path / "n", tmp_path / f"{name}-n", workers=2)
        assert (made.complete, made.parts, made.done, made.computed) == (True, parts, parts, parts)
        files.append(normalized(side, whole, tmp_path / f"{name}-n.h5"))
        same(tmp_path / f"{name}-n", files[-1])
    found = isc_fast.search_to_folder(tmp_path / "q-n", tmp_path / "r-n", tmp_path / "found", k=5)
    with open_any(files[0]) as queries, open_any(files[1]) as references:
        isc_fast.write_matches(tmp_path / "whole.csv", isc_fast.search(queries, references, k=5))
    assert Path(str(found.matches)).read_bytes() == (tmp_path / "whole.csv").read_bytes()


@pytest.mark.parametrize(
    "options",
    [{"method": "score"}, {"method": "score", "k": 2, "beta": 0.5}, {"k": 3, "beta": 0.1, "iterations": 2}],
    ids=str,
)
def test_methods_and_their_numbers(tmp_path, sides, negatives, options):
    normalize_to_folder(sides[1], negatives, tmp_path / "out", **options)
    same(tmp_path / "out", normalized(sides[1], negatives, tmp_path / "whole.h5", **options))


def test_references_of_scores_need_no_negatives(tmp_path, sides):
    normalize_to_folder(sides[1], None, tmp_path / "out", method="score")
    same(tmp_path / "out", normalized(sides[1], None, tmp_path / "whole.h5", method="score"))


def test_shares_an_interruption_and_a_part_that_is_lost(tmp_path, sides, negatives):
    whole, out = normalized(sides[1], negatives, tmp_path / "whole.h5"), tmp_path / "out"
    one = normalize_to_folder(sides[1], negatives, out, share=Share(1, 2))
    assert (one.complete, one.done, one.computed) == (False, 3, 3)
    with pytest.raises(IscFastError):
        isc_fast.read_descriptors(out)

    def interrupt(done: int, *_: int) -> None:
        if len([*out.rglob("part-*")]) == 4:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        normalize_to_folder(sides[1], negatives, out, progress=interrupt)
    made = normalize_to_folder(sides[1], negatives, out)
    assert (made.complete, made.computed) == (True, 2)
    same(out, whole)
    manifest = (out / "manifest.json").read_bytes()
    assert normalize_to_folder(sides[1], negatives, out).computed == 0
    sorted(out.rglob("part-*"))[3].unlink()
    with pytest.raises(DamageError, match=r"part-000003\.h5 .* is not there; .* run the same isc-fast normalize again"):
        isc_fast.read_descriptors(out)
    assert normalize_to_folder(sides[1], negatives, out).computed == 1
    assert (out / "manifest.json").read_bytes() == manifest
    same(out, whole)


def test_the_ledger_stays(tmp_path):
    rows = clustered(1, 250)
    failures = [Failure("x", "x.jpg", "decode", "no picture")]
    write_descriptors(tmp_path / "d.h5", Descriptors(rows, [f"d{row}" for row in range(250)], {}, failures))
    write_descriptors(tmp_path / "t.h5", Descriptors(rows[:50], [f"t{row}" for row in range(50)]))
    made = normalize_to_folder(tmp_path / "d.h5", tmp_path / "t.h5", tmp_path / "out")
    assert made.parts == 3
    same(tmp_path / "out", normalized(tmp_path / "d.h5", tmp_path / "t.h5", tmp_path / "whole.h5"))


def test_what_is_refused(tmp_path, sides, negatives):
    def refused(kind: type[Exception], *arguments: object, **options: object) -> str:
        with pytest.raises(kind) as caught:
            normalize_to_folder(*arguments, **options)  # type: ignore[arg-type]
        assert "\n" not in str(caught.value)
        return str(caught.value)

    out = tmp_path / "out"
    assert "needs negatives" in refused(InputError, sides[1], None, out)
    assert "there is no method 'x'" in refused(InputError, sides[1], negatives, out, method="x")
    assert not out.exists()
    normalize_to_folder(sides[1], negatives, out)
    assert "was begun for other descriptors" in refused(MismatchError, sides[1], negatives, out, k=4)
    assert "normalised already" in refused(InputError, out, negatives, tmp_path / "twice")
    assert not (tmp_path / "twice").exists()


def test_the_command_line(tmp_path, sides, negatives, capsys):
    assert main(["negatives", str(negatives), "-o", f"{tmp_path}/n/"]) == 0
    assert capsys.readouterr().out == f"{tmp_path}/n: 300 negatives, smoothed, 3 parts\n"
    words = ["normalize", str(sides[1]), "--negatives", f"{tmp_path}/n", "-o", f"{tmp_path}/out/"]
    assert main([*words, "--shard-index", "0", "--num-shards", "2"]) == 0
    assert "3 of 6 parts are there; the job that sees the last one writes the manifest" in capsys.readouterr().out
    assert main(words) == 0
    assert capsys.readouterr().out == f"{tmp_path}/out: normalised by nes, 6 parts\n"
    assert json.loads((tmp_path / "out" / "manifest.json").read_text())["rows"] == REFERENCES
    file = ["normalize", str(sides[1]), "--negatives", f"{tmp_path}/n", "-o", f"{tmp_path}/file.h5"]
    assert main([*file, "--workers", "2"]) == 1
    assert "--workers is about work in tasks" in capsys.readouterr().err
    assert main([*words, "--dtype", "float16"]) == 1
    assert "--dtype float16 is for one file" in capsys.readouterr().err
    assert main(["verify", f"{tmp_path}/out"]) == 0


def test_parts_by_default(sides):
    with open_any(sides[0]) as found:
        assert len(found) == QUERIES
        assert starts_of(len(found), found.block_rows, None) == [0]
        assert starts_of(len(found), 40, None) == [0, 40, 80]
        assert found.block_rows == store.BLOCK_ROWS // len(found.views)
