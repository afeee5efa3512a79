"""The file in which ``isc-fast tune`` keeps what it found for one engine on one kind of machine; loading the engine uses it."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path

from ..files.atomic import write_text
from ..files.reading import parse_json
from ..machine.cores import available_cores, most_threads, processor
from .spec import RUNTIMES

_VERSION = 1
LARGEST_REQUEST = 64
"""Images of one request at most (OpenVINO)."""


@dataclass(frozen=True)
class Setting:
    """How to run an engine.

    Attributes:
        runtime: one of `isc_fast.engines.spec.RUNTIMES`.
        threads: threads of the processor.
        streams: requests beside each other (OpenVINO).
        request_size: images of one request (OpenVINO).
        batch_size: images in one call of the engine.
    """

    runtime: str
    threads: int
    streams: int
    request_size: int
    batch_size: int

    def __str__(self) -> str:
        streams = f", {self.streams} streams of {self.request_size}" if self.runtime == "openvino" else ""
        return f"{self.runtime}, {self.threads} threads{streams}, batch {self.batch_size}"


def tuning_path(engine: Path) -> Path:
    """Return the file that keeps an engine's setting: ``v107.onnx`` → ``v107.onnx.tune.json``."""
    return engine.with_name(engine.name + ".tune.json")


def save_setting(engine: Path, engine_id: str, setting: Setting, images_per_s: float) -> Path:
    """Keep a setting for this engine file on this kind of machine, and return the file.

    Raises:
        OutputError: the file cannot be written.
    """
    content = {
        "version": _VERSION,
        "engine_id": engine_id,
        "processor": processor(),
        "cores": available_cores(),
        "setting": asdict(setting),
        "images_per_s": round(images_per_s, 3),
    }
    path = tuning_path(engine)
    write_text(path, json.dumps(content, indent=1) + "\n")
    return path


def saved_setting(engine: Path, engine_id: str) -> Setting | None:
    """Return the setting that was found for this very engine on such a machine, or None.

    A damaged file, one from another kind of machine and one that asks for more than this machine has count as None, because a
    setting is only about speed.
    """
    try:
        content = parse_json(tuning_path(engine).read_text("utf-8"))
        here = (_VERSION, engine_id, processor(), available_cores())
        if tuple(content[key] for key in ("version", "engine_id", "processor", "cores")) != here:
            return None
        setting = Setting(**content["setting"])
    except (OSError, ValueError, KeyError, TypeError):
        return None
    numbers = (setting.threads, setting.streams, setting.request_size, setting.batch_size)
    threads = most_threads()
    limits = (threads, threads, LARGEST_REQUEST, 2 * threads * LARGEST_REQUEST)
    sensible = all(type(number) is int and 0 < number <= most for number, most in zip(numbers, limits, strict=True))
    return setting if sensible and setting.runtime in RUNTIMES else None
