"""The table of stages, against what the publication and the published runs say of themselves."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from itertools import pairwise
from pathlib import Path

import pytest

from isc_fast.networks.presets import PRESETS
from isc_fast.training.stages import STAGES, schedule


@pytest.mark.parametrize(
    ("last", "names"),
    [
        ("v107", ["v83", "v83-2", "v86", "v98", "v107"]),
        ("v207", ["v83", "v83-2", "v86", "v198", "v207"]),
        ("v83", ["v83"]),
    ],
)
def test_the_chain_of_stages(last, names):
    chain = schedule(last)
    assert [stage.name for stage in chain] == names
    assert chain[0].start == "imagenet"
    for before, stage in pairwise(chain):
        assert stage.start == before.name


@pytest.mark.parametrize(
    ("name", "images", "rates"),
    [
        ("v83", 256, [0.1, 0.1, 0.1]),
        ("v86", 256, [0.1, 0.1, 0.1]),
        ("v98", 256, [0.1, 0.0667, 0.0333]),
        ("v107", 512, [0.5, 0.45, 0.4]),
        ("v198", 256, [0.1, 0.0667, 0.0333]),
        ("v207", 512, [0.5, 0.45, 0.4]),
    ],
)
def test_images_and_learning_rates(name, images, rates):
    stage = STAGES[name]
    assert stage.images_per_step == images
    assert [round(stage.learning_rate_of(epoch), 4) for epoch in range(3)] == rates
    assert stage.images_per_step <= stage.memory_size, "a batch has to fit into the memory"
    assert stage.first_epoch <= stage.use_epoch < stage.epochs


def test_a_run_that_goes_on_counts_on():
    assert STAGES["v83-2"].resume
    assert STAGES["v83-2"].first_epoch == STAGES["v83"].epochs == STAGES["v83"].use_epoch + 1
    assert [stage.name for stage in STAGES.values() if stage.resume] == ["v83-2"]


def test_the_last_two_differ_from_theirs_in_the_negatives_only():
    from dataclasses import replace

    assert replace(STAGES["v198"], name="v98", negatives_from="reference") == STAGES["v98"]
    assert replace(STAGES["v207"], name="v107", start="v98", negatives_from="reference") == STAGES["v107"]


def test_every_stage_is_evaluated_as_its_preset_says():
    for name, preset in PRESETS.items():
        stage = STAGES[name]
        assert (stage.input_size, stage.gem_p, stage.dim) == (preset.size, preset.gem_p, preset.dim)


def test_views_get_harder():
    one, two, three = (STAGES[name].hard_view for name in ("v83", "v86", "v98"))
    assert one
    assert two
    assert three
    for field in ("rotation", "overlay", "colour_jitter", "jpeg", "perspective", "text", "emoji"):
        assert getattr(one, field) < getattr(two, field) < getattr(three, field)
    assert three.edge_enhance == two.edge_enhance == 0.30
    assert one.overlay_opacity > two.overlay_opacity > three.overlay_opacity
    assert STAGES["v107"].hard_view is None


@pytest.mark.parametrize("socket_bytes", [107, 108, 200])
def test_a_temporary_folder_is_refused_if_loaders_cannot_make_their_sockets_in_it(socket_bytes):
    """Otherwise a loader's batch would be lost, and training would wait for it for ever."""
    room = tempfile.mkdtemp(prefix="isc-fast-")  # pytest's folder may be too long itself
    folder = Path(room, "x" * (socket_bytes - len("/pymp-12345678/listener-12345678") - len(room) - 1))
    folder.mkdir()
    code = (
        "import multiprocessing.connection as c; from isc_fast.training.checks import check_loaders; check_loaders(0)\n"
        "try: c.Listener(family='AF_UNIX').close(); print('works')\n"
        "except OSError as error: print(error)\n"
        "check_loaders(1); check_loaders(None); print('not refused')"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "TMPDIR": str(folder)},
    )
    folder.rmdir()
    os.rmdir(room)
    if done.stdout == "AF_UNIX path too long\n":  # newer versions of Python take another folder by themselves
        assert socket_bytes > 107
        assert f"socket {socket_bytes} bytes long; expected at most 107; set TMPDIR to a shorter folder" in done.stderr
    else:
        assert (done.stdout, done.stderr) == ("works\nnot refused\n", "")
