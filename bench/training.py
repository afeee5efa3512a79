"""Training steps at the shapes of v83 and v107, the reference way and ours, and the share of time spent waiting for images.

    python bench/training.py                      the published batch of one process; a GPU if there is one
    python bench/training.py --images 4 --rounds 2  on a processor, where the published one takes minutes
    python bench/training.py --smoke              takes seconds with a small network and shows only that it runs

The reference way is the published training as it was run: NCHW, fp16 autocast with a gradient scaler (fp32 on a processor),
and the (b + m)² distances of batch and memory together. Ours is `isc_fast.training.loop.learner.Learner`, first with the same
options, then with options that a user may add. The accuracy of each row is the cosine between the descriptors that the two
networks give after one step from the same weights on the same images. A row in bf16 cannot reach the cosine of a row in fp32;
its name says that it is in bf16. The last rows run the whole loop on JPEG files.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from copy import deepcopy
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from harness import PHOTO_SIZE, finish, interleaved, make_photos

from isc_fast.items import Item
from isc_fast.machine.cores import available_cores
from isc_fast.networks.model import DescriptorNet
from isc_fast.training.data.collection import Collection
from isc_fast.training.data.dataset import SampleDataset, make_loader
from isc_fast.training.data.inputs import InputMaker
from isc_fast.training.data.sampling import KeySampler
from isc_fast.training.loop.distributed import Process, choose_device
from isc_fast.training.loop.learner import Learner, usable_precision
from isc_fast.training.loop.losses import CrossBatchMemory
from isc_fast.training.stages import STAGES, Stage
from isc_fast.training.views.artwork import find_artwork

REFERENCE = "reference"


class ReferenceWay:
    """The step of the published loop, written with the functions that torch had at that time."""

    def __init__(self, net: DescriptorNet, stage: Stage, device: torch.device) -> None:
        self.net, self.stage, self.device = net.to(device).train(), stage, device
        decay = [p for p in net.parameters() if p.ndim > 1]
        rest = [p for p in net.parameters() if p.ndim <= 1]
        groups = [{"params": rest, "weight_decay": 0.0}, {"params": decay, "weight_decay": stage.weight_decay}]
        self.optimizer = torch.optim.SGD(groups, lr=stage.learning_rate, momentum=stage.momentum)
        self.scaler = torch.amp.GradScaler(device.type, enabled=device.type == "cuda")
        self.memory = CrossBatchMemory(stage.memory_size, stage.dim, device)

    def step(self, images: torch.Tensor, labels: torch.Tensor) -> None:
        """Do one step. The loss is read at once, as in the published loop."""
        self.optimizer.zero_grad()
        with torch.autocast(self.device.type, torch.float16, enabled=self.device.type == "cuda"):
            loss = self._loss(self.net(images).float(), labels)
        self.scaler.scale(loss / self.stage.reference_world_size).backward()
        self.scaler.step(self.optimizer)
        self.scaler.update()
        loss.item()

    def _loss(self, vectors: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        places = self.memory.put(vectors, labels)
        filled = self.memory.filled
        everything = torch.cat([vectors, self.memory.vectors[:filled]])
        all_labels = torch.cat([labels, self.memory.labels[:filled]])
        distances = torch.cdist(everything, everything)[: len(labels), len(labels) :]
        same = labels[:, None] == all_labels[None, len(labels) :]
        itself = torch.zeros_like(same)
        itself[torch.arange(len(labels), device=labels.device), places] = True
        positive = (distances - self.stage.pos_margin)[same & ~itself]
        negative = (self.stage.neg_margin - distances)[~same]
        return sum((part[part > 0].mean() for part in (positive, negative) if (part > 0).any()), torch.zeros(()))


def steps(step: Callable[[], object], count: int, images: int, device: torch.device) -> int:
    """Do ``count`` steps, wait for them, and return the number of images."""
    for _ in range(count):
        step()
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return count * images


def measure_steps(stage: Stage, given: argparse.Namespace, device: torch.device) -> dict[str, Any]:
    """Measure the rate and the cosine of each way, on random images that lie on the device."""
    torch.manual_seed(0)
    stage = replace(stage, shows_others=False)  # a random image shows no other photo
    images = torch.rand(stage.images_per_step, 3, stage.input_size, stage.input_size, device=device) * 2 - 1
    labels = torch.arange(stage.batch_size, device=device).repeat(stage.views_per_sample + stage.negatives_per_sample)
    start = DescriptorNet(stage.arch, stage.dim, stage.gem_p)
    process = Process(0, 1, device)
    variants: dict[str, tuple[Stage, bool]] = {
        "isc-fast, the same options": (stage, False),
        "isc-fast, channels_last": (replace(stage, channels_last=True), False),
        "isc-fast, channels_last, bf16": (replace(stage, channels_last=True, precision="bf16"), False),
    }
    if given.compile:
        variants["isc-fast, channels_last, bf16, compiled"] = (
            replace(stage, channels_last=True, precision="bf16"),
            True,
        )
    reference = ReferenceWay(deepcopy(start), stage, device)
    ways: dict[str, Any] = {REFERENCE: reference}
    ways |= {name: Learner(deepcopy(start), s, process, compile=compiled) for name, (s, compiled) in variants.items()}
    described = {}
    runs = {}
    for name, way in ways.items():
        order = torch.channels_last if "channels_last" in name else torch.contiguous_format
        batch = images.contiguous(memory_format=order)
        if isinstance(way, Learner):
            way.set_epoch(0)
        way.step(batch, labels)  # this step is the warm-up, and its result is compared
        with torch.inference_mode():
            described[name] = way.net(batch[:16]).float().cpu()
        runs[name] = lambda way=way, batch=batch: steps(
            lambda: way.step(batch, labels), given.steps, len(labels), device
        )
    rates = interleaved(runs, given.rounds)
    cosines = {name: float((vectors * described[REFERENCE]).sum(1).min()) for name, vectors in described.items()}
    return {"rates": rates, "cosine_min": cosines}


def measure_loop(
    stage: Stage, views_on: Any, paths: Sequence[str], given: argparse.Namespace, device: torch.device
) -> dict[str, float]:
    """Measure the images per second from JPEG files, and the share of the time in which the device waits for them."""
    again = 1 + 2 * stage.batch_size // len(paths)
    items = [Item(f"{i}-{path}", path) for i, path in enumerate(list(paths) * again)]
    samples = [(item, item) if stage.views == "pairs" else (item,) for item in items]
    collection = Collection(samples, items)
    artwork = find_artwork() if stage.hard_view else None
    dataset = SampleDataset(collection, stage, seed=0, artwork=artwork, views_on=views_on)
    sampler = KeySampler(replace(stage, reference_world_size=1), len(samples), seed=0, rank=0, world_size=1)
    loader = make_loader(dataset, sampler, workers=given.workers, pin=device.type == "cuda")
    learner = Learner(DescriptorNet(stage.arch, stage.dim, stage.gem_p), stage, Process(0, 1, device))
    inputs = InputMaker(learner.net, dataset, device, channels_last=stage.channels_last)
    waited, done, began, first = 0.0, 0, 0.0, True
    while done < given.steps:
        sampler.epoch += 1
        before = time.perf_counter()
        for batch in loader:
            waited += time.perf_counter() - before
            learner.step(*inputs(batch))
            if device.type == "cuda":
                torch.cuda.synchronize(device)
            before = time.perf_counter()
            if first:  # the first one includes the warm-up and the start of the loaders
                first, waited, began = False, 0.0, before
                continue
            done += 1
            if done == given.steps:
                break
    seconds = time.perf_counter() - began
    return {"images_per_s": given.steps * stage.images_per_step / seconds, "data_wait": waited / seconds}


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--stages", nargs="+", default=["v83", "v107"], choices=list(STAGES))
    parser.add_argument(
        "--images", type=int, help="images in one step, about; by default those of one published process"
    )
    parser.add_argument("--steps", type=int, default=5, help="of a round")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--workers", type=int, default=available_cores(), help="loaders that make views")
    parser.add_argument("--device", choices=("cpu", "cuda"))
    parser.add_argument("--compile", action="store_true", help="also with torch.compile")
    parser.add_argument("--smoke", action="store_true", help="a small network and images, one round")
    given = parser.parse_args(arguments)
    small: dict[str, Any] = {}
    photo_size = PHOTO_SIZE
    if given.smoke:
        given.device, given.images, given.steps, given.rounds, given.workers = "cpu", 8, 1, 1, 1
        small, photo_size = {"arch": "test_efficientnet", "input_size": 64, "dim": 32}, (160, 120)
    device = choose_device(given.device)
    torch.set_num_threads(available_cores())
    results = {}
    for name in given.stages:
        stage = STAGES[name]
        views = 2 + stage.negatives_per_sample
        batch = stage.batch_size // stage.reference_world_size
        if given.images:
            views = min(views, given.images)
            batch = max(1, given.images // views)
        stage = replace(stage, batch_size=batch, negatives_per_sample=views - 2, **small)
        result = measure_steps(stage, given, device)
        with tempfile.TemporaryDirectory() as scratch:
            paths = make_photos(Path(scratch, "photos"), 12, photo_size)
            result["loop"] = {way: measure_loop(stage, way, paths, given, device) for way in ("workers", "device")}
        results[name] = result
        precision = usable_precision(stage.precision, device)
        print(
            f"\n{name}: {stage.images_per_step} images of {stage.input_size} × {stage.input_size} a step, {stage.arch}"
        )
        print(f"published options on {device.type}: {precision}, NCHW")
        reference = result["rates"][REFERENCE]["images_per_s"]
        for way, rate in result["rates"].items():
            print(
                f"  {way:<42} {rate['images_per_s']:8.1f} images/s ({rate['min']:.1f} to {rate['max']:.1f})  "
                f"{rate['images_per_s'] / reference:5.2f} ×   cosine {result['cosine_min'][way]:.6f}"
            )
        for way, loop in result["loop"].items():
            print(
                f"  {f'from JPEG files, views on the {way}':<42} {loop['images_per_s']:8.1f} images/s, "
                f"{100 * loop['data_wait']:.0f} % of the time waiting for images"
            )
    same = "isc-fast, the same options"
    finish(
        {
            "bench": "training",
            "device": torch.cuda.get_device_name(device) if device.type == "cuda" else "cpu",
            "workers": given.workers,
            "stages": results,
            "ratio_to_best_reference": min(
                r["rates"][same]["images_per_s"] / r["rates"][REFERENCE]["images_per_s"] for r in results.values()
            ),
            "cosine_min": min(result["cosine_min"][same] for result in results.values()),
        }
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
