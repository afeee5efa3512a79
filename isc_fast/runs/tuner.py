"""Trying how an engine runs fastest on this machine: with which runtime, threads, streams and images in one call."""

from __future__ import annotations

import importlib.util
import statistics
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from ..assets import DEMO_ENGINE, demo_photos
from ..decoders.rules import prepare
from ..engines.base import Engine, engine_file, open_with
from ..engines.header import read_spec
from ..engines.kinds import KINDS, kind_of
from ..engines.spec import EngineSpec
from ..engines.tuning import Setting, save_setting
from ..errors import EngineError
from ..machine.cores import available_cores

SECONDS = 45.0
_SAME = 0.99999  # a setting is left out if its cosine with the first candidate is lower: its descriptors differ
_HOPELESS = 0.6  # a setting below this share of the best rate is given up after the first round
_ROUNDS = 5
_TURN_S = 0.3  # seconds of one setting in one round; it makes at least one call
_BATCHES = (1, 4, 16)
REQUEST_SIZES = (1, 4)
"""Images of one OpenVINO request. Both give the same bits on every processor tried; from 5 on, AVX2 kernels give others."""


@dataclass(frozen=True)
class Tuned:
    """What `tune` found.

    Attributes:
        setting: the fastest setting.
        images_per_s: the median rate of each setting that was tried. The fastest stands first; those that were given up
            early stand last.
        path: the file that keeps the setting; `isc_fast.load_engine` finds it there.
        default_rate: the rate of the setting that an untuned engine uses.
    """

    setting: Setting
    images_per_s: dict[Setting, float]
    path: Path
    default_rate: float

    def __str__(self) -> str:
        lines = [f"{rate:9.2f} images/s  {setting}" for setting, rate in self.images_per_s.items()]
        gain = self.images_per_s[self.setting] / self.default_rate
        return "\n".join([*lines, f"{gain:.2f} × the rate without tuning; kept in {self.path}"])


def candidates(spec: EngineSpec, cores: int, *, openvino: bool) -> list[Setting]:
    """List the settings that are worth trying. The first one is that of an untuned engine.

    Args:
        spec: the engine's specification. Either runtime can run fp32; an engine in a lower precision names its runtime.
        cores: number of cores that this process may use.
        openvino: whether OpenVINO is installed.
    """
    runtimes = [spec.runtime] if spec.precision != "fp32" else ["onnxruntime", *(["openvino"] if openvino else [])]
    found = []
    for runtime in runtimes:
        if runtime == "onnxruntime":
            # OrtEngine's default comes first. With half the threads, none waits for a core that other programs use.
            for threads in dict.fromkeys((cores, max(1, cores // 2))):
                found += [Setting(runtime, threads, 1, 1, batch) for batch in sorted(_BATCHES, key=lambda b: b != 4)]
            continue
        for streams in dict.fromkeys((cores, max(1, cores // 2), 1)):
            for size in REQUEST_SIZES:
                found.append(Setting(runtime, cores, streams, size, max(4, 2 * streams * size)))
    return found


def _pixels(spec: EngineSpec) -> npt.NDArray[np.uint8]:
    """Load 16 real photos, or as many as there are."""
    photos = demo_photos()
    images = [prepare(str(photo), spec.input) for photo in photos[:16]]
    return np.stack(images)


def _rate(engine: Engine, pixels: npt.NDArray[np.uint8], batch: int) -> float:
    repeated = pixels if batch <= len(pixels) else np.concatenate([pixels] * -(-batch // len(pixels)))
    began = time.perf_counter()
    done = 0
    while not done or time.perf_counter() - began < _TURN_S:
        engine.run(repeated[:batch])
        done += batch
    return done / (time.perf_counter() - began)


def tune(engine: str | Path, *, seconds: float = SECONDS, log: Callable[[str], None] = lambda line: None) -> Tuned:
    """Try how an engine runs fastest on this machine, and keep the result beside the engine as ``ENGINE.tune.json``.

    `isc_fast.load_engine` uses the result as long as the engine file, the processor and the number of cores are the same.
    Rates are medians over rounds. Every setting has a turn in each round, so that other programs disturb all alike.

    Args:
        engine: the engine file.
        seconds: time that the trials may take, without loading. Every setting gets one turn, even if the time is up.
        log: called with one line of text for each round, and for each setting that is left out.

    Raises:
        EngineError: there is no such engine, nothing on this machine can run it, or it is the one inside the package.
        OutputError: the result cannot be written beside the engine.
        MissingExtraError: the engine's runtime is not installed.
    """
    file = engine_file(engine)
    kind = kind_of(file)
    if kind is None or not kind.tunable:
        takes = " or ".join(kind.suffix for kind in KINDS.values() if kind.tunable)
        raise EngineError(f"{file} was compiled for its machine and runs one way only; expected an {takes} engine")
    if file == DEMO_ENGINE:
        raise EngineError("the engine inside the package stays as it is, so that its figures do; tune one of your own")
    spec = read_spec(file)
    settings = candidates(spec, available_cores(), openvino=importlib.util.find_spec("openvino") is not None)
    pixels = _pixels(spec)
    loaded: dict[Setting, Engine] = {}
    expected = None
    for setting, opened in _open_all(file, settings):
        found = opened.run(pixels[:2])
        expected = found if expected is None else expected
        if not (expected * found).sum(axis=1).min() >= _SAME:  # "not >=" and not "<", so that NaN is left out too
            log(f"left out, since it describes otherwise: {setting}")
            continue
        loaded[setting] = opened
    if not loaded:
        raise EngineError(f"{file} gives descriptors that are not numbers (NaN); export it again")
    default = next(iter(loaded))
    rates: dict[Setting, list[float]] = {setting: [] for setting in loaded}
    began = time.monotonic()
    for number in range(_ROUNDS):
        if number and time.monotonic() - began > seconds:
            break
        for setting, opened in loaded.items():
            if number == 1 and setting != default and rates[setting][0] < _HOPELESS * max(r[0] for r in rates.values()):
                continue
            if number > 1 and len(rates[setting]) < number:
                continue
            rates[setting].append(_rate(opened, pixels, setting.batch_size))
        log(f"round {number + 1}: best so far {max(statistics.median(r) for r in rates.values()):.2f} images/s")
    medians = {setting: statistics.median(found) for setting, found in rates.items()}
    # A setting that was given up after one round may have been lucky in it, so it stands behind those with all rounds.
    ordered = dict(sorted(medians.items(), key=lambda item: (len(rates[item[0]]), item[1]), reverse=True))
    best = next(iter(ordered))
    path = save_setting(file, loaded[best].id, best, ordered[best])
    return Tuned(best, ordered, path, medians[default])


def _open_all(file: Path, settings: list[Setting]) -> Iterator[tuple[Setting, Engine]]:
    """Yield each setting with an engine that is loaded with it. Settings that differ only in the batch share an engine.

    Raises:
        EngineError: no setting runs on this machine.
    """
    shared: dict[tuple[str, int, int, int], Engine] = {}
    problem: EngineError | None = None
    for setting in settings:
        key = (setting.runtime, setting.threads, setting.streams, setting.request_size)
        if key not in shared:
            try:
                shared[key] = open_with(file, setting.runtime, setting=setting)
            except EngineError as error:
                problem = error
                continue
        yield setting, shared[key]
    if problem and not shared:
        raise problem
