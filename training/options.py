"""How a stage is run, as opposed to what it is: nothing here changes what is trained, except where it says so."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from ..errors import InputError
from .data.dataset import ViewsOn


@dataclass(frozen=True)
class RunOptions:
    """How a stage is run.

    Attributes:
        device: ``cpu`` or ``cuda``; by default a GPU where there is one.
        workers: processes that make views, for each training process; by default its share of the cores with a GPU, and
            one without.
        views_on: where views are made: by the workers, or on the training device from the files' bytes.
        seed: of everything that is drawn. It changes what is trained.
        accumulate: parts that a process's share of a batch is computed in, to save memory. The loss is that of the whole
            batch. It changes what is trained in one way: batch normalisation sees a part at a time.
        compile: whether the network goes through ``torch.compile``.
        ema_decay: of an exponential moving average of the weights, saved and evaluated beside them; None for none.
        log_every: steps between rows of ``log.csv``.
        checkpoint_minutes: time between states to resume from, besides the one at the end of each epoch.
        evaluate: folder with ``query_images``, ``reference_images`` and a ground truth that is evaluated after each epoch.
        fonts, emoji: folders for the hard views; by default what is installed.
        max_steps: stop after so many steps of the stage, as if it were interrupted then; for trying things out.
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
