"""The trainer runs one stage to its last checkpoint, from its first step or from the saved state of an interrupted run."""

from __future__ import annotations

import contextlib
import math
import signal
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from types import FrameType
from typing import Any

import torch

from ...engines.protocol import Engine
from ...errors import IscFastError, TrainingError
from ...networks.checkpoint import save_checkpoint
from ...progress import ProgressCallback
from ..data.dataset import SampleDataset, make_loader
from ..data.held_out import HeldOut
from ..data.inputs import InputMaker
from ..data.sampling import KeySampler, steps_per_epoch
from ..names import STATE_FILE, checkpoint_path
from ..options import RunOptions, StepsDone
from .distributed import sum_over_processes, wait_for_all
from .evaluation import evaluate_net
from .journal import Journal, LogRow
from .learner import Learner
from .losses import LossParts
from .state import Identity, Position, load_state, save_state

_FIGURES = ("loss", "positive", "negative", "positive_distance", "negative_distance", "active_negatives")
# The trainer warns of a collapse if the share of active negatives is above _COLLAPSING and above _GROWN times its first value.
_COLLAPSING, _GROWN = 0.05, 2.0
_Log = Callable[[str], None]


@contextlib.contextmanager
def _signals_noted() -> Iterator[list[int]]:
    """Note the first SIGINT or SIGTERM in the yielded list instead of stopping at once.

    The trainer then finishes its step and saves its state. A second signal raises KeyboardInterrupt at once.
    """
    noted: list[int] = []
    if threading.current_thread() is not threading.main_thread():
        yield noted
        return

    def note(number: int, _frame: FrameType | None) -> None:
        if noted:
            raise KeyboardInterrupt
        noted.append(number)

    # What this process was told to ignore, as a script's background ignores SIGINT, stays ignored.
    heard = [number for number in (signal.SIGINT, signal.SIGTERM) if signal.getsignal(number) is not signal.SIG_IGN]
    before = {number: signal.signal(number, note) for number in heard}
    try:
        yield noted
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@dataclass
class _Step:
    """A step whose figures the device may still be computing."""

    position: Position  # the position after the step
    figures: torch.Tensor  # the values of _FIGURES
    flags: torch.Tensor  # sums over all processes: stop signals, whether a state is due, skipped images
    names: list[str]
    wait_s: float  # how long the step waited for the loader
    seconds: float = 0.0  # the time since the step before


class Trainer:
    """Runs one stage and writes its files into a folder.

    Args:
        learner: the network and its optimizer, with the weights that the stage starts from.
        dataset: the samples of the stage.
        identity: what a saved state must agree with before the run continues from it.
        options: how the stage runs.
        folder: the folder for checkpoints, logs and the saved state.
        workers: the number of loader processes that make views.
        held_out: the images to evaluate on after each epoch, or None.
        teacher: the engine that the stage learns from, or None.
        progress: a function that is called with the finished steps, all steps and the skipped images.
        log: a function that receives one line after each epoch.
    """

    def __init__(
        self,
        learner: Learner,
        dataset: SampleDataset,
        identity: Identity,
        options: RunOptions,
        folder: Path,
        *,
        workers: int,
        held_out: HeldOut | None = None,
        teacher: Engine | None = None,
        progress: ProgressCallback | None = None,
        log: _Log | None = None,
    ) -> None:
        self.learner, self._dataset, self._identity, self._options = learner, dataset, identity, options
        self._stage, self._process, self._folder = identity.stage, learner.process, folder
        self._held_out = held_out
        self._progress = progress or (lambda *_: None)
        self._log = log or (lambda _: None)
        self._sampler = KeySampler(
            self._stage, len(dataset), seed=options.seed, rank=self._process.rank, world_size=self._process.world_size
        )
        self._loader = make_loader(dataset, self._sampler, workers=workers, pin=self._process.device.type == "cuda")
        self._inputs = InputMaker(
            learner.net, dataset, self._process.device, channels_last=self._stage.channels_last, teacher=teacher
        )
        self._steps = steps_per_epoch(self._stage, len(dataset))
        self._warned, self._first_active = False, 0.0

    def run(self, *, resume: bool) -> None:
        """Train to the end of the stage.

        Args:
            resume: whether to continue from the saved state in the folder, if there is one.

        Raises:
            KeyboardInterrupt: the run received SIGINT or SIGTERM and has saved its state; `StepsDone` after as many steps as
                ``max_steps``.
            TrainingError: the loss or a weight became infinite or NaN.
        """
        state = self._folder / STATE_FILE
        position = Position(self._stage.first_epoch)
        if resume and state.exists():
            position = load_state(state, self.learner, self._identity)
        self._journal = Journal(self._folder, self._process.rank, position)
        self._done = 0
        self._state_due = self._next_state()
        with _signals_noted() as signals:
            self._signals = signals
            self._report(position)
            stop = False
            try:
                while position.epoch <= self._stage.use_epoch and not stop:
                    position = self._epoch(position)
                    stop = bool(
                        self._flags(0)[0]
                    )  # a signal may come in the last step or while a checkpoint is written
            except IscFastError as error:
                if (
                    not self._process.first
                ):  # only the first process reports errors, and this one may be the only to fail
                    self._log(f"process {self._process.rank}: {error}")
                raise
        if self._process.first and position.epoch > self._stage.use_epoch:
            state.unlink(missing_ok=True)
        wait_for_all()
        if stop:  # even if the stage is complete, because a schedule must not start its next stage
            raise KeyboardInterrupt

    def _next_state(self) -> float:
        return time.monotonic() + 60 * self._options.checkpoint_minutes

    def _report(self, position: Position) -> None:
        epochs = self._stage.use_epoch + 1 - self._stage.first_epoch
        done = (position.epoch - self._stage.first_epoch) * self._steps + position.step
        self._progress(done, epochs * self._steps, position.skipped)

    def _epoch(self, position: Position) -> Position:
        """Run an epoch from a position in it, and return the position where the next epoch starts."""
        rate = self.learner.set_epoch(position.epoch)
        self._sampler.epoch, self._sampler.first_step = position.epoch, position.step
        window = _Window(self._stage.images_per_step, rate)
        # The trainer reads the figures of a step while the device computes the next step, so that the device never waits.
        pending: list[_Step] = []
        began = time.monotonic()
        for batch in self._loader:
            waited = time.monotonic() - began
            parts = self.learner.step(*self._inputs(batch))
            self._journal.skipped(batch.skipped)
            position = Position(position.epoch, position.step + 1, position.skipped)
            pending.append(_Step(position, _figures(parts), self._flags(len(batch.skipped)), batch.names, waited))
            self._done += 1
            stop = save = False
            if len(pending) > 1:
                stop, save, position = self._settle(pending.pop(0), window, position)
            now = time.monotonic()
            pending[-1].seconds, began = now - began, now
            enough = self._options.max_steps == self._done
            if stop or save or enough:
                position = self._settle_all(pending, window, position)
                self._save(position)
            if stop or enough:
                raise KeyboardInterrupt if stop else StepsDone
        return self._end_epoch(self._settle_all(pending, window, position), window)

    def _flags(self, skipped: int) -> torch.Tensor:
        """Exchange the flags of a step between the processes. The first process's clock decides when a state is due."""
        due = self._process.first and time.monotonic() >= self._state_due
        if due:
            self._state_due = self._next_state()
        flags = torch.tensor([len(self._signals) > 0, due, skipped], dtype=torch.int64)
        return sum_over_processes(flags.to(self._process.device, non_blocking=True))

    def _settle(self, step: _Step, window: _Window, position: Position) -> tuple[bool, bool, Position]:
        """Read the figures of a step.

        Returns:
            whether to stop, whether to save a state, and the position with the step's skipped images counted.
        """
        figures = step.figures.tolist()
        stop, save, skipped = step.flags.tolist()
        if not math.isfinite(figures[0]):
            raise self._no_number("the loss", figures[0], step.position, step.names)
        position = Position(position.epoch, position.step, position.skipped + skipped)
        window.add(figures, step)
        if step.position.step % self._options.log_every == 0:
            self._write_row(window, step.position.step - 1, position)
        self._report(position)
        return bool(stop), bool(save), position

    def _settle_all(self, pending: list[_Step], window: _Window, position: Position) -> Position:
        """Read the figures of all open steps, and check the weights.

        This comes before every write: the weights can hold NaN while the latest loss is still finite.
        """
        names = pending[-1].names if pending else []
        while pending:
            _, _, position = self._settle(pending.pop(0), window, position)
        if not self.learner.is_finite():
            raise self._no_number("a weight", "NaN or infinite", position, names)
        return position

    def _no_number(self, what: str, value: object, position: Position, names: list[str]) -> TrainingError:
        shown = ", ".join(names[:8]) + (f", … ({len(names)} images)" if len(names) > 8 else "")
        return TrainingError(
            f"{what} of {self._stage.name} is {value} at epoch {position.epoch}, step {position.step - 1}; this process's "
            f"batch: {shown}. Look at these images, and start the stage again with a lower learning rate or another precision: "
            f"--overwrite --set learning_rate={self._stage.learning_rate / 2:g}, or --overwrite --set precision=fp32; without "
            "--overwrite the same settings go on from a saved state of an earlier step"
        )

    def _write_row(self, window: _Window, step: int, position: Position) -> None:
        row = window.close(position.epoch, step, position.skipped)
        if not self._process.first:
            return
        self._journal.row(row)
        self._first_active = self._first_active or row.active_negatives
        if row.active_negatives > max(_COLLAPSING, _GROWN * self._first_active) and not self._warned:
            self._warned = True
            self._log(
                f"warning: {100 * row.active_negatives:.0f} % of the negative pairs are nearer than the margin (epoch "
                f"{row.epoch}, step {row.step}), {100 * self._first_active:.0f} % were at first: the network may be "
                "collapsing, whatever the loss says"
            )

    def _end_epoch(self, position: Position, window: _Window) -> Position:
        if window.steps:
            self._write_row(window, position.step - 1, position)
        epoch = position.epoch
        self._save_checkpoints(epoch)
        line = f"{self._stage.name}, epoch {epoch}: loss {window.last_loss:.4f}"
        if self._held_out is not None:
            line += f", µAP {self._evaluate(epoch):.4f}"
        if self._process.first:
            self._log(line)
        position = Position(epoch + 1, 0, position.skipped)
        self._save(position)
        return position

    def _save_checkpoints(self, epoch: int) -> None:
        if not self._process.first:
            return
        stage = self._stage
        options = {
            **{name: value for name, value in asdict(stage).items() if name != "hard_view"},
            "lr": stage.learning_rate, "world_size": self._process.world_size, "seed": self._options.seed,
        }  # fmt: skip
        common: dict[str, Any] = {
            "arch": stage.arch,
            "input_size": stage.input_size,
            "epoch": epoch + 1,
            "args": options,
        }
        path = checkpoint_path(self._folder, epoch)
        save_checkpoint(path, self.learner.net, optimizer=self.learner.optimizer, **common)
        if self.learner.ema is not None:
            save_checkpoint(path.with_name(f"ema_{epoch:04d}.pth.tar"), self.learner.ema.module, **common)

    def _evaluate(self, epoch: int) -> float:
        assert self._held_out is not None
        nets: dict[str, Any] = {"weights": self.learner.net}
        if self.learner.ema is not None:
            nets["ema"] = self.learner.ema.module
        micro_ap = 0.0
        for name, net in nets.items():
            scores = evaluate_net(net, self._held_out, self._stage.input_size, self._process)
            micro_ap = max(micro_ap, scores.micro_ap)
            if self._process.first:
                self._journal.evaluation({"epoch": epoch, "net": name, **asdict(scores)})
        self.learner.train()
        return micro_ap

    def _save(self, position: Position) -> None:
        if self._process.first:
            save_state(self._folder / STATE_FILE, self.learner, self._identity, position)


class _Window:
    """Sums up the figures of the steps since the last row of the log."""

    def __init__(self, images_per_step: int, learning_rate: float) -> None:
        self._images, self._rate = images_per_step, learning_rate
        self.last_loss = math.nan
        self._open()

    def _open(self) -> None:
        self._sums = [0.0] * len(_FIGURES)
        self.steps, self._wait_s, self._seconds = 0, 0.0, 0.0

    def add(self, figures: list[float], step: _Step) -> None:
        self._sums = [total + value for total, value in zip(self._sums, figures, strict=True)]
        self.steps += 1
        self._wait_s += step.wait_s
        self._seconds += step.seconds

    def close(self, epoch: int, step: int, skipped: int) -> LogRow:
        """Return the row of these steps, and start the next window."""
        seconds = max(self._seconds, 1e-9)
        means = {name: total / self.steps for name, total in zip(_FIGURES, self._sums, strict=True)}
        rate, wait = self.steps * self._images / seconds, min(self._wait_s / seconds, 1.0)
        self._open()
        self.last_loss = means["loss"]
        return LogRow(epoch, step, self._rate, **means, images_per_s=rate, data_wait=wait, skipped=skipped)


def _figures(parts: LossParts) -> torch.Tensor:
    return torch.stack([getattr(parts, name).detach().float() for name in _FIGURES])
