"""A calibration: precision and recall from scores without labels, its interval, its file, and what it is refused for."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest

from isc_fast.descriptors.provenance import Normalization, PlanFacts, Provenance
from isc_fast.descriptors.store import Descriptors
from isc_fast.errors import FormatError, InputError, MismatchError
from isc_fast.evaluation.calibration import FEWEST, Calibration, Task, only_kinds
from isc_fast.evaluation.calibration_file import read_calibration, write_calibration
from isc_fast.evaluation.copies import Trial
from isc_fast.evaluation.tails import COUNTED

DIM = 32
SPEC = {"name": "toy", "arch": None, "height": 8, "width": 8, "dim": DIM, "gem_p": None, "version": 1}
META = Provenance.of_extraction("e" * 64, SPEC, "pillow", PlanFacts()).without("plan").write()


def unit(rows):
    return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)


def trial_of(seed, photos=60, strangers=12, copies=4, noise=0.8):
    """Photos as random directions, and copies that lie near them; two kinds, of which one is nearer."""
    rng = np.random.default_rng(seed)
    all_photos = unit(rng.standard_normal((photos + strangers, DIM)))
    originals = np.repeat(np.arange(len(all_photos)), copies)
    kinds = ["near" if number % 2 else "far" for number in range(len(originals))]
    strength = np.where(np.arange(len(originals)) % 2, noise / 2, noise)[:, None]
    made = unit(all_photos[originals] + strength * rng.standard_normal((len(originals), DIM)) / math.sqrt(DIM) * 2)
    return Trial(all_photos[:photos], made, originals, kinds)


def test_shares_are_those_that_were_counted():
    trial = trial_of(0)
    found = Calibration.of(trial, META)
    scores, true = trial.copies @ trial.photos.T, trial.is_true
    assert (found.photos, found.left_out, found.pairs) == (60, 0, int((~true).sum()))
    for threshold in (0.3, 0.4):
        assert (scores[~true] >= threshold).sum() > COUNTED
        assert found.false_share(threshold) == pytest.approx((scores[~true] >= threshold).mean())
    kinds = np.array(trial.kinds)[trial.originals < 60]
    own = scores[true]
    expected = {kind: (own[kinds == kind] >= 0.6).mean() for kind in ("far", "near")}
    assert found.recall_by_kind(0.6) == pytest.approx(expected)
    assert found.recall(0.6) == pytest.approx(sum(expected.values()) / 2)


def test_beyond_what_was_counted_the_share_falls_by_e_for_the_mean_excess():
    found = Calibration.of(trial_of(0), META)
    start = found.tail[COUNTED - 1]
    scale = (found.tail[:COUNTED] - start).mean()
    expected = COUNTED / found.pairs * math.exp(-0.2 / scale)
    assert found.false_share(float(start + 0.2)) == pytest.approx(expected)


def test_precision_is_right_pairs_among_all():
    found, task = Calibration.of(trial_of(0), META), Task.between(1000, 5000, share=0.1)
    assert (task.pairs, task.copies) == (5_000_000, 100)
    at = found.expected(0.7, task)
    right, wrong = 100 * found.recall(0.7), 5_000_000 * found.false_share(0.7)
    assert (at.precision, at.false_pairs) == pytest.approx((right / (right + wrong), wrong))
    assert at.lowest <= at.precision <= at.highest
    assert at.lowest < at.highest


def test_the_threshold_is_the_lowest_from_which_on_the_precision_holds():
    found, task = Calibration.of(trial_of(0), META), Task.within(300)
    threshold = found.threshold(0.95, task)
    assert threshold == round(threshold, 2)
    assert found.expected(threshold, task).precision >= 0.95
    assert found.expected(threshold - 0.01, task).precision < 0.95
    assert found.threshold(0.95, Task.within(900)) > threshold  # more pairs, more of them by chance
    assert found.threshold(0.98, task) > threshold


def test_the_stated_precision_is_found_on_other_photos():
    """Of forty draws of photos, nearly all find a precision within the interval that another draw states."""
    inside = 0
    for seed in range(40):
        calibration, other = Calibration.of(trial_of(seed), META), trial_of(1000 + seed, photos=240)
        scores, true = other.copies @ other.photos.T, other.is_true
        task = Task(float((~true).sum()), float(true.sum()))
        threshold = calibration.threshold(0.9, task)
        at, reached = calibration.expected(threshold, task), scores >= threshold
        inside += at.lowest <= (reached & true).sum() / reached.sum() <= at.highest
    assert inside >= 34


def test_probabilities_rise_with_scores_and_follow_the_task():
    found = Calibration.of(trial_of(0), META)
    scores = np.linspace(-0.2, 1.0, 60)
    few, many = (found.probabilities(scores, Task.within(count)) for count in (100, 100_000))
    assert (np.diff(few) >= 0).all()
    assert few[0] < 0.01
    assert few[-1] > 0.99
    assert (many <= few + 1e-12).all()


def test_photos_that_are_copies_of_each_other_do_not_count_as_unrelated():
    trial = trial_of(0)
    photos = trial.photos.copy()
    photos[7] = unit(photos[3:4] + 0.05 * photos[7:8])[0]  # the collection holds photo 3 twice
    copies = trial.copies.copy()
    copies[trial.originals == 7] = unit(photos[7] + 0.3 * copies[trial.originals == 7])
    copies[trial.originals == 65] = unit(photos[11] + 0.1 * copies[trial.originals == 65])  # and a stranger is photo 11
    found = Calibration.of(Trial(photos, copies, trial.originals, trial.kinds), META)
    assert (found.left_out, found.photos) == (2, 59)
    assert found.tail[0] < 0.8


def test_it_is_written_and_read(tmp_path):
    found = Calibration.of(trial_of(0), META)
    write_calibration(tmp_path / "c.json", found)
    again = read_calibration(tmp_path / "c.json")
    task = Task.within(1000)
    assert again.expected(0.6, task).precision == pytest.approx(found.expected(0.6, task).precision, abs=1e-4)
    assert again.threshold(0.9, task) == found.threshold(0.9, task)
    assert (again.photos, again.kinds, again.dim) == (found.photos, found.kinds, DIM)


def test_some_edits_alone():
    found = Calibration.of(trial_of(0), META)
    assert only_kinds(found, ["near"]).recall(0.7) == found.recall_by_kind(0.7)["near"]
    with pytest.raises(InputError, match="there is no edit 'sepia'; choose from"):
        only_kinds(found, ["sepia"])


def test_it_holds_for_its_engine_and_normalisation_alone():
    found = Calibration.of(trial_of(0), META)
    rows = unit(np.random.default_rng(0).standard_normal((3, DIM)))

    def made_by(meta):
        return Descriptors(rows, ["a", "b", "c"], meta)

    assert found.check(made_by(META)).remarks == ()
    other = Provenance.of_extraction("f" * 64, {**SPEC, "name": "other"}, "pillow", PlanFacts()).write()
    with pytest.raises(MismatchError, match=r"c\.json: the calibration was made with another engine"):
        found.check(made_by(other), "c.json")
    stamped = Provenance.read(META).normalized(Normalization(method="nes", k=10, negatives="a" * 64)).write()
    with pytest.raises(MismatchError, match="isc-fast calibrate makes one for them"):
        found.check(made_by(stamped))
    by_dali = Provenance.of_extraction("e" * 64, SPEC, "dali", PlanFacts()).write()
    (remark,) = found.check(made_by(by_dali)).remarks
    assert "decoded by dali" in remark.words
    with pytest.raises(MismatchError, match="have 3 dimensions"):
        found.check(Descriptors(unit(rows[:, :3]), ["a", "b", "c"], META))


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda values: values.update(kind="something"), "is no calibration; isc-fast calibrate makes one"),
        (lambda values: values.update(version=7), "a calibration of version 7"),
        (lambda values: values["copies"]["score"].pop(), "a damaged calibration"),
        (lambda values: values["copies"]["photo"].__setitem__(0, 10_000), "a damaged calibration"),
        (lambda values: values["unrelated"]["photo"].__setitem__(0, 61), "a damaged calibration"),
        (lambda values: values["unrelated"]["score"].reverse(), "a damaged calibration"),
        (lambda values: values["unrelated"].update(pairs=1), "a damaged calibration"),
        (lambda values: values["copies"]["score"].__setitem__(0, math.nan), "a damaged calibration"),
        (lambda values: values.update(made_by={"isc_fast": 3, "engine": 5}), "a damaged calibration"),
        (lambda values: values.pop("copies_of"), "a damaged calibration"),
        (lambda values: values.update(dim=0), "a damaged calibration"),
    ],
)
def test_a_damaged_file_is_refused(tmp_path, change, words):
    path = tmp_path / "c.json"
    write_calibration(path, Calibration.of(trial_of(0), META))
    values = json.loads(path.read_text())
    change(values)
    path.write_text(json.dumps(values))
    with pytest.raises(FormatError, match=words):
        read_calibration(path)


def test_files_that_are_none(tmp_path):
    with pytest.raises(InputError, match="cannot read"):
        read_calibration(tmp_path / "none.json")
    for text in ("", "[1]", "\xff", "{"):
        (tmp_path / "c.json").write_text(text, "latin-1")
        with pytest.raises(FormatError, match="is no calibration"):
            read_calibration(tmp_path / "c.json")


def test_what_cannot_be_calibrated():
    found, task = Calibration.of(trial_of(0), META), Task.within(1000)
    with pytest.raises(InputError, match="must lie between 0 and 1"):
        found.threshold(1.0, task)
    with pytest.raises(InputError, match=r"no threshold gives a precision of 0\.9999 among"):
        found.threshold(0.9999, Task(1e15, 1.0))
    trial = trial_of(0)
    with pytest.raises(InputError, match="not finite"):
        Calibration.of(Trial(trial.photos * np.nan, trial.copies, trial.originals, trial.kinds), META)
    same = np.repeat(trial.photos[:1], len(trial.photos), axis=0)
    with pytest.raises(InputError, match=f"fewer than {FEWEST} are left"):
        Calibration.of(Trial(same, trial.copies, trial.originals, trial.kinds), META)
