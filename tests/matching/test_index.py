"""The index: against brute force, through random changes, damage, kills, and two writers."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from random import Random

import numpy as np
import pytest

from isc_fast.cli.main import main
from isc_fast.descriptors.store import Descriptors
from isc_fast.descriptors.writing import write_descriptors
from isc_fast.errors import DamageError, FormatError, InputError, IscFastError, MismatchError, OutputError
from isc_fast.files.one_run import one_run
from isc_fast.matching.index import changes, opened
from isc_fast.matching.index.changes import add_to_index, build_index, compact_index, remove_from_index
from isc_fast.matching.index.layout import CANDIDATES, KEYS, MANIFEST, ROWS, read_manifest
from isc_fast.matching.index.measured import Recall, queries_for
from isc_fast.matching.index.memory import choose_kind, to_bytes
from isc_fast.matching.index.opened import OpenIndex
from isc_fast.matching.searchers.exact import scores_of

pytest.importorskip("faiss")
DIM = 16
META = {"engine_id": "e" * 64, "engine": {"name": "one", "checkpoint_sha256": "c" * 64}, "decoder": "pillow"}


def some(count: int, seed: int = 0, prefix: str = "r", meta: dict | None = None) -> Descriptors:
    """Unit rows around thirty directions."""
    random = np.random.default_rng(seed)
    rows = np.random.default_rng(99).standard_normal((30, DIM))[random.integers(0, 30, count)]
    rows = rows + 0.5 * random.standard_normal((count, DIM))
    rows = (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)
    return Descriptors(rows, [f"{prefix}{row}" for row in range(count)], META if meta is None else meta)


def ask(
    folder: Path, queries: Descriptors, k: int = 5, threshold: float | None = None
) -> list[list[tuple[str, float]]]:
    """(id, score) of each query's matches, as a fresh index gives them."""
    index = OpenIndex(folder)
    matches = index.query(queries, k=k, threshold=threshold)
    index.close()
    found: dict[str, list[tuple[str, float]]] = {id_: [] for id_ in queries.ids}
    for query, reference, score in matches:
        found[query].append((reference, score))
    return list(found.values())


def brute(rows: dict[str, np.ndarray], queries: Descriptors, k: int = 5) -> list[list[tuple[str, float]]]:
    """The same by comparing everything."""
    ids = list(rows)
    table = np.stack([rows[id_] for id_ in ids])
    made = []
    for query in queries.vectors:
        scores = scores_of(np.broadcast_to(query, table.shape), table, "ip")
        best = np.argsort(-scores, kind="stable")[:k]
        made.append([(ids[row], float(scores[row])) for row in best])
    return made


def as_rows(descriptors: Descriptors) -> dict[str, np.ndarray]:
    return dict(zip(descriptors.ids, descriptors.vectors, strict=True))


def test_a_small_index_is_exact(tmp_path):
    rows, queries = some(500), some(20, 1, "q")
    made = build_index(rows, tmp_path / "i")
    assert (made.rows, made.added, made.segments[0].lists) == (500, 500, None)
    assert ask(tmp_path / "i", queries) == brute(as_rows(rows), queries)


@pytest.mark.parametrize(("memory", "code"), [(None, "SQ8"), (70_000, "SQ6"), (62_000, "SQ4")])
def test_lists_keep_their_promise_and_score_by_the_stored_rows(tmp_path, memory, code):
    rows, queries = some(3000), some(200, 1, "q")
    made = build_index(rows, tmp_path / "i", memory=memory, recall=0.95, flat_below=1000)
    (segment,) = made.segments
    assert segment.lists.factory.endswith(code)
    recall = segment.lists.recall
    assert recall.low >= 0.95
    assert (recall.queries, recall.k) == (1000, 10)
    found, expected = ask(tmp_path / "i", queries, 10), brute(as_rows(rows), queries, 10)
    kept = np.mean([len(set(one) & set(other)) / 10 for one, other in zip(found, expected, strict=True)])
    assert (
        kept >= 0.93
    )  # of other queries than those of the sample; pairs are compared with their scores to the last bit
    every = as_rows(rows)
    for query, matches in zip(queries.vectors, found, strict=True):
        assert len(matches) == 10
        scores = [score for _, score in matches]
        assert scores == sorted(scores, reverse=True)
        for id_, score in matches:
            assert score == float(scores_of(query[None], every[id_][None], "ip")[0])


def test_the_measured_recall_is_that_of_brute_force(tmp_path):
    rows = some(3000)
    (segment,) = build_index(rows, tmp_path / "i", recall=0.5, flat_below=1000).segments
    asked = np.sort(np.random.default_rng(1).choice(3000, 400, replace=False))
    queries = Descriptors(rows.vectors[asked], [rows.ids[row] for row in asked], META)
    found, expected = ask(tmp_path / "i", queries, 11), brute(as_rows(rows), queries, 11)
    shares = [
        len({id_ for id_, _ in one} & {id_ for id_, _ in other} - {query}) / 10
        for query, one, other in zip(queries.ids, found, expected, strict=True)
    ]
    other = Recall.of(float(np.mean(shares)), len(shares), 10)
    assert segment.lists.recall.mean < 0.999  # else this says nothing
    assert other.low <= segment.lists.recall.high
    assert segment.lists.recall.low <= other.high


def test_a_promise_that_is_not_kept_is_refused_and_leaves_nothing(tmp_path):
    """Rows that differ by less than four bits tell: the candidates are any of them."""
    rows = np.ones((3000, DIM), np.float32) + 1e-2 * np.random.default_rng(0).standard_normal((3000, DIM)).astype(
        np.float32
    )
    rows[0], rows[1] = 1, -1  # the quantiser's range
    rows[1, 0] = 1
    unit = Descriptors(rows / np.linalg.norm(rows, axis=1, keepdims=True), [str(row) for row in range(3000)])
    with pytest.raises(InputError, match=r"a recall of 0\.95 was promised, and the finest lists that fit find 0\.\d+"):
        build_index(unit, tmp_path / "i", memory=62_000, recall=0.95, flat_below=1000)
    assert list((tmp_path / "i").iterdir()) == []
    with pytest.raises(InputError, match="take at least 1 MB, and 0 MB are left"):
        build_index(unit, tmp_path / "i", memory="50 kB", flat_below=1000)


def test_equal_rows_count_for_each_other(tmp_path):
    one = some(1)
    rows = Descriptors(np.repeat(one.vectors, 2000, axis=0), [str(row) for row in range(2000)], META)
    (segment,) = build_index(rows, tmp_path / "i", flat_below=1000).segments
    assert segment.lists.recall.mean == 1
    assert [score for _, score in ask(tmp_path / "i", one)[0]] == [pytest.approx(1, abs=1e-6)] * 5


@pytest.mark.parametrize("seed", range(6))
def test_random_changes_end_where_brute_force_does(tmp_path, seed):
    """Lists look into everything here, so that nothing may be missing."""
    random, folder, queries = Random(seed), tmp_path / "i", some(8, 1000, "q")
    first = some(random.choice([50, 400]), seed)
    expected = as_rows(first)
    build_index(first, folder, recall=0.99, flat_below=150)
    for step in range(14):
        what = random.choice(["add", "add", "remove", "remove", "compact", "replace"])
        if what == "add":
            new = some(random.choice([1, 3, 20, 160]), seed * 100 + step, f"s{step}-")
            assert add_to_index(folder, new).added == len(new)
            expected |= as_rows(new)
        elif what == "compact":
            assert len(compact_index(folder).segments) == (1 if expected else 0)
        else:
            gone = random.sample(sorted(expected), min(len(expected) - 1, random.choice([1, 10, 60])))
            if gone:
                assert remove_from_index(folder, [*gone, "never"]).missing == 1
            new = {id_: row for id_, row in expected.items() if id_ not in gone}
            if what == "replace" and gone:  # the same names with other rows
                other = Descriptors(some(len(gone), step + 7).vectors, gone, META)
                add_to_index(folder, other)
                new |= as_rows(other)
            expected = new
        index = OpenIndex(folder)
        assert len(index) == len(expected)
        index.close()
        wide = replace_nprobe(folder, tmp_path / f"all{step}")
        found, true = ask(wide, queries), brute(expected, queries)
        assert [sorted(one) for one in found] == [sorted(one) for one in true]
        assert sum(segment.lists is None for segment in read_manifest(folder).segments) <= 8


def replace_nprobe(folder: Path, copy: Path) -> Path:
    """A copy of an index whose queries look into all lists."""
    from isc_fast.matching.index.layout import write_manifest

    shutil.copytree(folder, copy)
    manifest = read_manifest(copy)
    segments = [
        replace(one, lists=replace(one.lists, nprobe=10_000, spread=40)) if one.lists else one
        for one in manifest.segments
    ]
    write_manifest(copy, replace(manifest, segments=tuple(segments)))
    return copy


def test_an_emptied_index_answers_nothing_and_takes_rows_again(tmp_path):
    rows = some(5)
    build_index(rows, tmp_path / "i")
    assert remove_from_index(tmp_path / "i", rows.ids).rows == 0
    assert ask(tmp_path / "i", rows) == [[]] * 5
    assert compact_index(tmp_path / "i").rows == 0
    add_to_index(tmp_path / "i", rows)
    assert [one[0][0] for one in ask(tmp_path / "i", rows)] == rows.ids
    assert len(list((tmp_path / "i").iterdir())) == 2


def test_an_open_index_stays_as_it_was(tmp_path):
    rows = some(300)
    build_index(rows, tmp_path / "i", flat_below=100)
    index = OpenIndex(tmp_path / "i")
    remove_from_index(tmp_path / "i", rows.ids[:10])
    compact_index(tmp_path / "i")
    found = index.query(Descriptors(rows.vectors[:1], ["q"], META), k=1, threshold=None)
    assert list(found.reference_ids) == ["r0"]
    index.close()
    assert ask(tmp_path / "i", Descriptors(rows.vectors[:1], ["q"], META), 1)[0][0][0] != "r0"


def test_a_threshold_leaves_out_what_scores_lower(tmp_path):
    rows = some(300)
    build_index(rows, tmp_path / "i")
    for matches in ask(tmp_path / "i", rows, 300, 0.8):
        assert all(score >= np.float32(0.8) for _, score in matches)
    expected = sum(score >= 0.8 for one in brute(as_rows(rows), rows, 300) for _, score in one)
    assert sum(map(len, ask(tmp_path / "i", rows, 300, 0.8))) == expected


OTHER = {**META, "engine_id": "f" * 64, "engine": {"name": "two", "checkpoint_sha256": "d" * 64}}
NES = {**META, "normalization": {"method": "nes", "k": 10, "beta": 0.35, "iterations": 1, "negatives": "a" * 64}}
SCORE = {**META, "normalization": {"method": "score", "role": "reference"}}


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        (
            lambda i: add_to_index(i, some(1, 3, "n", OTHER)),
            MismatchError,
            "made by another engine .ffffffffffff. than",
        ),
        (lambda i: add_to_index(i, some(1, 3, "n", NES)), MismatchError, "normalised by nes .* by nothing"),
        (lambda i: add_to_index(i, some(1, 3, "n", {})), MismatchError, "not made by one engine file"),
        (lambda i: add_to_index(i, some(1, 3)), InputError, r"1 of the 1 ids are in the index already \('r0'\)"),
        (lambda i: build_index(some(9), i), OutputError, "is an index already"),
        (lambda i: build_index(some(9), i / ".."), OutputError, "holds other files than an index"),
        (lambda i: build_index(some(9, meta=SCORE), i, overwrite=True), MismatchError, "one side of two"),
        (lambda i: build_index(some(0), i, overwrite=True), InputError, "no descriptors"),
        (lambda i: build_index(some(9), i, recall=1.0, overwrite=True), InputError, "a recall of 1 cannot be promised"),
        (lambda i: build_index(some(9), i, memory="much", overwrite=True), InputError, "'much' is no amount"),
        (lambda i: build_index(some(9), i, k=0, overwrite=True), InputError, "k must be at least 1"),
        (lambda i: remove_from_index(i, ["x"]), InputError, "none of the 1 ids is in the index, such as 'x'"),
        (lambda i: ask(i, some(1, 3, "q", OTHER)), MismatchError, "made by different engines"),
        (lambda i: ask(i, some(1, 3, "q", NES)), MismatchError, "normalise both with the same negatives"),
        (lambda i: ask(i, some(1), 0), InputError, "k must be at least 1"),
        (lambda i: ask(i, some(1), 1, 2.0), InputError, "the threshold is a cosine"),
        (lambda i: remove_from_index(i / "no", ["x"]), FormatError, "is no index: it has no index.json"),
    ],
)
def test_what_does_not_fit_is_one_line_and_changes_nothing(tmp_path, change, error, message):
    index = tmp_path / "i"
    build_index(some(9), index)
    before = (index / MANIFEST).read_bytes()
    with pytest.raises(error, match=message) as caught:
        change(index)
    assert "\n" not in str(caught.value)
    assert (index / MANIFEST).read_bytes() == before
    assert len(list(index.iterdir())) == 2


def test_two_writers_are_one_line(tmp_path):
    build_index(some(9), tmp_path / "i")
    with one_run(tmp_path / "i"), pytest.raises(OutputError, match="another run is writing to"):
        add_to_index(tmp_path / "i", some(3, 1, "n"))


def ask_and_remove(folder: Path, rows: Descriptors) -> None:
    """Read every file of an index."""
    ask(folder, rows)
    remove_from_index(folder, ["r9"])


@pytest.mark.parametrize("name", [MANIFEST, ROWS, KEYS, CANDIDATES, "gone"])
def test_every_damaged_byte_is_noticed_before_a_library_reads_it(tmp_path, name):
    rows = some(400)
    build_index(rows, tmp_path / "i", flat_below=100)
    remove_from_index(tmp_path / "i", rows.ids[:3])
    (file,) = (tmp_path / "i").rglob("gone-*" if name == "gone" else name)
    sound, random = file.read_bytes(), Random(0)
    for number in range(25):
        broken = bytearray(sound)
        if number % 3:
            broken[random.randrange(len(broken))] ^= 1 << random.randrange(8)
        else:
            del broken[random.randrange(len(broken)) :]
        file.write_bytes(broken)
        with pytest.raises(FormatError) as caught:
            ask_and_remove(tmp_path / "i", rows)
        assert "\n" not in str(caught.value)
    file.write_bytes(sound)
    assert len(ask(tmp_path / "i", rows)) == 400
    file.unlink()
    with pytest.raises(FormatError):
        remove_from_index(tmp_path / "i", ["r9"]) if name == KEYS else ask(tmp_path / "i", rows)


def test_the_files_of_another_index_are_not_taken(tmp_path):
    build_index(some(400), tmp_path / "i", flat_below=100)
    build_index(some(400, 1), tmp_path / "j", flat_below=100)
    for name in (ROWS, CANDIDATES):
        (mine,), (other,) = (list((tmp_path / folder).rglob(name)) for folder in "ij")
        sound = mine.read_bytes()
        mine.write_bytes(other.read_bytes())
        with pytest.raises(DamageError, match="another file than the one that"):
            ask(tmp_path / "i", some(1))
        mine.write_bytes(sound)


@pytest.mark.parametrize("change", ["add", "compact", "remove"])
def test_a_change_that_breaks_off_leaves_the_old_state(tmp_path, monkeypatch, change):
    rows = some(400)
    build_index(rows, tmp_path / "i", flat_below=100)
    add_to_index(tmp_path / "i", some(5, 2, "n"))
    expected = ask(tmp_path / "i", rows)

    def broken(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(changes, "write_manifest", broken)
        with pytest.raises(KeyboardInterrupt):
            {
                "add": lambda: add_to_index(tmp_path / "i", some(7, 3, "m")),
                "compact": lambda: compact_index(tmp_path / "i"),
                "remove": lambda: remove_from_index(tmp_path / "i", ["r0"]),
            }[change]()
    assert ask(tmp_path / "i", rows) == expected
    assert add_to_index(tmp_path / "i", some(7, 3, "m")).added == 7
    left = [path.name for path in (tmp_path / "i").iterdir()]
    assert len(left) == 1 + len(read_manifest(tmp_path / "i").segments)
    assert not [*(tmp_path / "i").rglob("gone-*")]


def test_a_killed_build_begins_again(tmp_path):
    write_descriptors(tmp_path / "r.h5", some(30_000))
    command = [sys.executable, "-m", "isc_fast", "index", "build", str(tmp_path / "r.h5"), "-o", str(tmp_path / "i")]
    running = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    assert running.stderr is not None
    for line in running.stderr:
        if line.startswith("train"):
            running.kill()
    running.wait()
    running.stderr.close()
    left = list((tmp_path / "i").iterdir())
    assert [path.name.split("-")[0] for path in left] == ["segment"]
    made = build_index(some(200), tmp_path / "i")
    assert made.rows == 200
    assert len(list((tmp_path / "i").iterdir())) == 2
    assert not left[0].exists()


def test_a_reader_finds_an_index_that_changes_meanwhile(tmp_path, monkeypatch):
    build_index(some(50), tmp_path / "i")
    segment = opened.Segment
    calls = iter([True])

    def slow(folder, facts):
        if next(calls, False):  # between the manifest and its files, somebody compacts
            remove_from_index(folder, ["r0"])
            compact_index(folder)
        return segment(folder, facts)

    monkeypatch.setattr(opened, "Segment", slow)
    index = OpenIndex(tmp_path / "i")
    assert len(index) == 49
    index.close()


def test_numbers():
    assert to_bytes("8GB") == 8 * 10**9
    assert to_bytes("1.5 MiB") == 1_572_864
    assert to_bytes(12) == 12
    assert choose_kind(10**6, 256, None).code == "SQ8"
    assert choose_kind(10**6, 256, 150 * 10**6).code == "SQ4"
    assert queries_for(0.999) == 10_000
    known = Recall.of(0.95, 100, 10)
    assert (round(known.low, 4), round(known.high, 4)) == (0.8882, 0.9785)  # Wilson's interval, from a table
    assert Recall.of(1.0, 1000, 10).low == pytest.approx(0.99617, abs=1e-5)


def test_a_manifest_of_a_newer_version_is_named(tmp_path):
    build_index(some(9), tmp_path / "i")
    body = json.loads((tmp_path / "i" / MANIFEST).read_text())
    (tmp_path / "i" / MANIFEST).write_text(json.dumps({**body, "version": 2}))
    with pytest.raises(IscFastError, match="has format version 2; this isc-fast reads 1"):
        OpenIndex(tmp_path / "i")


def test_info_and_verify_take_an_index(tmp_path, capsys):
    folder = tmp_path / "i"
    build_index(some(60), folder)
    add_to_index(folder, some(9, 1, "s"))
    remove_from_index(folder, ["r3"])
    assert main(["info", str(folder), "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert {"kind": "index", "count": 68, "dim": DIM, "engine_id": "e" * 64}.items() <= told.items()
    assert sum(segment["rows"] - segment["removed"] for segment in told["segments"]) == 68
    assert main(["verify", str(folder)]) == 0
    printed = capsys.readouterr().out
    assert f"68 rows of {DIM} numbers" in printed
    assert printed.endswith(f"{folder}: sound\n")
    files = [folder / facts.name / name for facts in read_manifest(folder).segments for name in facts.files]
    for file in (*files, folder / MANIFEST):
        content = file.read_bytes()
        middle = len(content) // 2
        file.write_bytes(content[:middle] + bytes([content[middle] ^ 1]) + content[middle + 1 :])
        assert main(["verify", str(folder)]) == 1, file
        assert str(file) in capsys.readouterr().out
        file.write_bytes(content)
    assert main(["verify", str(folder)]) == 0
