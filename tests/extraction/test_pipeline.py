from __future__ import annotations

import os
import shutil
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest
from fakes import FakeEngine, Interrupted
from killed import run_killed
from PIL import Image

import isc_fast
from isc_fast.decoders.rules import load_input
from isc_fast.decoders.views import view_names
from isc_fast.descriptors.store import load_descriptors, open_descriptors
from isc_fast.errors import InputError, MismatchError, OutputError
from isc_fast.extraction import plan as plan_module
from isc_fast.extraction.pipeline import extract
from isc_fast.progress import what_is_kept
from isc_fast.sources.listing import Listing, list_images

HERE = Path(__file__).parents[1]


def test_rows_are_the_engine_s_answers_in_order(tmp_path, engine, folder_of, photos):
    folder = folder_of(tmp_path / "in", 11)
    made = extract(folder, engine, tmp_path / "out.h5", batch_size=4, decoder="pillow")
    found = load_descriptors(made.path)
    assert found.ids == [photo.stem for photo in sorted(photos)[:11]]
    pixels = np.stack([load_input(str(photo), 32, 32) for photo in sorted(photos)[:11]])
    np.testing.assert_array_equal(found.vectors, FakeEngine().run(pixels))
    assert (made.count, made.computed, list(made.failures)) == (11, 11, [])
    assert engine.calls == [4, 4, 3]
    assert found.meta["engine_id"] == engine.id
    assert sorted(os.listdir(tmp_path)) == ["in", "out.h5"]


@pytest.mark.parametrize("workers", [1, 2, 5])
def test_bytes_do_not_depend_on_workers(tmp_path, engine, folder_of, workers):
    folder = folder_of(tmp_path / "in", 10)
    extract(folder, engine, tmp_path / "one.h5", batch_size=4, shard_size=4, workers=1)
    extract(folder, engine, tmp_path / "many.h5", batch_size=4, shard_size=4, workers=workers)
    assert (tmp_path / "one.h5").read_bytes() == (tmp_path / "many.h5").read_bytes()


# 11 photos in shards of 4 and batches of 2: 6 engine calls; renames: the plan, 3 parts, the result.
@pytest.mark.parametrize(
    ("point", "number"),
    [("engine", n) for n in (1, 2, 3, 5, 6)]
    + [(when, n) for n in range(1, 6) for when in ("before", "after")]
    + [("fsync", n) for n in (1, 2, 4, 7, 9)],
)
def test_killed_and_resumed_gives_the_same_bytes(tmp_path, folder_of, point, number):
    folder = folder_of(tmp_path / "in", 11)
    (folder / "bad.jpg").write_text("no picture")
    whole, output = tmp_path / "whole.h5", tmp_path / "out.h5"
    extract(folder, FakeEngine(), whole, batch_size=2, shard_size=4)
    killed = run_killed(folder, output, point, number)
    assert killed.returncode == -9, killed.stderr
    extract(folder, FakeEngine(), output, batch_size=2, shard_size=4)
    assert output.read_bytes() == whole.read_bytes()
    assert sorted(os.listdir(tmp_path)) == ["in", "out.h5", "whole.h5"], "no litter"


def test_killed_again_and_again(tmp_path, folder_of):
    """Killed at every second engine call until it is through: never more than one shard is lost."""
    folder = folder_of(tmp_path / "in", 11)
    whole, output = tmp_path / "whole.h5", tmp_path / "out.h5"
    extract(folder, FakeEngine(), whole, batch_size=2, shard_size=4)
    codes = [run_killed(folder, output, "engine", 3).returncode for _ in range(4)]
    assert codes == [-9, -9, 0, 0]
    assert output.read_bytes() == whole.read_bytes()


def test_resume_computes_only_what_is_missing(tmp_path, engine, folder_of):
    folder = folder_of(tmp_path / "in", 12)
    output = tmp_path / "out.h5"
    run_killed(folder, output, "engine", 5)  # two of three shards are done
    steps: list[tuple[int, int, int]] = []
    made = extract(folder, engine, output, progress=lambda *step: steps.append(step))
    assert made.computed == 4
    assert engine.calls == [2, 2], "the batch size of the interrupted run is kept"
    assert steps == [(8, 12, 0), (10, 12, 0), (12, 12, 0)]
    assert extract(folder, engine, output).computed == 0, "complete already"
    assert engine.calls == [2, 2]


def test_a_damaged_part_is_computed_again(tmp_path, engine, folder_of):
    folder = folder_of(tmp_path / "in", 12)
    whole, output = tmp_path / "whole.h5", tmp_path / "out.h5"
    extract(folder, FakeEngine(), whole, batch_size=2, shard_size=4)
    run_killed(folder, output, "engine", 5)
    part = tmp_path / "out.h5.parts" / "part-000001.h5"
    part.write_bytes(part.read_bytes()[:1000])
    assert extract(folder, engine, output).computed == 8
    assert output.read_bytes() == whole.read_bytes()


def without_stamps(output: Path) -> None:
    """Make the output one of version 0.2, which does not say what its photos were."""
    isc_fast.write_descriptors(output, load_descriptors(output))


def test_other_inputs_engine_or_batch_are_refused_not_mixed(tmp_path, engine, folder_of, photos):
    one, two = folder_of(tmp_path / "one", 6), tmp_path / "two"
    two.mkdir()
    for photo in photos[10:16]:
        (two / photo.name).symlink_to(photo)
    output = tmp_path / "out.h5"
    extract(one, engine, output, batch_size=2)
    for inputs, other, options, words in (
        (two, engine, {}, "from other inputs"),
        (one, FakeEngine(seed=1), {}, "by another engine \\(fake0"),
        (one, engine, {"batch_size": 3}, "in batches of 2, not 3"),
    ):
        with pytest.raises(MismatchError, match=words):
            extract(inputs, other, output, **options)
    before = output.read_bytes()
    assert extract(one, engine, output).computed == 0
    assert output.read_bytes() == before
    assert extract(two, engine, output, overwrite=True).computed == 6


def test_unfinished_work_of_something_else_is_refused(tmp_path, folder_of):
    one, two = folder_of(tmp_path / "one", 8), folder_of(tmp_path / "two", 8)
    output = tmp_path / "out.h5"
    run_killed(one, output, "engine", 4)
    with pytest.raises(MismatchError, match="other inputs"):
        extract(two, FakeEngine(), output)
    with pytest.raises(MismatchError, match="another engine"):
        extract(one, FakeEngine(seed=3), output)
    assert extract(two, FakeEngine(), output, overwrite=True).count == 8


def test_photos_that_come_and_go_while_it_is_interrupted(tmp_path, engine, folder_of, photos):
    folder = folder_of(tmp_path / "in", 12)
    output = tmp_path / "out.h5"
    run_killed(folder, output, "engine", 3)
    (folder / photos[30].name).symlink_to(photos[30])
    gone = folder / sorted(photos)[9].name
    gone.unlink()
    made = extract(folder, engine, output)
    assert made.note == "1 new, 0 changed, 1 gone, 11 as they were"
    assert (made.count, list(made.failures)) == (12, [])
    rows = load_descriptors(output)
    assert sorted(rows.ids) == sorted(os.path.splitext(name)[0] for name in os.listdir(folder))


@pytest.mark.parametrize("form", ["out.h5", "out/"])
def test_a_photo_that_was_replaced_while_it_was_interrupted(tmp_path, folder_of, photos, form):
    """Its part was done; what it shows now is what is described in the end."""
    folder, output = folder_of(tmp_path / "in", 12), f"{tmp_path}/{form}"
    with pytest.raises(KeyboardInterrupt):
        extract(folder, Interrupted(), output, batch_size=2, shard_size=4)
    first = sorted(folder.iterdir())[0]
    first.unlink()
    first.symlink_to(photos[30])
    made = extract(folder, FakeEngine(), output, batch_size=2, shard_size=4)
    assert made.note == "0 new, 1 changed, 0 gone, 11 as they were"
    assert made.computed == 4 + 1
    extract(folder, FakeEngine(), tmp_path / "whole.h5", batch_size=2, shard_size=4)
    with open_descriptors(output) as found, open_descriptors(tmp_path / "whole.h5") as whole:
        np.testing.assert_array_equal(found.vectors[:], whole.vectors[:])
        assert list(found.ids) == list(whole.ids)
    assert extract(folder, FakeEngine(), output).computed == 0


def test_failures_are_rows_and_neighbours_keep_their_bits(tmp_path, engine, folder_of):
    folder = folder_of(tmp_path / "in", 9)
    extract(folder, FakeEngine(), tmp_path / "good.h5", batch_size=3)
    good = load_descriptors(tmp_path / "good.h5")
    names = sorted(os.listdir(folder))
    (folder / names[4]).unlink()
    (folder / names[4]).write_bytes(b"\xff\xd8\xff no more")
    made = extract(folder, engine, tmp_path / "out.h5", batch_size=3)
    found = load_descriptors(made.path)
    assert [failure.id for failure in found.failures] == [Path(names[4]).stem]
    assert found.failures == list(made.failures)
    np.testing.assert_array_equal(found.vectors, np.delete(good.vectors, 4, axis=0))
    assert found.ids == [id_ for id_ in good.ids if id_ != Path(names[4]).stem]


def test_retry_failed_computes_only_their_shards(tmp_path, engine, folder_of, photos):
    folder = folder_of(tmp_path / "in", 12)
    whole, output = tmp_path / "whole.h5", tmp_path / "out.h5"
    extract(folder, FakeEngine(), whole, batch_size=2, shard_size=4)
    victim = folder / sorted(photos)[5].name
    victim.rename(tmp_path / "away.jpg")
    victim.write_bytes(b"")
    assert len(extract(folder, engine, output, batch_size=2, shard_size=4).failures) == 1
    (tmp_path / "away.jpg").rename(victim)
    without_stamps(output)
    assert extract(folder, engine, output).computed == 0
    again = extract(folder, engine, output, retry_failed=True)
    assert (again.computed, list(again.failures)) == (4, [])
    found, expected = load_descriptors(output), load_descriptors(whole)
    np.testing.assert_array_equal(found.vectors, expected.vectors)
    assert (list(found.ids), found.meta) == (list(expected.ids), expected.meta)


def test_resuming_from_another_folder_finds_the_same_photos(tmp_path, engine, folder_of, monkeypatch):
    folder = folder_of(tmp_path / "in", 12)
    monkeypatch.chdir(tmp_path)
    run_killed(Path("in"), tmp_path / "out.h5", "engine", 3)
    monkeypatch.chdir("/")
    made = extract(folder, engine, tmp_path / "out.h5")
    assert (made.count, made.note, list(made.failures)) == (12, None, [])
    monkeypatch.chdir(folder)
    for same in (".", "../in", folder):
        assert extract(same, engine, tmp_path / "out.h5").computed == 0


def test_an_output_that_was_normalised_in_place_is_no_extraction(tmp_path, engine, folder_of):
    folder = folder_of(tmp_path / "in", 6)
    made = extract(folder, engine, tmp_path / "out.h5")
    whole = load_descriptors(made.path)
    for changed in (isc_fast.smooth_negatives(whole), isc_fast.subtract_negatives(whole, whole)):
        isc_fast.write_descriptors(made.path, changed)
        with pytest.raises(MismatchError, match="not a result of isc-fast extract"):
            extract(folder, engine, made.path)


def test_an_interrupted_retry_goes_on_where_it_stopped(tmp_path, folder_of, photos):
    folder = folder_of(tmp_path / "in", 12)
    output = tmp_path / "out.h5"
    victims = [sorted(photos)[i].name for i in (0, 5, 9)]  # one in each shard
    for name in victims:
        (folder / name).unlink()
        (folder / name).write_bytes(b"")
    extract(folder, FakeEngine(), output, batch_size=2, shard_size=4)
    for name in victims:
        (folder / name).write_bytes((photos[0].parent / name).read_bytes())
    without_stamps(output)

    class Interrupted(FakeEngine):
        def run(self, pixels):
            if len(self.calls) == 3:
                raise KeyboardInterrupt
            return super().run(pixels)

    with pytest.raises(KeyboardInterrupt):
        extract(folder, Interrupted(), output, retry_failed=True)
    assert len(load_descriptors(output)) == 9, "what there was stays until the rest is done"
    again = extract(folder, FakeEngine(), output, retry_failed=True)
    assert (again.computed, again.count) == (8, 12)


@pytest.mark.parametrize(("batch_size", "views"), [(1, "whole"), (1, "10"), (3, "10,mirror")])
def test_an_interruption_says_what_is_kept(tmp_path, folder_of, monkeypatch, batch_size, views):
    """A part of photos in ten views is as much work as one of ten times as many photos, so no more is lost with it."""
    monkeypatch.setattr(plan_module, "SHARD_ROWS", 12)
    monkeypatch.setattr(plan_module, "MIN_SHARD_ITEMS", 1)
    folder, output = folder_of(tmp_path / "in", 24), tmp_path / "out.h5"

    class Stops(FakeEngine):
        def run(self, pixels):
            if list(tmp_path.glob("out.h5.parts/part-*")):
                raise KeyboardInterrupt
            return super().run(pixels)

    with pytest.raises(KeyboardInterrupt) as stopped:
        extract(folder, Stops(), output, batch_size=batch_size, views=views)
    kept = -(-12 // len(view_names(views)))
    assert what_is_kept(stopped.value) == f"{kept} of 24 photos are kept"
    assert extract(folder, FakeEngine(), output, views=views).computed == 24 - kept


def test_an_interruption_says_that_nothing_is_kept(tmp_path, folder_of):
    class Stops(FakeEngine):
        def run(self, pixels):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt) as stopped:
        extract(folder_of(tmp_path / "in", 5), Stops(), tmp_path / "out.h5")
    words = "none of 5 photos is kept yet, since a part of 5 is written when it is complete"
    assert what_is_kept(stopped.value) == words


def test_a_plan_of_another_default_resumes(tmp_path, folder_of, monkeypatch):
    """Version 0.2 gave every part 256 photos, and a plan says of how many its parts are."""
    folder, output = folder_of(tmp_path / "in", 12), tmp_path / "out.h5"
    with pytest.raises(KeyboardInterrupt):
        extract(folder, Interrupted(), output, batch_size=2, shard_size=4, views="mirror")
    made = extract(folder, FakeEngine(), output, views="mirror")
    assert made.computed < 12
    with open_descriptors(output) as found:
        assert found.provenance.plan.shard_size == 4


def test_the_size_of_parts_changes_nothing_but_what_the_file_says_of_its_plan(tmp_path, folder_of):
    folder, contents = folder_of(tmp_path / "in", 12), []
    (folder / "bad.png").write_text("no picture")
    for size in (2, 4, None):
        extract(folder, FakeEngine(), tmp_path / "out.h5", batch_size=2, shard_size=size, overwrite=True, views="10")
        with open_descriptors(tmp_path / "out.h5") as found:
            facts = (found.provenance.without("plan"), [*found.ids], [*found.failures], [*found.notes])
            contents.append((*facts, found.vectors[:].tobytes(), found.stamps[:].tobytes()))
    assert contents[0] == contents[1] == contents[2]


def test_a_lock_whose_folder_was_removed_locks_nothing(tmp_path):
    """A process that opened the lock just before another one ended must not work beside a third."""
    from isc_fast.extraction.parts import PartsFolder

    first, second = PartsFolder(tmp_path / "out.h5"), PartsFolder(tmp_path / "out.h5")
    real = first.folder / "lock"
    removed = []

    def flock(lock, flags):
        if not removed:
            removed.append(os.fstat(lock).st_ino)
            real.unlink()  # the other process ends here
        return original(lock, flags)

    import fcntl

    original = fcntl.flock
    fcntl.flock = flock
    try:
        with first.locked():
            assert real.stat().st_ino == os.stat(real).st_ino
            fcntl.flock = original
            with pytest.raises(OutputError, match="another process"), second.locked():
                pass
    finally:
        fcntl.flock = original
    assert len(removed) == 1


def test_not_finite_descriptors_are_failures(tmp_path, folder_of):
    class Broken(FakeEngine):
        def run(self, pixels):
            vectors = super().run(pixels)
            vectors[1] = np.nan
            return vectors

    made = extract(folder_of(tmp_path / "in", 4), Broken(), tmp_path / "out.h5", batch_size=4)
    assert [(failure.stage, failure.reason) for failure in made.failures] == [
        ("engine", "the descriptor is not finite")
    ]
    assert np.isfinite(load_descriptors(made.path).vectors).all()


def test_all_images_bad_is_an_error_and_leaves_nothing(tmp_path, engine):
    folder = tmp_path / "in"
    folder.mkdir()
    for i in range(3):
        (folder / f"{i}.jpg").write_text("text")
    with pytest.raises(InputError, match=r"none of the 3 images .*0\.jpg: not an image"):
        extract(folder, engine, tmp_path / "out.h5")
    assert os.listdir(tmp_path) == ["in"]
    assert engine.calls == []


def test_a_listing_may_be_given(tmp_path, engine, photos):
    items = list_images(photos[0].parent).items[:3]
    assert extract(Listing(items), engine, tmp_path / "out.h5").count == 3


def test_two_processes_do_not_share_an_output(tmp_path, folder_of):
    folder = folder_of(tmp_path / "in", 8)
    entered, leave = threading.Event(), threading.Event()

    class Waiting(FakeEngine):
        def run(self, pixels):
            entered.set()
            leave.wait(20)
            return super().run(pixels)

    thread = threading.Thread(target=extract, args=(folder, Waiting(), tmp_path / "out.h5"))
    thread.start()
    assert entered.wait(20)
    with pytest.raises(OutputError, match="another process"):
        extract(folder, FakeEngine(), tmp_path / "out.h5")
    leave.set()
    thread.join()
    assert len(load_descriptors(tmp_path / "out.h5")) == 8


def test_output_mistakes(tmp_path, engine, folder_of):
    folder = folder_of(tmp_path / "in", 2)
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match="is a folder"):
        extract(folder, engine, tmp_path)
    with pytest.raises(OutputError):
        extract(folder, engine, tmp_path / "file" / "out.h5")
    (tmp_path / "notes.h5").write_text("mine")
    with pytest.raises(MismatchError, match="not a result of isc-fast extract"):
        extract(folder, engine, tmp_path / "notes.h5")
    assert (tmp_path / "notes.h5").read_text() == "mine"
    for options in ({"limit": 0}, {"batch_size": 0}, {"workers": 0}, {"shard_size": -1}):
        with pytest.raises(InputError, match="at least 1"):
            extract(folder, engine, tmp_path / "out.h5", **options)
    assert sorted(os.listdir(tmp_path)) == ["file", "in", "notes.h5"]


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs POSIX")
def test_a_full_disk_is_an_error_that_resumes(tmp_path, folder_of):
    """A limit on file size stands for the full disk: the same error path, without needing a disk of our own."""
    folder = folder_of(tmp_path / "in", 12)
    code = (
        "import resource, signal, sys; signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (9000, 9000))\n"
        "from fakes import FakeEngine; from isc_fast import extract, IscFastError\n"
        "try: extract(sys.argv[1], FakeEngine(dim=256), sys.argv[2], batch_size=2, shard_size=4)\n"
        "except IscFastError as error: print(type(error).__name__, error)\n"
    )
    output = tmp_path / "out.h5"
    done = subprocess.run(
        [sys.executable, "-c", code, str(folder), str(output)],
        capture_output=True, text=True, timeout=60, check=True, cwd=HERE,
    )  # fmt: skip
    assert done.stdout.startswith(f"OutputError cannot write {output}"), done.stdout + done.stderr
    assert extract(folder, FakeEngine(dim=256), output).count == 12


def test_odd_names_survive(tmp_path, engine, photos):
    folder = tmp_path / "in"
    folder.mkdir()
    names = [
        "a,b.jpg",
        'quo"te.jpg',
        "line\nend.jpg",
        "ümläut 写真.jpg",
        os.fsdecode(b"bad\xff.jpg"),
        "x" * 240 + ".jpg",
    ]
    for name in names:
        shutil.copy(photos[0], folder / name)
    made = extract(folder, engine, tmp_path / "out.h5")
    assert set(isc_fast.read_descriptors(made.path).ids) == {os.path.splitext(name)[0] for name in names}


def test_one_pixel_photo(tmp_path, engine):
    Image.new("RGB", (1, 1), "red").save(tmp_path / "dot.png")
    assert extract(tmp_path / "dot.png", engine, tmp_path / "out.h5").count == 1
