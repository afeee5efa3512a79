"""A student learns the descriptors of the engine in the package, is stopped, goes on, is measured, and says whose it is."""

from __future__ import annotations

import json
import shutil
import signal
import subprocess
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")

import warm
from helpers_training import ARCH, backbone_file
from PIL import Image

import isc_fast
from isc_fast.assets import DEMO_ENGINE
from isc_fast.cli.main import main
from isc_fast.decoders.rules import prepare
from isc_fast.descriptors.verdict import PrecisionWarning
from isc_fast.engines.base import describe_engine, load_engine
from isc_fast.errors import CheckpointError, EngineError, InputError, MismatchError, ParityError
from isc_fast.items import Item
from isc_fast.networks.checkpoint import load_checkpoint, save_checkpoint
from isc_fast.networks.model import DescriptorNet
from isc_fast.training.data.collection import Collection
from isc_fast.training.data.dataset import SampleDataset, collate
from isc_fast.training.data.inputs import InputMaker
from isc_fast.training.distillation import Student, distill, hold_out, student_stage
from isc_fast.training.loop.head_fit import HeadFit
from isc_fast.training.loop.journal import read_log
from isc_fast.training.loop.student_gate import likeness
from isc_fast.training.loop.teaching import teaching_loss
from isc_fast.training.options import RunOptions, StepsDone
from isc_fast.training.run import train_stage
from isc_fast.training.views.artwork import find_artwork

HERE = Path(__file__).parents[1]
QUICK = RunOptions(device="cpu", workers=0, log_every=1)
SMALL: dict[str, Any] = {
    "arch": ARCH, "size": 64, "epochs": 2,
    "settings": [
        "batch_size=8", "hard_views=1", "head_start=random", "learning_rate=1e-3", "temperature=0.05", "similarity=1.0",
    ],
    "options": QUICK, "min_cosine": -1.0, "min_neighbours": 0.0,
}  # fmt: skip
STEPS = 4  # of an epoch of 32 photos in batches of 8


pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory, photos: Sequence[Path]) -> Path:
    """40 small photos, of which 8 are held out."""
    folder = tmp_path_factory.mktemp("photos")
    for number, photo in enumerate(photos[:40]):
        Image.open(photo).convert("RGB").resize((120, 90)).save(folder / f"{number:02d}.jpg", quality=90)
    return folder


@pytest.fixture(scope="module")
def start(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return backbone_file(tmp_path_factory.mktemp("start") / "backbone.pth")


@pytest.fixture(scope="module")
def made(data: Path, start: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Student]:
    """A student that was trained in one go."""
    output = tmp_path_factory.mktemp("made") / "small.onnx"
    student = distill("demo", data, output, start=start, **{**SMALL, "epochs": 6})
    assert student is not None
    return output, student


def losses(output: Path) -> list[float]:
    return [row.loss for row in read_log(output.with_suffix(".training") / "log.csv")]


def test_the_loss_falls(made):
    found = losses(made[0])
    assert len(found) == 6 * STEPS
    assert np.mean(found[-STEPS:]) < 0.8 * np.mean(found[:STEPS])


def test_the_engine_says_whose_student_it_is(made, capsys):
    output, student = made
    engine, teacher = load_engine(output), describe_engine("demo")
    assert (engine.spec.name, engine.spec.dim, engine.spec.height) == ("small", teacher.spec.dim, 64)
    record = engine.spec.teacher
    assert (record["id"], record["name"], record["photos"], record["views"]) == (teacher.id, "demo", 8, 3)
    assert record["cosine_mean"] == student.teaching.cosine_mean
    assert -1 <= record["cosine_p01"] <= record["cosine_mean"] <= 1
    assert (student.trained_on, student.checkpoint.name) == (32, "student.pth.tar")
    assert main(["info", str(output), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["teacher"]["id"] == teacher.id
    assert f"student of demo, {teacher.id[:16]}" in str(student)
    assert "teacher" not in teacher.spec.to_dict()


def test_rows_of_student_and_teacher_are_compared_with_a_warning(made, data, tmp_path):
    output, student = made
    for engine, name in (("demo", "teacher"), (output, "student")):
        isc_fast.extract(data, engine, tmp_path / f"{name}.h5")
    teacher, mine = (isc_fast.read_descriptors(tmp_path / f"{name}.h5") for name in ("teacher", "student"))
    words = (
        f"made by small, which learned from demo, .* cosine between the two is {student.teaching.cosine_mean:.3f} on"
    )
    for sides in ((mine, teacher), (teacher, mine)):
        with pytest.warns(PrecisionWarning, match=words):
            isc_fast.search(*sides, k=1)
    with pytest.raises(MismatchError, match="keep them apart"):
        isc_fast.merge_descriptors([tmp_path / "teacher.h5", tmp_path / "student.h5"], tmp_path / "both.h5")


def test_the_figures_are_those_of_the_held_out_photos(made, data):
    """Whole photos, which the test describes by itself, with both engine files."""
    output, student = made
    _, aside = hold_out(isc_fast.list_images(data).items)
    rows = []
    for file in ("demo", output):
        engine = load_engine(file)
        rows.append(engine.run(np.stack([prepare(item.path, engine.spec.input) for item in aside])))
    cosine = (rows[0].astype(np.float64) * rows[1]).sum(axis=1)
    assert student.teaching.cosine_whole == pytest.approx(cosine.mean(), abs=1e-5)


@pytest.fixture
def run(data: Path, start: Path) -> Callable[..., subprocess.CompletedProcess[str]]:
    """Train in a process of its own, or in several ranks."""

    def run(output: Path, *, ranks: int = 1, **more: Any) -> subprocess.CompletedProcess[str]:
        changes = {key: value for key, value in SMALL.items() if key != "options"} | more.pop("changes", {})
        job = {"teacher": "demo", "data": str(data), "start": str(start), "output": str(output), "changes": changes}
        words = [str(HERE / "training_run.py"), json.dumps({**job, **more})]
        return warm.run_ranks(words, ranks, timeout=480) if ranks > 1 else warm.run(words, timeout=480)

    return run


@pytest.mark.slow
def test_two_processes_equal_one(run, tmp_path):
    for ranks in (1, 2):
        done = run(tmp_path / f"{ranks}.onnx", ranks=ranks, changes={"epochs": 1})
        assert done.returncode == 0, done.stderr
    one, two = (losses(tmp_path / f"{ranks}.onnx") for ranks in (1, 2))
    assert len(one) == STEPS
    np.testing.assert_allclose(two[0], one[0], rtol=1e-5)
    # A first step of Adam follows the signs of gradients, and a sum near 0 has another one in another order.
    np.testing.assert_allclose(two, one, rtol=1e-2)
    first, second = (load_engine(tmp_path / f"{ranks}.onnx").spec.teacher for ranks in (1, 2))
    assert first["cosine_mean"] == pytest.approx(second["cosine_mean"], abs=1e-3)


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_a_student_that_was_stopped_goes_on_to_the_same_bytes(run, data, start, tmp_path, number):
    straight = distill("demo", data, tmp_path / "straight.onnx", start=start, **SMALL)
    stopped = run(tmp_path / "stopped.onnx", kill=[STEPS + 2, number])
    assert stopped.returncode == (-signal.SIGKILL if number == signal.SIGKILL else 130), stopped.stderr
    assert not (tmp_path / "stopped.onnx").exists()
    done = run(tmp_path / "stopped.onnx")
    assert done.returncode == 0, done.stderr
    assert losses(tmp_path / "stopped.onnx") == losses(tmp_path / "straight.onnx")
    assert straight is not None
    one, two = (load_checkpoint(tmp_path / f"{n}.training/student.pth.tar") for n in ("straight", "stopped"))
    assert list(one.state_dict) == list(two.state_dict)
    assert all(torch.equal(value, two.state_dict[name]) for name, value in one.state_dict.items())
    assert one.args["student_of"] == two.args["student_of"]


def test_a_student_that_is_too_far_away_is_not_published(data, start, tmp_path):
    """It can be taken as it is afterwards, without training it again, as long as it is the same job."""
    output = tmp_path / "far.onnx"
    small = {**SMALL, "epochs": 1, "start": start}
    with pytest.raises(
        ParityError, match=r"expected at least 0\.999 and 0; nothing was published; .* --min-cosine -?0"
    ):
        distill("demo", data, output, **{**small, "min_cosine": 0.999})
    assert not output.exists()
    trained = losses(output)
    lines: list[str] = []
    assert distill("demo", data, output, log=lines.append, **small) is not None
    assert lines[0].endswith("far.training holds the trained student; measuring it")
    assert output.exists()
    assert losses(output) == trained
    with pytest.raises(MismatchError, match="trained with another teacher or other settings; give --overwrite"):
        distill("demo", data, output, **{**small, "settings": [*SMALL["settings"], "similarity=2.0"]})
    shutil.copytree(data, tmp_path / "more")
    shutil.copyfile(data / "00.jpg", tmp_path / "more/new.jpg")
    with pytest.raises(MismatchError, match="trained of other photos"):
        distill("demo", tmp_path / "more", output, **small)


def test_teacher_and_student_see_the_same_views_each_prepared_in_its_own_way(data):
    """The whole photo as extraction prepares it, and edited views that show the same."""
    teacher = load_engine("demo")
    stage = replace(
        student_stage(describe_engine("demo"), arch=ARCH, size=64, epochs=1),
        batch_size=2,
        hard_views=1,
        temperature=0.1,
    )
    items = isc_fast.list_images(data).items
    crop = replace(teacher.spec.input, resize="short_side_crop")
    dataset = SampleDataset(
        Collection([(item,) for item in items]), stage, seed=0, artwork=find_artwork(), teacher_input=crop
    )
    batch = collate([dataset[(0, number)] for number in (3, 5)])
    assert batch.pixels.shape == (6, 64, 64, 3)
    assert batch.teacher_pixels.shape == (6, 224, 224, 3)
    for place, number in enumerate((3, 5)):
        photo = items[number].path
        np.testing.assert_array_equal(batch.teacher_pixels[place].numpy(), prepare(photo, crop))
        np.testing.assert_array_equal(
            batch.pixels[place].numpy(), prepare(photo, replace(crop, height=64, width=64, resize="stretch"))
        )
    for mine, theirs in zip(batch.pixels[2:].numpy(), batch.teacher_pixels[2:].numpy(), strict=True):
        small = np.asarray(Image.fromarray(theirs).resize((64, 64), Image.Resampling.BILINEAR), np.int16)
        assert np.abs(small - mine).max() <= 1  # both come from one view of 224 pixels
    inputs = InputMaker(DescriptorNet(ARCH, 256), dataset, torch.device("cpu"), teacher=teacher)
    np.testing.assert_allclose(inputs(batch)[1].numpy(), teacher.run(batch.teacher_pixels.numpy()), atol=1e-5)


def test_the_loss_is_what_it_says():
    random = np.random.default_rng(0)
    unit = lambda rows: rows / np.linalg.norm(rows, axis=1, keepdims=True)  # noqa: E731
    student, teacher = unit(random.normal(size=(6, 4))), unit(random.normal(size=(6, 4)))
    parts = teaching_loss(torch.tensor(3 * student), torch.tensor(teacher), temperature=0.2, similarity=0.5)

    def others(rows: Any) -> Any:
        powers = np.exp(rows @ rows.T / 0.2) * (1 - np.eye(6))
        return powers / powers.sum(axis=1, keepdims=True)

    wanted, found = others(teacher), others(student)
    off = ~np.eye(6, dtype=bool)
    divergence = (wanted[off] * np.log(wanted[off] / found[off])).sum() / 6
    main = (1 - (student * teacher).sum(axis=1)).mean()
    assert float(parts.loss) == pytest.approx(main + 0.5 * divergence, rel=1e-5)
    assert (float(parts.positive), float(parts.negative)) == pytest.approx((main, 0.5 * divergence), rel=1e-5)
    same = teaching_loss(torch.tensor(teacher), torch.tensor(teacher), temperature=0.2, similarity=1.0)
    assert float(same.loss) == pytest.approx(0, abs=1e-6)
    assert float(same.active_negatives) == 0
    alike = torch.ones(6, 4, dtype=torch.float64, requires_grad=True)
    collapsed = teaching_loss(alike, torch.tensor(teacher), temperature=0.2, similarity=1.0)
    assert float(collapsed.active_negatives) > 0.5
    assert float(collapsed.negative_distance) < 1e-3
    collapsed.loss.backward()
    assert bool(torch.isfinite(alike.grad).all())


def test_a_fitted_head_gives_what_a_head_can_give():
    """Of descriptors that a head made, it gives them back; a random head gives nothing like them."""
    torch.manual_seed(0)
    net, images = DescriptorNet(ARCH, 8).eval(), torch.randn(200, 3, 64, 64)
    with torch.no_grad():
        features = net.pooled(images).double()
        spread = (features - features.mean(0)) / features.std(0)
        rows = torch.nn.functional.normalize(spread @ torch.randn(len(spread[0]), 8).double() * 0.1 + 1)
        before = float((net(images) * rows).sum(1).mean())
        fit = HeadFit(features.shape[1], 8)
        for part in (slice(0, 90), slice(90, 200)):
            fit.add(features[part], rows[part])
        fit.set_head(net, torch.device("cpu"))
        after = float((net(images) * rows).sum(1).mean())
    assert fit.views == 200
    assert after > 0.95 > before


def test_likeness_counts_neighbours():
    """Two photos, one edited view of each; the student takes the second photo's view for the first photo's."""
    teacher = np.array([[[1, 0], [0, 1]], [[1, 0], [0, 1]]], np.float32)
    student = np.array([[[1, 0], [0, 1]], [[1, 0], [0.8, 0.6]]], np.float32)
    found = likeness(student, teacher)
    assert (found.photos, found.views, found.cosine_whole) == (2, 2, 1.0)
    assert found.cosine_mean == pytest.approx((1 + 1 + 1 + 0.6) / 4)
    assert (found.neighbours, found.finds, found.teacher_finds) == (0.5, 0.5, 1.0)


def test_photos_are_held_out_by_their_names():
    items = [Item(f"photo {number}", f"/{number}.jpg") for number in range(200)]
    train, aside = hold_out(items)
    assert (len(train), len(aside)) == (180, 20)
    assert [*train, *aside] != items
    assert set(hold_out(items[::-1])[1]) == set(aside)
    few = [item for item in items if item in aside or item.id.endswith("0")]
    assert len(set(hold_out(few)[1]) - set(aside)) == 0  # fewer photos hold out fewer, not others
    assert len(hold_out([Item(str(n), "") for n in range(20_000)])[1]) == 1_000


BAD: dict[str, tuple[dict[str, Any], type[Exception], str]] = {
    "another dimension": (
        {"settings": ["dim=128"]}, InputError, "--set dim is 128, .* of its teacher demo have 256 numbers; leave it out",
    ),
    "another teacher": ({"settings": ["teacher=abc"]}, InputError, "--set teacher is abc, .* follows from the teacher demo"),
    "two numbers of epochs": ({"settings": ["epochs=3"]}, InputError, "--set epochs is 3, and --epochs says 2; give --epochs"),
    "batches larger than the photos": (
        {"settings": ["batch_size=64"]}, InputError, "student has 32 samples for batches of 64; .* batch_size=32",
    ),
    "a part that the teacher would see": (
        {"settings": ["batch_size=8", "hard_view.erase=0.2"]}, InputError, "the teacher would still see what is erased",
    ),
    "no temperature": ({"settings": ["batch_size=8", "temperature=none"]}, InputError, "has temperature None"),
    "views smaller than the input": (
        {"settings": ["batch_size=8", "view_size=32"]}, InputError, "view_size 32; expected at least its input_size, 64",
    ),
    "no such teacher": ({"teacher": "nothing.onnx"}, EngineError, "there is no engine nothing.onnx"),
    "a device that is not there": ({"options": replace(QUICK, teacher_device="cuda")}, EngineError, "cuda"),
    "views on the device": ({"options": replace(QUICK, views_on="device")}, InputError, "expected views_on='workers'"),
    "another kind of output": ({"output": "s.plan"}, InputError, r"as 's.plan'; give -o .*s.onnx, and make other kinds"),
}  # fmt: skip


@pytest.mark.parametrize("name", BAD)
def test_what_cannot_be_is_said_before_training(name, data, start, tmp_path, monkeypatch):
    changes, error, words = BAD[name]
    monkeypatch.chdir(tmp_path)
    given = {**SMALL, "start": start, "output": "s.onnx", "teacher": "demo", **changes}
    with pytest.raises(error, match=words) as caught:
        distill(given.pop("teacher"), data, given.pop("output"), **given)
    assert "\n" not in str(caught.value)
    assert not list(tmp_path.iterdir())


def test_too_few_photos(data, start, tmp_path):
    for number in range(20):
        (tmp_path / f"{number}.jpg").symlink_to(data / f"{number:02d}.jpg")
    with pytest.raises(InputError, match="holds 20 photos; expected at least 40, and some thousands"):
        distill("demo", tmp_path, tmp_path / "s.onnx", start=start, **SMALL)


def test_first_weights_of_another_dimension(data, tmp_path):
    net = DescriptorNet(ARCH, 16)
    save_checkpoint(tmp_path / "c.pth.tar", net, arch=ARCH, input_size=64, epoch=1)
    with pytest.raises(CheckpointError, match=r"fc.weight \(16, \d+\) instead of \(256, \d+\)") as caught:
        distill("demo", data, tmp_path / "s.onnx", start=tmp_path / "c.pth.tar", **SMALL)
    assert "\n" not in str(caught.value)


def test_another_engine_under_the_teacher_s_name_is_noticed(made, data, start, tmp_path):
    """The file is replaced while a run is stopped."""
    teacher = tmp_path / "teacher.onnx"
    shutil.copyfile(DEMO_ENGINE, teacher)
    with pytest.raises(StepsDone):
        distill(teacher, data, tmp_path / "s.onnx", start=start, **{**SMALL, "options": replace(QUICK, max_steps=1)})
    shutil.copyfile(made[0], teacher)
    with pytest.raises(MismatchError, match="differs in teacher"):
        distill(teacher, data, tmp_path / "s.onnx", start=start, **SMALL)


def test_train_does_not_take_the_place_of_distill(data, tmp_path):
    stage = student_stage(describe_engine("demo"), arch=ARCH, size=64, epochs=1)
    (tmp_path / "data").mkdir()
    (tmp_path / "data/training_images").symlink_to(data)
    with pytest.raises(InputError, match="student learns from an engine; run: isc-fast distill --teacher ENGINE"):
        train_stage(replace(stage, batch_size=8), tmp_path / "data", tmp_path / "out")


def test_the_command_line(data, start, tmp_path, capsys: pytest.CaptureFixture[str]):
    base = ["distill", "--teacher", "demo", "--data", str(data), "--arch", ARCH, "--size", "64", "--epochs", "2"]
    base += [
        "--init",
        str(start),
        "--device",
        "cpu",
        "--workers",
        "0",
        "--set",
        "batch_size=8",
        "--set",
        "hard_views=1",
    ]
    assert main([*base, "--dry-run"]) == 0
    table = capsys.readouterr().out
    assert "teacher  describes each of these images too" in table
    assert "8 photos are held out by their names" in table
    assert main(base) == 1
    assert capsys.readouterr().err.strip() == "error: name the engine to make: -o FILE.onnx"
    assert main([*base, "-o", str(tmp_path / "s.onnx"), "--max-steps", "1"]) == 0
    found = capsys.readouterr()
    assert "stopped after 1 steps, as --max-steps says" in found.err
    assert not found.out
    assert main([*base, "-o", str(tmp_path / "s.onnx"), "--min-cosine", "-1", "--min-neighbours", "0", "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert report["teacher"]["name"] == "demo"
    assert report["trained_on"] == 32
