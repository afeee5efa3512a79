"""The options of a run.

They decide how a stage runs; `isc_fast.training.stages.Stage` decides what it trains. An option that changes the trained
network says so.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from ..errors import InputError
from .stages import ViewsOn


class StepsDone(KeyboardInterrupt):
    """A run made as many steps as ``max_steps`` allows and saved its state. The same call goes on from there."""


@dataclass(frozen=True)
class RunOptions:
    """How a stage runs.

    Attributes:
        device: ``cpu`` or ``cuda``. By default, training uses a GPU if there is one.
        workers: the number of loader processes that make views for each training process. By default, it is the process's
            share of the cores with a GPU, and 1 without a GPU.
        views_on: where views are made: ``"workers"`` makes them in the loader processes, ``"device"`` makes them on the
            training device from the bytes of the files.
        seed: the seed of all random numbers. It changes the trained network.
        accumulate: the number of parts in which a process computes its share of a batch. More parts need less memory. The
            loss is still the loss of the whole batch. It changes the trained network in one way: batch normalisation sees
            one part at a time.
        compile: whether ``torch.compile`` compiles the network.
        ema_decay: the decay of an exponential moving average of the weights, which is saved and evaluated beside the
            weights. None means that there is no average.
        log_every: the number of steps between two rows of ``log.csv``.
        checkpoint_minutes: the minutes between two saved states. A state is also saved at the end of each epoch.
        teacher_device: what the teacher of a distilled network runs on: ``cpu``, ``cuda`` or ``cuda:1``. By default, it is
            the device that the network trains on.
        evaluate: a folder with ``query_images``, ``reference_images`` and a ground truth. The network is evaluated on it
            after each epoch.
        fonts, emoji: folders with fonts and emoji for the hard views. By default, installed ones are used.
        max_steps: save the state and stop after this many steps, which is useful for a trial. The run ends with `StepsDone`.
    """

    device: str | None = None
    workers: int | None = None
    views_on: ViewsOn = "workers"
    seed: int = 0
    accumulate: int = 1
    compile: bool = False
    ema_decay: float | None = None
    log_every: int = 20
    checkpoint_minutes: float = 10.0
    teacher_device: str | None = None
    evaluate: Path | None = None
    fonts: Path | None = None
    emoji: Path | None = None
    max_steps: int | None = None

    def __post_init__(self) -> None:
        for name, lowest in (("workers", 0), ("seed", 0), ("accumulate", 1), ("log_every", 1), ("max_steps", 1)):
            value = getattr(self, name)
            if value is not None and value < lowest:
                raise InputError(f"{name} must be at least {lowest}, not {value}")
        if self.ema_decay is not None and not 0 < self.ema_decay < 1:
            raise InputError(f"the decay of the moving average must be between 0 and 1, not {self.ema_decay}")
        if not self.checkpoint_minutes > 0:
            raise InputError(f"checkpoint_minutes must be above 0, not {self.checkpoint_minutes}")
