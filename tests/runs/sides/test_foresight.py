"""What can only be compared in vain is refused before the first photo is described."""

from __future__ import annotations

import numpy as np
import pytest
from fakes import FakeEngine
from oracles import unit_rows

import isc_fast
from isc_fast.descriptors.store import Descriptors
from isc_fast.descriptors.writing import write_descriptors
from isc_fast.errors import InputError, IscFastError, MismatchError, MissingExtraError
from isc_fast.extraction.runners.cluster import Cluster
from isc_fast.runs.calibrate import calibrate
from isc_fast.runs.sides.describing import Describing
from isc_fast.runs.sides.thresholds import AtPrecision


@pytest.fixture(scope="module")
def scene(tmp_path_factory, photos):
    """Photos, calibrations of two engines and of normalised scores, and descriptors and negatives of both engines."""
    folder = tmp_path_factory.mktemp("foresight")
    (folder / "photos").mkdir()
    for photo in photos[:24]:
        (folder / "photos" / photo.name).symlink_to(photo)
    for seed in (0, 1):
        engine = FakeEngine(seed=seed)
        isc_fast.extract(folder / "photos", engine, folder / f"rows{seed}.h5")
        with isc_fast.open_descriptors(folder / f"rows{seed}.h5") as made:
            rows = unit_rows(7, 150, engine.spec.dim)
            write_descriptors(folder / f"n{seed}.h5", Descriptors(rows, [f"n{row}" for row in range(150)], made.meta))
        calibrate(folder / "photos", folder / f"c{seed}.json", engine=engine, copies=2)
    calibrate(folder / "photos", folder / "score.json", engine=FakeEngine(), copies=2, negatives=folder / "n0.h5")
    return folder


def dedup(scene, out, describing, **options):
    return isc_fast.find_duplicates(scene / "photos", out, describing=describing, **options)


def find(scene, out, describing, *, references=None, **options):
    return isc_fast.find_copies(scene / "photos", references or scene / "photos", out, describing=describing, **options)


def leaks(scene, out, describing, **options):
    return isc_fast.find_leaks(scene / "photos", [scene / "rows0.h5"], out, describing=describing, **options)


@pytest.mark.parametrize("verb", [dedup, find, leaks])
def test_a_calibration_of_another_engine(scene, tmp_path, verb):
    engine = FakeEngine()
    with pytest.raises(MismatchError, match=r"c1\.json: the calibration was made with another engine"):
        verb(scene, tmp_path / "out", Describing(engine), threshold=AtPrecision(scene / "c1.json", 0.5, 0.5))
    assert engine.calls == []
    verb(scene, tmp_path / "out", Describing(engine), threshold=AtPrecision(scene / "c0.json", 0.1, 0.9))
    assert engine.calls


@pytest.mark.parametrize("verb", [dedup, find, leaks])
def test_an_engine_that_carries_no_threshold(scene, tmp_path, verb):
    engine = FakeEngine()
    with pytest.raises(InputError, match="name no engine that carries a default threshold"):
        verb(scene, tmp_path / "out", Describing(engine))
    assert engine.calls == []
    verb(scene, tmp_path / "out", Describing(engine), threshold=0.9)
    assert engine.calls


def test_a_side_of_another_engine(scene, tmp_path):
    engine = FakeEngine()
    with pytest.raises(MismatchError, match="made by different engines"):
        find(scene, tmp_path / "out", Describing(engine), references=scene / "rows1.h5", threshold=0.9)
    with pytest.raises(MismatchError, match="made by different engines"):
        leaks(scene, tmp_path / "out", Describing(FakeEngine(seed=1)), threshold=0.9)
    assert engine.calls == []


@pytest.mark.parametrize(
    ("negatives", "calibration", "words"),
    [
        ("n1.h5", None, "the negatives were made by another engine"),
        ("n0.h5", "c0.json", r"c0\.json: .*isc-fast calibrate makes one for them"),
        (None, "score.json", r"score\.json: .*isc-fast calibrate makes one for them"),
    ],
)
def test_negatives_and_calibrations_that_do_not_belong(scene, tmp_path, negatives, calibration, words):
    engine = FakeEngine()
    options = {} if negatives is None else {"negatives": scene / negatives}
    threshold = 0.5 if calibration is None else AtPrecision(scene / calibration, 0.5, 0.5)
    with pytest.raises(IscFastError, match=words):
        find(scene, tmp_path / "out", Describing(engine), threshold=threshold, **options)
    assert engine.calls == []


@pytest.mark.parametrize(
    ("rows", "words"),
    [
        (np.full((3, 16), 0.5, np.float32), "has length 2, not 1"),
        (np.full((3, 16), np.nan, np.float32), "has length nan, not 1"),
        (np.empty((0, 16), np.float32), "holds no descriptors"),
    ],
)
def test_descriptors_that_cannot_be_compared(scene, tmp_path, rows, words):
    """Those of another tool, as a side or as negatives."""
    engine, path = FakeEngine(), tmp_path / "theirs.npy"
    np.save(path, rows)
    path.with_suffix(".txt").write_text("".join(f"{row}\n" for row in range(len(rows))))
    for verb in (
        lambda: find(scene, tmp_path / "out", Describing(engine), references=path, threshold=0.9),
        lambda: isc_fast.find_leaks(
            path, [scene / "photos"], tmp_path / "out", describing=Describing(engine), threshold=0.9
        ),
    ):
        with pytest.raises(InputError, match=words):
            verb()
    if len(rows):
        many = np.repeat(rows, 40, axis=0)
        np.save(path, many)
        path.with_suffix(".txt").write_text("".join(f"{row}\n" for row in range(len(many))))
        with pytest.raises(InputError, match=words):
            find(scene, tmp_path / "out", Describing(engine), negatives=path, threshold=0.9)
    assert engine.calls == []


def test_negatives_that_are_the_references(scene, tmp_path):
    engine = FakeEngine()
    with pytest.raises(InputError, match="of the 150 references, 150 are negatives too"):
        find(
            scene,
            tmp_path / "out",
            Describing(engine),
            references=scene / "n0.h5",
            negatives=scene / "n0.h5",
            threshold=0.5,
        )
    assert engine.calls == []


def test_calibrating_with_negatives_of_another_engine(scene, tmp_path):
    engine = FakeEngine()
    with pytest.raises(MismatchError, match="the negatives were made by another engine"):
        calibrate(scene / "photos", tmp_path / "c.json", engine=engine, negatives=scene / "n1.h5")
    assert engine.calls == []


def test_a_cluster_that_is_not_installed(scene, tmp_path, monkeypatch):
    engine = FakeEngine()

    def missing(module, extra):
        raise MissingExtraError(f"{module} is not installed")

    monkeypatch.setattr("isc_fast.runs.tasks.joining.require", missing)
    with pytest.raises(MissingExtraError, match="ray is not installed"):
        dedup(scene, tmp_path / "out", Describing(engine), threshold=0.5, search_cluster=Cluster())
    assert engine.calls == []


def test_a_side_without_a_photo(scene, tmp_path):
    """All sides are listed before the first is described."""
    engine = FakeEngine()
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match="found no image"):
        find(scene, tmp_path / "out", Describing(engine), references=tmp_path / "empty", threshold=0.9)
    with pytest.raises(InputError, match="found no image"):
        isc_fast.find_leaks(
            scene / "photos", [tmp_path / "empty"], tmp_path / "out", describing=Describing(engine), threshold=0.9
        )
    assert engine.calls == []


def test_those_that_belong_are_taken(scene, tmp_path):
    engine = FakeEngine()
    wanted = AtPrecision(scene / "score.json", 0.1, 0.9)
    made = find(scene, tmp_path / "out", Describing(engine), negatives=scene / "n0.h5", threshold=wanted)
    assert engine.calls
    assert made.method == "score"


def test_where_nothing_is_described_nothing_is_loaded(scene, tmp_path):
    describing = Describing("no such engine.onnx")
    made = isc_fast.find_copies(
        scene / "rows0.h5", scene / "rows0.h5", tmp_path / "out", describing=describing, threshold=0.9
    )
    assert made.pairs >= 24
    assert np.isfinite(isc_fast.read_matches(made.matches).scores).all()
