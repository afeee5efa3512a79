"""Finding out what works on this machine: the processor, GPUs and libraries, and every decoder, engine and search.

A library may be installed and broken, and some libraries end the whole process when their driver is missing. This
module therefore imports nothing heavy. Every trial is a function (`isc_fast.runs.checks.trials`) that another process calls
with a time limit (`isc_fast.machine.trial_run`).
"""

from __future__ import annotations

import json
import os
import platform
import textwrap
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from ...machine.cores import BF16_FLAGS, available_cores, processor, processor_flags
from ...machine.gpus import describe_gpus
from ...machine.trial_run import ABSENT, BROKEN, WORKS, Answer, Trial, run_trial
from ...machine.versions import installed
from .trials import all_trials

Probe = Callable[..., Answer]
"""A function that calls another function with its arguments in another process, as `run_trial` does."""

NO_GPU = "no GPU"
"""The state of a row that needs a GPU, on a machine that has none. The other states are those of an `Answer`."""

# Packages that put their files into the same folder. The one installed last wins, and removing either breaks both.
_SHARED_FOLDERS = {
    "onnxruntime": ("onnxruntime", "onnxruntime-gpu", "onnxruntime-openvino", "onnxruntime-directml"),
    "faiss": ("faiss-cpu", "faiss-gpu", "faiss-gpu-cu11", "faiss-gpu-cu12", "faiss-gpu-cuvs"),
}
_LIBRARIES = (
    *("numpy", "h5py", "pillow", "simplejpeg", "cykooz-resizer", "pyarrow"),
    *(name for names in _SHARED_FOLDERS.values() for name in names),
    *("openvino", "torch", "torchvision", "timm", "onnx", "onnxscript"),
    *("tensorrt", "tensorrt-cu12", "tensorrt-cu13", "tensorrt-rtx", "tensorrt-rtx-cu13"),
    *("nvidia-dali-cuda120", "nvidia-dali-cuda130", "nvidia-nvimgcodec-cu12", "nvidia-nvimgcodec-cu13"),
    *("cuda-bindings", "nvidia-ml-py"),
)
_INSTRUCTIONS = {
    "AVX2": {"avx2"},
    "AVX-512": {"avx512f"},
    "VNNI": {"avx512_vnni", "avx_vnni"},
    "bf16": BF16_FLAGS,
    "AMX": {"amx_tile"},
    "NEON": {"asimd"},
    "SVE": {"sve"},
}
_DRIVER = Path("/proc/driver/nvidia/version")
_PCI = Path("/sys/bus/pci/devices")
_WIDTH = 110


@dataclass(frozen=True)
class Finding:
    """One row of the diagnosis.

    Attributes:
        group: ``"machine"``, ``"libraries"``, ``"decoders"``, ``"engines"`` or ``"search"``.
        name: name of the row.
        state: `WORKS`, `ABSENT`, `BROKEN` or `NO_GPU`.
        detail: one line that says what was found, or why it does not work.
        repair: the command or the step that installs or repairs it, or None.
    """

    group: str
    name: str
    state: str
    detail: str
    repair: str | None = None


@dataclass(frozen=True)
class Diagnosis:
    """What `diagnose` found.

    Attributes:
        findings: the rows, in the order in which they are shown.
        versions: the versions of the installed libraries, by name.
    """

    findings: Sequence[Finding]
    versions: Mapping[str, str]

    @property
    def can_run(self) -> bool:
        """Whether at least one kind of engine runs here."""
        return any(found.group == "engines" and found.state == WORKS for found in self.findings)

    def to_dict(self) -> dict[str, Any]:
        """Return plain data for JSON."""
        rows = [asdict(found) for found in self.findings]
        return {"can_run": self.can_run, "findings": rows, "versions": dict(self.versions)}

    def __str__(self) -> str:
        lines: list[str] = []
        group = ""
        for found in self.findings:
            if found.group != group:
                lines += ["", found.group] if lines else [found.group]
                group = found.group
            head = f"  {found.name:<22} {found.state:<6} "
            lines += textwrap.wrap(found.detail, _WIDTH, initial_indent=head, subsequent_indent=" " * len(head))
            if found.repair:
                lines.append(f"{'':<{len(head)}}→ {found.repair}")
        broken = [found.name for found in self.findings if found.state == BROKEN]
        if not self.can_run:
            verdict = "no engine runs here; begin with: pip install 'isc-fast[cpu]'"
        elif broken:
            verdict = f"engines run here; installed and broken: {', '.join(broken)}"
        else:
            verdict = "engines run here; whatever is installed works"
        return "\n".join([*lines, "", verdict])


def installed_versions() -> dict[str, str]:
    """Return the versions of the libraries that isc-fast can use, by the name that pip knows. It imports no library."""
    return installed(_LIBRARIES)


def _has_nvidia_card() -> bool:
    """Return whether an NVIDIA display or 3D controller is plugged in, with or without a driver."""
    try:
        return any(
            (device / "vendor").read_text().strip() == "0x10de" and (device / "class").read_text().startswith("0x03")
            for device in _PCI.iterdir()
        )
    except OSError:
        return False


def _machine() -> list[Finding]:
    threads = os.cpu_count() or 1
    cores = available_cores()
    flags = processor_flags()
    able = [name for name, any_of in _INSTRUCTIONS.items() if flags & any_of]
    lacks = [name for name in ("AVX-512", "VNNI", "bf16", "AMX") if name not in able and flags & {"avx2"}]
    limited = "" if cores == threads else f" of {threads} (the others are kept from this process)"
    rows = [
        ("Python", f"{platform.python_version()}, {platform.system()} {platform.machine()}"),
        ("processor", f"{processor()}, {cores} core{'s' * (cores > 1)}{limited}"),
        ("instructions", f"{', '.join(able) or 'unknown'}{'; not ' + ', '.join(lacks) if lacks else ''}"),
    ]
    return [Finding("machine", name, WORKS, detail) for name, detail in rows]


def _gpus(probe: Probe) -> tuple[list[Finding], bool]:
    """Return rows for the driver and every GPU, and whether there is a GPU to compute on."""
    answer = probe(describe_gpus)
    if answer.state == WORKS:
        try:
            found = json.loads(answer.detail)
            driver, gpus = str(found["driver"]), [str(gpu) for gpu in found["gpus"]]
        except (ValueError, KeyError, TypeError):
            answer = Answer(BROKEN, f"the driver gave an answer that cannot be read: {answer.detail[:80]}")
        else:
            if gpus:
                rows = [Finding("machine", "NVIDIA driver", WORKS, driver)]
                return [*rows, *(Finding("machine", f"GPU {i}", WORKS, gpu) for i, gpu in enumerate(gpus))], True
            answer = Answer(BROKEN, f"driver {driver} is installed and shows no GPU; is CUDA_VISIBLE_DEVICES empty?")
    if not _DRIVER.exists():
        if not _has_nvidia_card():
            return [
                Finding("machine", "NVIDIA GPU", NO_GPU, "no card and no driver: engines run on the processor")
            ], False
        detail = "a card is here and no driver; in a container: start it with --gpus all"
        return [Finding("machine", "NVIDIA driver", BROKEN, detail, "install NVIDIA's driver for this system")], False
    if answer.state == ABSENT:
        answer = Answer(BROKEN, "a driver is here, and nothing installed can ask it", "pip install nvidia-ml-py")
    return [Finding("machine", "NVIDIA driver", BROKEN, answer.detail, answer.repair)], False


def _libraries(versions: Mapping[str, str], has_gpu: bool) -> list[Finding]:
    listed = ", ".join(f"{name} {version}" for name, version in versions.items())
    rows = [Finding("libraries", "installed", WORKS, listed or "none of those that isc-fast can use")]
    for folder, names in _SHARED_FOLDERS.items():
        both = [name for name in names if name in versions]
        if len(both) > 1:
            keep = "gpu" if has_gpu else "cpu"
            rows.append(
                Finding(
                    "libraries",
                    f"{folder} files",
                    BROKEN,
                    f"{' and '.join(both)} are both installed into one folder: the last one won, and removing one breaks both",
                    f"pip uninstall -y {' '.join(both)} && pip install 'isc-fast[{keep}]'",
                )
            )
    return rows


def _judge(trial: Trial, answer: Answer, has_gpu: bool, clashing: frozenset[str]) -> Finding:
    if trial.needs_gpu and not has_gpu:
        return Finding(trial.group, trial.name, NO_GPU, "needs an NVIDIA GPU")
    if answer.state == WORKS:
        return Finding(trial.group, trial.name, WORKS, answer.detail)
    repair = answer.repair or (trial.repair if answer.state == ABSENT else f"{trial.repair} --force-reinstall")
    if trial.shares in clashing:
        repair = f"first the repair of {trial.shares} files above"
    return Finding(trial.group, trial.name, answer.state, answer.detail, repair)


def diagnose(
    *,
    probe: Probe = run_trial,
    versions: Mapping[str, str] | None = None,
    trials: Sequence[Trial] | None = None,
) -> Diagnosis:
    """Find out what works on this machine. It takes some seconds and raises nothing: whatever is broken becomes a row.

    Args:
        probe: calls the function of a trial; by default in another process.
        versions: the versions of the installed libraries; by default `installed_versions` finds them.
        trials: the trials to run; by default `isc_fast.runs.checks.trials.all_trials`.
    """
    trials = all_trials() if trials is None else trials
    known = installed_versions() if versions is None else versions
    machine = _machine()
    gpus, has_gpu = _gpus(probe)
    libraries = _libraries(known, has_gpu)
    clashing = frozenset(row.name.removesuffix(" files") for row in libraries if row.state == BROKEN)

    def answer(trial: Trial) -> Answer:
        return probe(trial.function, *trial.arguments) if has_gpu or not trial.needs_gpu else Answer(ABSENT, "")

    with ThreadPoolExecutor(max_workers=available_cores()) as pool:
        answers = list(pool.map(answer, trials))
    tried = [_judge(trial, answer, has_gpu, clashing) for trial, answer in zip(trials, answers, strict=True)]
    return Diagnosis([*machine, *gpus, *libraries, *tried], known)
