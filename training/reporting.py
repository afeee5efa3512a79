"""What a command that trains says at its end, where torchrun may have started several processes of it."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator

from ..errors import IscFastError
from .launched import current_rank
from .options import StepsDone


@contextlib.contextmanager
def reported_once(max_steps: int | None, note: Callable[[str], None]) -> Iterator[None]:
    """Let the first process alone report errors, and end the block without one if it made as many steps as ``max_steps`` allows.

    Args:
        max_steps: see `isc_fast.training.options.RunOptions`.
        note: a function that receives one line if ``max_steps`` ended the run.

    Raises:
        SystemExit: something failed, and this is not the first process.
        IscFastError, KeyboardInterrupt: the block's own, in the first process.
    """
    try:
        yield
    except StepsDone:
        if current_rank() == 0:
            note(f"stopped after {max_steps} steps, as --max-steps says; the same command goes on from the saved state")
    except (IscFastError, KeyboardInterrupt):
        if current_rank() == 0:
            raise
        raise SystemExit(1) from None
