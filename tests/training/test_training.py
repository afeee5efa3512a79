"""Stages run whole: by one process or two, stopped in every way and gone on with, and what is left in the folder."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")

import warm
from helpers_export import ReferenceNet
from helpers_training import ARCH, SIZE, backbone_file, make_collection, toy

from isc_fast.errors import CheckpointError, InputError, MismatchError, TrainingError
from isc_fast.networks.checkpoint import load_checkpoint, save_checkpoint
from isc_fast.networks.model import DescriptorNet
from isc_fast.training.checks import check
from isc_fast.training.data.collection import collect
from isc_fast.training.loop.journal import LogRow, read_log
from isc_fast.training.options import RunOptions, StepsDone
from isc_fast.training.overrides import override
from isc_fast.training.run import train_schedule, train_stage
from isc_fast.training.stages import STAGES, Stage

HERE = Path(__file__).parents[1]
QUICK = RunOptions(device="cpu", workers=0, log_every=1)
STEPS = 5  # of an epoch of 40 samples in batches of 8


pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory, photos: Sequence[Path]) -> Path:
    return make_collection(tmp_path_factory.mktemp("data"), photos)


@pytest.fixture(scope="module")
def start(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return backbone_file(tmp_path_factory.mktemp("start") / "backbone.pth")


@pytest.fixture
def job(data: Path, start: Path, tmp_path: Path) -> Callable[..., subprocess.CompletedProcess[str]]:
    """Train in a process of its own, or in several ranks."""

    def run(name: str, output: str, *, ranks: int = 1, **more: Any) -> subprocess.CompletedProcess[str]:
        spec = {"stage": name, "data": str(data), "start": str(start), "output": str(tmp_path / output), **more}
        words = [str(HERE / "training_run.py"), json.dumps(spec)]
        return warm.run_ranks(words, ranks, timeout=240) if ranks > 1 else warm.run(words, timeout=240)

    return run


def losses(folder: Path) -> list[tuple[int, int, float]]:
    return [(row.epoch, row.step, row.loss) for row in read_log(folder / "log.csv")]


def tensors(checkpoint: Path) -> dict[str, Any]:
    return dict(load_checkpoint(checkpoint).state_dict)


def assert_same(one: Path, two: Path, *, exactly: bool) -> None:
    first, second = tensors(one), tensors(two)
    assert list(first) == list(second)
    for name, value in first.items():
        if exactly:
            assert torch.equal(value, second[name]), name
        else:
            np.testing.assert_allclose(value.numpy(), second[name].numpy(), rtol=2e-3, atol=2e-4, err_msg=name)


@pytest.mark.slow
@pytest.mark.parametrize(("name", "accumulate"), [("v98", 1), ("v107", 1), ("v98", 2)])
def test_two_processes_equal_one(job, tmp_path, name, accumulate):
    """Losses, weights and normalisation statistics, with a memory that the batches do not divide (60 of 32); in parts too."""
    changes, options = {"negatives_per_sample": 2, "use_epoch": 0}, {"accumulate": accumulate}
    for ranks in (1, 2):
        done = job(name, str(ranks), ranks=ranks, changes=changes, options=options)
        assert done.returncode == 0, done.stderr
    first, second = losses(tmp_path / "1"), losses(tmp_path / "2")
    assert len(first) == len(second) == (STEPS if name == "v98" else 2)
    np.testing.assert_allclose([row[2] for row in second], [row[2] for row in first], rtol=1e-3)
    assert_same(tmp_path / "1/checkpoint_0000.pth.tar", tmp_path / "2/checkpoint_0000.pth.tar", exactly=False)


@pytest.mark.slow
def test_a_killed_process_ends_the_others(data, start, tmp_path):
    """torchrun sees to it."""
    spec = {"stage": "v98", "data": str(data), "start": str(start), "output": str(tmp_path / "out")}
    spec |= {"changes": {"negatives_per_sample": 2}, "kill": [3, signal.SIGKILL]}
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]
    command += [str(HERE / "training_run.py"), json.dumps(spec)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, capture_output=True, text=True, timeout=240, check=False, env=environment)
    assert done.returncode != 0
    assert "exitcode  : -9" in done.stderr
    assert not (tmp_path / "out/checkpoint_0001.pth.tar").exists()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGKILL])
def test_a_run_that_was_stopped_goes_on_to_the_same_weights(job, data, start, tmp_path, number):
    """SIGKILL in the second epoch goes on from the state at the end of the first one."""
    stage = toy("v98", negatives_per_sample=2)
    straight = train_stage(stage, data, tmp_path / "straight", start=start, options=replace(QUICK, ema_decay=0.9))
    changes, options = {"negatives_per_sample": 2}, {"ema_decay": 0.9}
    stopped = job("v98", "stopped", changes=changes, options=options, kill=[STEPS + 3, number])
    assert stopped.returncode == (-signal.SIGKILL if number == signal.SIGKILL else 130), stopped.stderr
    assert (tmp_path / "stopped/resume.pt").exists()
    assert len(losses(tmp_path / "stopped")) >= STEPS
    gone_on = job("v98", "stopped", changes=changes, options=options)
    assert gone_on.returncode == 0, gone_on.stderr
    assert not (tmp_path / "stopped/resume.pt").exists()
    assert losses(tmp_path / "stopped") == losses(tmp_path / "straight")
    for file in ("checkpoint_0001.pth.tar", "ema_0001.pth.tar"):
        assert_same(straight.with_name(file), tmp_path / "stopped" / file, exactly=True)


def test_steps_that_are_stopped_at_everywhere(data, start, tmp_path):
    """One step at a time, through the ends of epochs and the memory's wrap, gives what one run gives."""
    stage = toy("v83", use_epoch=1)
    whole = train_stage(stage, data, tmp_path / "whole", start=start, options=QUICK)
    for _ in range(2 * STEPS):
        with pytest.raises(KeyboardInterrupt):
            train_stage(stage, data, tmp_path / "pieces", start=start, options=replace(QUICK, max_steps=1))
    assert not (tmp_path / "pieces/checkpoint_0001.pth.tar").exists()
    pieces = train_stage(stage, data, tmp_path / "pieces", start=start, options=QUICK)
    assert losses(tmp_path / "pieces") == losses(tmp_path / "whole")
    assert_same(whole, pieces, exactly=True)


def test_a_stop_in_the_very_last_step_ends_a_schedule_too(job, tmp_path):
    """The stage is complete, and whoever runs several does not begin the next one."""
    done = job("v83", "last", changes={"use_epoch": 0}, kill=[STEPS, signal.SIGTERM])
    assert done.returncode == 130, done.stderr
    assert (tmp_path / "last/checkpoint_0000.pth.tar").exists()
    assert not (tmp_path / "last/resume.pt").exists()
    again = job("v83", "last", changes={"use_epoch": 0})
    assert again.returncode == 0
    assert len(losses(tmp_path / "last")) == STEPS


def test_weights_that_are_no_numbers_are_not_saved(data, start, tmp_path, monkeypatch):
    """The loss of the last step is still a number when its gradient is none."""
    from isc_fast.training.loop.learner import Learner

    original, done = Learner.step, [0]

    def spoilt(self: Learner, *args: Any) -> Any:
        found = original(self, *args)
        done[0] += 1
        if done[0] == STEPS:
            with torch.no_grad():
                self.net.fc.weight[0, 0] = float("inf")
        return found

    monkeypatch.setattr(Learner, "step", spoilt)
    with pytest.raises(TrainingError, match=r"a weight of v83 is NaN or infinite at epoch 0, step 4; .*T0000\d\d"):
        train_stage(toy("v83"), data, tmp_path / "a", start=start, options=QUICK)
    assert not (tmp_path / "a/checkpoint_0000.pth.tar").exists()
    assert not (tmp_path / "a/resume.pt").exists()


def test_a_chain_hands_the_right_checkpoints_on(data, start, tmp_path, monkeypatch):
    stages = [
        toy("v83"),
        toy("v83-2"),
        toy("v86"),
        toy("v98", negatives_per_sample=2),
        toy("v107", negatives_per_sample=2),
    ]
    stages = [
        replace(stage, use_epoch=stage.first_epoch + (1 if stage.name in ("v86", "v98") else 0)) for stage in stages
    ]
    begun: list[tuple[str, str]] = []
    import isc_fast.training.loop.stage_run as run

    original = run._begin

    def noted(stage: Stage, source: Any, *args: Any, **kwargs: Any) -> Any:
        begun.append((stage.name, os.path.relpath(source, tmp_path / "runs")))
        return original(stage, source, *args, **kwargs)

    monkeypatch.setattr(run, "_begin", noted)
    lines: list[str] = []
    last = train_schedule(stages, data, tmp_path / "runs", start=start, options=QUICK, log=lines.append)
    assert last == tmp_path / "runs/v107/checkpoint_0000.pth.tar"
    assert begun == [
        ("v83", os.path.relpath(start, tmp_path / "runs")),
        ("v83-2", "v83/checkpoint_0000.pth.tar"),
        ("v86", "v83-2/checkpoint_0005.pth.tar"),
        ("v98", "v86/checkpoint_0001.pth.tar"),
        ("v107", "v98/checkpoint_0001.pth.tar"),
    ]
    assert [line.split(":")[0] for line in lines if not line.startswith("warning")] == [
        "v83, epoch 0", "v83-2, epoch 5", "v86, epoch 0", "v86, epoch 1", "v98, epoch 0", "v98, epoch 1", "v107, epoch 0",
    ]  # fmt: skip
    # What is complete is not begun again.
    begun.clear()
    assert train_schedule(stages, data, tmp_path / "runs", start=start, options=QUICK) == last
    assert begun == []


def test_a_run_that_goes_on_takes_the_momentum(data, start, tmp_path):
    first = train_stage(toy("v83", use_epoch=0), data, tmp_path / "a", start=start, options=QUICK)
    stage = toy("v83-2", use_epoch=5)
    with_momentum = train_stage(stage, data, tmp_path / "b", start=first, options=QUICK)
    without = train_stage(replace(stage, resume=False), data, tmp_path / "c", start=first, options=QUICK)
    # The first batch is the same and so is its loss; what is learnt from it is not.
    assert losses(tmp_path / "b")[0] == losses(tmp_path / "c")[0]
    assert losses(tmp_path / "b")[1] != losses(tmp_path / "c")[1]
    assert not torch.equal(tensors(with_momentum)["fc.weight"], tensors(without)["fc.weight"])
    with pytest.raises(CheckpointError, match="goes on with the momentum of v83"):
        train_stage(stage, data, tmp_path / "d", start=start, options=QUICK)


def test_the_checkpoint_is_the_published_one(data, start, tmp_path):
    """It loads into the reference's own network by its own names, and tells what extraction needs."""
    path = train_stage(toy("v83", use_epoch=0), data, tmp_path / "a", start=start, options=QUICK)
    with torch.serialization.safe_globals([__import__("argparse").Namespace]):
        content = torch.load(path, weights_only=True)
    assert (content["epoch"], content["arch"], content["args"].input_size) == (1, ARCH, SIZE)
    state = {name.removeprefix("module."): value for name, value in content["state_dict"].items()}
    assert all(name.startswith("module.") for name in content["state_dict"])
    net = ReferenceNet(ARCH, 16)
    net.load_state_dict(state, strict=True)
    assert [len(group["params"]) for group in content["optimizer"]["param_groups"]] == [
        sum(p.ndim <= 1 for p in net.parameters()),
        sum(p.ndim > 1 for p in net.parameters()),
    ]
    assert [group["weight_decay"] for group in content["optimizer"]["param_groups"]] == [0.0, 1e-6]


def test_it_learns(data, start, tmp_path):
    """A few epochs on 40 photos: the pairs come nearer than they were and µAP on those very photos rises."""
    stage = toy("v107", negatives_per_sample=2, epochs=12, use_epoch=11, learning_rate=0.2, sample_size=40)
    options = replace(QUICK, evaluate=data, log_every=2)
    train_stage(stage, data, tmp_path / "a", start=start, options=options)
    rows = read_log(tmp_path / "a/log.csv")
    assert rows[-1].positive_distance < 0.7 * rows[0].positive_distance
    figures = [json.loads(line) for line in (tmp_path / "a/evaluation.jsonl").read_text().splitlines()]
    assert [row["epoch"] for row in figures] == list(range(12))
    assert figures[-1]["micro_ap"] > figures[0]["micro_ap"]


def test_a_loss_that_is_no_number_names_the_batch(data, start, tmp_path):
    stage = toy("v83", learning_rate=1e30)
    with pytest.raises(TrainingError, match=r"loss of v83 is nan at epoch 0, step \d.*T0000\d\d") as caught:
        train_stage(stage, data, tmp_path / "a", start=start, options=QUICK)
    assert "\n" not in str(caught.value)
    assert "--overwrite --set learning_rate=5e+29, or --overwrite --set precision=fp32" in str(caught.value)
    assert not (tmp_path / "a/checkpoint_0000.pth.tar").exists()
    assert not (tmp_path / "a/resume.pt").exists()


@pytest.mark.parametrize("views_on", ["workers", "device"])
def test_an_image_that_cannot_be_read_is_replaced_and_counted(photos, start, tmp_path, views_on):
    data = make_collection(tmp_path / "data", photos)
    bad = data / "training_images/T000007.jpg"
    bad.write_bytes(bad.read_bytes()[:600])
    (data / "training_images/T000011.jpg").write_bytes(b"")
    stage = toy("v83", use_epoch=0)
    train_stage(stage, data, tmp_path / "a", start=start, options=replace(QUICK, views_on=views_on))
    skipped = [json.loads(line) for line in (tmp_path / "a/skipped.jsonl").read_text().splitlines()]
    assert {Path(row["path"]).name for row in skipped} >= {"T000007.jpg", "T000011.jpg"}
    assert read_log(tmp_path / "a/log.csv")[-1].skipped == len(skipped)
    assert all(np.isfinite(row.loss) for row in read_log(tmp_path / "a/log.csv"))


def test_nothing_readable_is_an_error(photos, start, tmp_path):
    data = make_collection(tmp_path / "data", photos)
    for file in (data / "training_images").iterdir():
        file.write_bytes(b"no picture")
    with pytest.raises(InputError, match="50 images in a row could not be read"):
        train_stage(toy("v83"), data, tmp_path / "a", start=start, options=QUICK)


def test_views_of_the_workers_and_of_the_device_train_alike(data, start, tmp_path):
    """The same recipes, carried out by Pillow and by torch: the first loss agrees to what the two differ in by rounding."""
    first = {}
    for where in ("workers", "device"):
        options = replace(QUICK, views_on=where, max_steps=2)
        with pytest.raises(KeyboardInterrupt):
            train_stage(toy("v98", negatives_per_sample=2), data, tmp_path / where, start=start, options=options)
        first[where] = losses(tmp_path / where)[0][2]
    assert first["device"] == pytest.approx(first["workers"], rel=0.05)


def test_workers_make_the_same_batches(data, start, tmp_path):
    options = replace(QUICK, max_steps=3)
    for workers in (0, 2):
        with pytest.raises(KeyboardInterrupt):
            train_stage(
                toy("v86"), data, tmp_path / str(workers), start=start, options=replace(options, workers=workers)
            )
    assert losses(tmp_path / "0") == losses(tmp_path / "2")


@pytest.mark.slow
def test_a_compiled_network_trains_alike_under_the_same_names(data, start, tmp_path):
    if not (shutil.which("g++") or shutil.which("c++")):
        pytest.skip("torch.compile needs a C++ compiler on a processor")
    stage = toy("v83", use_epoch=0)
    plain = train_stage(stage, data, tmp_path / "plain", start=start, options=QUICK)
    compiled = train_stage(stage, data, tmp_path / "compiled", start=start, options=replace(QUICK, compile=True))
    assert [row[2] for row in losses(tmp_path / "compiled")] == pytest.approx(
        [row[2] for row in losses(tmp_path / "plain")], rel=1e-3
    )
    assert_same(plain, compiled, exactly=False)


def test_another_seed_is_another_run(data, start, tmp_path):
    for seed in (0, 1):
        with pytest.raises(KeyboardInterrupt):
            train_stage(
                toy("v83"), data, tmp_path / str(seed), start=start, options=replace(QUICK, max_steps=2, seed=seed)
            )
    assert losses(tmp_path / "0") != losses(tmp_path / "1")


def test_a_state_goes_on_with_its_own_stage_only(data, start, photos, tmp_path):
    stage = toy("v83")
    with pytest.raises(KeyboardInterrupt):
        train_stage(stage, data, tmp_path / "a", start=start, options=replace(QUICK, max_steps=2))
    for changed, options, named in (
        (replace(stage, learning_rate=0.5), QUICK, "learning_rate"),
        (replace(stage, hard_view=replace(stage.hard_view, blur=0.5)), QUICK, "blur"),
        (stage, replace(QUICK, seed=3), "seed"),
    ):
        with pytest.raises(MismatchError, match=named):
            train_stage(changed, data, tmp_path / "a", start=start, options=options)
    # A state of version 0.2 lacks the settings that came later. It goes on.
    state = torch.load(tmp_path / "a/resume.pt", weights_only=True)
    for field in ("temperature", "spread", "optimizer", "hard_views", "shows_others"):
        del state["stage"][field]
    for field in ("parts", "frame", "bend", "screen"):
        del state["stage"]["hard_view"][field]
    torch.save(state, tmp_path / "a/resume.pt")
    with pytest.raises(StepsDone):
        train_stage(stage, data, tmp_path / "a", start=start, options=replace(QUICK, max_steps=1))
    other = make_collection(tmp_path / "other", photos)
    (other / "training_images/T000001.jpg").rename(other / "training_images/T900001.jpg")
    with pytest.raises(MismatchError, match="differs in the images"):
        train_stage(stage, other, tmp_path / "a", start=start, options=QUICK)
    (tmp_path / "a/resume.pt").write_bytes((tmp_path / "a/resume.pt").read_bytes()[:-100])
    with pytest.raises(CheckpointError, match="damaged"):
        train_stage(stage, data, tmp_path / "a", start=start, options=QUICK)
    begun_anew = train_stage(
        replace(stage, use_epoch=0), data, tmp_path / "a", start=start, options=QUICK, overwrite=True
    )
    assert begun_anew.exists()


def refused(stage: Stage, data: Path, start: Path, tmp_path: Path, **changes: Any) -> str:
    options = replace(QUICK, **changes.pop("options", {}))
    with pytest.raises(InputError) as caught:
        train_stage(replace(stage, **changes), data, tmp_path / "refused", start=start, options=options)
    assert not (tmp_path / "refused/log.csv").exists(), "nothing was begun"
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"hard_views": 0}, "hard_views 0"),
        ({"temperature": 0.0}, "temperature 0.0; expected"),
        ({"hard_view": replace(STAGES["v98"].hard_view, parts=0.7, frame=0.4)}, "a sum of at most 1"),
        ({"memory_size": 1000}, "memory of v98, 1000, is larger than the data set"),
        ({"memory_size": 20}, "a step of v98 has 32 images, and its memory holds 20"),
        ({"batch_size": 64, "memory_size": 300}, "40 samples for batches of 64"),
        ({"options": {"accumulate": 5}}, "32 images, does not divide into 5 equal parts"),
        ({"options": {"evaluate": Path("nowhere")}}, "no folder nowhere to evaluate on"),
        ({"options": {"emoji": Path("nowhere")}}, "nowhere"),
    ],
)
def test_numbers_that_do_not_fit(data, start, tmp_path, changes, message):
    assert message in refused(toy("v98", negatives_per_sample=2), data, start, tmp_path, **changes)


def test_a_toy_data_set_hears_all_its_refusals_at_once(data, start, tmp_path):
    """Whoever follows every advice of the one message has a run that begins."""
    stages = [replace(STAGES[name], arch=ARCH, input_size=64, dim=16) for name in ("v83", "v98", "v107")]
    with pytest.raises(InputError) as caught:
        train_schedule(stages, data, tmp_path / "a", start=start, options=QUICK)
    message = str(caught.value)
    advice = re.findall(r"--set (\S+=\d+)", message)
    assert [setting.rpartition("=")[0] for setting in advice] == [
        f"{stage}.{name}" for stage in ("v83", "v98") for name in ("batch_size", "memory_size")
    ]
    mended = [override(stage, advice) for stage in stages]
    for stage in mended:
        check(stage, collect(data, stage), 1)
    (data_without := tmp_path / "less").mkdir()
    with pytest.raises(InputError) as caught:
        train_schedule(stages, data_without, tmp_path / "a", start=start, options=QUICK)
    for stage in ("v83", "v98", "v107"):
        assert f"the stage {stage} " in str(caught.value)
    assert not (tmp_path / "a").exists()


def test_data_that_does_not_fit(photos, start, tmp_path):
    assert "there is no folder" in refused(toy("v83"), tmp_path / "nothing", start, tmp_path)
    data = make_collection(tmp_path / "data", photos)
    (data / "query_images/Q00003.jpg").unlink()
    message = refused(toy("v107", negatives_per_sample=2), data, start, tmp_path)
    assert "names 1 queries that are not there, such as 'Q00003'" in message
    (data / "public_ground_truth.csv").unlink()
    assert "has no ground truth" in refused(toy("v107", negatives_per_sample=2), data, start, tmp_path)
    for file in (data / "training_images").iterdir():
        file.unlink()
    assert "found no image" in refused(toy("v83"), data, start, tmp_path)
    (data / "training_images").rmdir()
    assert "no folder training_images or train_images" in refused(toy("v83"), data, start, tmp_path)


def test_weights_that_do_not_fit(data, tmp_path):
    other = tmp_path / "other.pth"
    save_checkpoint(other, DescriptorNet("test_resnet", 16), arch="test_resnet", input_size=64, epoch=1)
    with pytest.raises(CheckpointError, match=r"does not fit test_efficientnet .* it holds a test_resnet"):
        train_stage(toy("v86"), data, tmp_path / "a", start=other, options=QUICK)
    torch.save({"conv_stem.weight": torch.zeros(3)}, other)
    with pytest.raises(CheckpointError, match=r"does not hold the weights of test_efficientnet: \d+ tensors missing"):
        train_stage(toy("v86"), data, tmp_path / "a", start=other, options=QUICK)
    with pytest.raises(CheckpointError, match="cannot read"):
        train_stage(toy("v86"), data, tmp_path / "a", start=tmp_path / "none.pth", options=QUICK)


def test_log_rows_are_read_as_written(data, start, tmp_path):
    train_stage(toy("v83", use_epoch=0), data, tmp_path / "a", start=start, options=replace(QUICK, log_every=2))
    rows = read_log(tmp_path / "a/log.csv")
    assert [(row.epoch, row.step) for row in rows] == [(0, 1), (0, 3), (0, 4)]
    assert all(isinstance(row, LogRow) and row.images_per_s > 0 and 0 <= row.data_wait <= 1 for row in rows)
    assert all(row.loss == pytest.approx(row.positive + row.negative, rel=1e-5) for row in rows)
