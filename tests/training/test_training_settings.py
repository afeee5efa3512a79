"""Evaluation, settings, devices, the dry run and the command line of training."""

from __future__ import annotations

import json
import math
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest

torch = pytest.importorskip("torch")

from helpers_training import ARCH, backbone_file, make_collection, toy

from isc_fast.cli.main import main
from isc_fast.errors import InputError
from isc_fast.items import Item
from isc_fast.networks.checkpoint import load_checkpoint
from isc_fast.networks.model import DescriptorNet
from isc_fast.training.data.collection import collect
from isc_fast.training.data.held_out import read_held_out
from isc_fast.training.estimate import measure_step
from isc_fast.training.loop.distributed import Process, choose_device, joined
from isc_fast.training.loop.evaluation import evaluate_net
from isc_fast.training.overrides import override
from isc_fast.training.stages import STAGES

CPU = Process(0, 1, torch.device("cpu"))


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory, photos: Sequence[Path]) -> Path:
    return make_collection(tmp_path_factory.mktemp("data"), photos)


# Evaluation


def test_evaluation_finds_equal_pictures(data):
    held_out = read_held_out(data)
    same = replace(held_out, queries=[Item(f"Q{n:05d}", item.path) for n, item in enumerate(held_out.references[:20])])
    net = DescriptorNet(ARCH, 16)
    scores = evaluate_net(net, same, 64, CPU)
    assert scores.micro_ap == pytest.approx(1.0)
    assert scores.positives == 20
    assert net.training, "it is given back in the mode it was in"


# Overrides


def test_settings_change_the_stage():
    stage = override(
        STAGES["v98"],
        ["batch_size=32", "hard_view.blur=0.1", "v98.learning_rate=1", "v83.batch_size=7", "falling=false", "precision=bf16",
         "hard_view.overlay_size=(0.1, 0.9)"],
    )  # fmt: skip
    assert (stage.batch_size, stage.learning_rate, stage.falling, stage.precision) == (32, 1.0, False, "bf16")
    assert stage.hard_view == replace(STAGES["v98"].hard_view, blur=0.1, overlay_size=(0.1, 0.9))
    for text, frozen in (
        ("backbone.*", ("backbone.*",)),
        ("backbone.blocks.[012].*, *.conv_dw.*", ("backbone.blocks.[012].*", "*.conv_dw.*")),
        ("none", ()),
        ("", ()),
    ):
        assert override(STAGES["tiny-1"], [f"frozen={text}"]).frozen == frozen
    assert replace(stage, batch_size=64, learning_rate=0.1, falling=True, precision="fp16", hard_view=None) == replace(
        STAGES["v98"], hard_view=None
    )


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ("batch_size", "expected NAME=VALUE"),
        ("batchsize=3", "there is no setting 'batchsize'"),
        ("batch_size=many", "batch_size is 'many'; expected int"),
        ("batch_size=2.5", "expected int"),
        ("name=v99", "there is no setting 'name'"),
        ("precision=fp8", "choose one of fp16, bf16, fp32"),
        ("hard_view=none", "hard_view has parts"),
        ("batch_size.x=3", "has no parts"),
        ("frozen=backbone.*,,fc.*", "expected names with commas between them, or none"),
        ("frozen=('backbone.*',)", "expected names with commas between them, or none"),
        ("hard_view.overlay_size=3", "hard_view.overlay_size is '3'"),
    ],
)
def test_settings_that_are_refused(setting, message):
    with pytest.raises(InputError, match=message):
        override(STAGES["v98"], [setting])


# Processes and devices


def test_devices(monkeypatch):
    assert choose_device("cpu").type == "cpu"
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert choose_device(None).type == "cpu"
    with pytest.raises(InputError, match="torch finds no GPU"):
        choose_device("cuda")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setenv("LOCAL_RANK", "1")
    assert choose_device(None) == torch.device("cuda", 1)
    monkeypatch.setenv("LOCAL_RANK", "2")
    with pytest.raises(InputError, match="process 2 of its machine, which has 2 GPUs"):
        choose_device(None)
    monkeypatch.setenv("WORLD_SIZE", "two")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(InputError, match="WORLD_SIZE is 'two'"), joined():
        pass


# The command line


def test_the_dry_run_measures_a_stage_that_names_every_photo():
    assert measure_step(toy("v83", hard_views=2, shows_others=True, temperature=0.05), CPU) > 0


def test_the_dry_run_prints_the_plan(data, capsys):
    settings = [f"arch={ARCH}", "input_size=64", "dim=16", "batch_size=4", "memory_size=60"]
    settings += ["v107.memory_size=136", "reference_world_size=2"]
    arguments = ["train", "--schedule", "v107", "--data", str(data), "--dry-run", "--device", "cpu"]
    assert main([*arguments, *(word for setting in settings for word in ("--set", setting))]) == 0
    rows = [line.split() for line in capsys.readouterr().out.splitlines()]
    plan = {row[0]: row for row in rows if row and row[0] in STAGES}
    assert list(plan) == ["v83", "v83-2", "v86", "v98", "v107"]
    #                     start, size, samples, negatives, epochs, steps, images
    assert plan["v83"][1:8] == ["imagenet", "64", "40", "0", "0–4", "10", "400"]
    assert plan["v83-2"][5:8] == ["5–5", "10", "80"]
    assert plan["v98"][1:8] == ["v86", "64", "40", "60", "0–1", "10", "320"]
    assert plan["v98"][8:11] == ["0.1", "→", "0.06667"]
    assert plan["v107"][1:8] == ["v98", "64", "20", "40", "0–9", "5", "6,400"]
    rates = [float(row[-2]) for row in plan.values()]
    hours = [float(row[-1]) for row in plan.values()]
    assert all(rate > 0 for rate in rates)
    assert hours == pytest.approx([0.0] * 5, abs=0.5)
    assert "hours of one processor like this one, in fp32" in " ".join(rows[-1])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--stage", "v99", "--data", "x", "-o", "y"], "there is no stage 'v99'"),
        (["--stage", "v86", "--data", "x", "-o", "y"], "v86 starts from v83-2: name its checkpoint with --init"),
        (["--stage", "v83", "--data", "x"], "name a folder for the checkpoints"),
        (["--stage", "v83", "--data", "x", "-o", "y", "--accumulate", "0"], "accumulate must be at least 1, not 0"),
        (["--stage", "v83", "--data", "x", "-o", "y", "--ema-decay", "2"], "between 0 and 1"),
        (["--stage", "v83", "--data", "x", "-o", "y"], "there is no folder x"),
    ],
)
def test_the_command_line_refuses_in_one_line(arguments, message, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert main(["train", "--device", "cpu", *arguments]) == 1
    err = capsys.readouterr().err
    assert err.startswith("error: ")
    assert message in err
    assert err.count("\n") == 1


@pytest.mark.slow
def test_a_trial_ends_with_status_0_and_goes_on(data, tmp_path, capsys):
    small = ["--set", "batch_size=8", "--set", "memory_size=60", "--set", "input_size=64", "--set", f"arch={ARCH}"]
    small += [
        "--set",
        "use_epoch=0",
        "--init",
        str(backbone_file(tmp_path / "b.pth")),
        "--device",
        "cpu",
        "--workers",
        "0",
    ]
    command = ["train", "--stage", "v83", "--data", str(data), "-o", str(tmp_path / "a"), *small]
    assert main([*command, "--max-steps", "2"]) == 0
    out, err = capsys.readouterr()
    assert out == ""
    assert "stopped after 2 steps, as --max-steps says; the same command goes on" in err
    assert (tmp_path / "a/resume.pt").exists()
    assert main(command) == 0
    assert capsys.readouterr().out == f"{tmp_path / 'a/checkpoint_0000.pth.tar'}\n"


def test_torchrun_starts_the_module(data, tmp_path):
    """The line of the README on two processes; and a batch that does not divide among three."""
    start = backbone_file(tmp_path / "b.pth")
    common = ["-m", "isc_fast.training", "--stage", "v83", "--data", str(data), "--init", str(start), "--device", "cpu"]
    for setting in (f"arch={ARCH}", "input_size=64", "dim=16", "batch_size=8", "memory_size=60", "use_epoch=0"):
        common += ["--set", setting]
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone"]
    output = tmp_path / "out"
    done = subprocess.run(
        [*torchrun, "--nproc-per-node=2", *common, "-o", str(output)],
        capture_output=True, text=True, timeout=240, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == str(output / "checkpoint_0000.pth.tar")
    assert load_checkpoint(output / "checkpoint_0000.pth.tar").args["world_size"] == 2
    done = subprocess.run(
        [*torchrun, "--nproc-per-node=3", *common, "-o", str(tmp_path / "three")],
        capture_output=True, text=True, timeout=240, check=False,
    )  # fmt: skip
    assert done.returncode != 0
    assert done.stderr.count("error: the batch of v83, 8 samples, does not divide among 3 processes; start 2") == 1


def test_stage_json_says_what_was_trained_on_what(data, tmp_path):
    from isc_fast.training.options import RunOptions
    from isc_fast.training.run import train_stage

    start = backbone_file(tmp_path / "b.pth")
    options = RunOptions(device="cpu", workers=0)
    train_stage(toy("v83", use_epoch=0), data, tmp_path / "a", start=start, options=options)
    content = json.loads((tmp_path / "a/stage.json").read_text())
    assert content["samples"] == 40
    assert content["stage"]["input_size"] == 64
    assert content["images_sha256"] == collect(data, toy("v83")).digest()
    assert math.isclose(content["stage"]["learning_rate"], 0.02)
