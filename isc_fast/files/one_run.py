"""One run at a time in an output folder."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

from ..errors import OutputError
from .atomic import output_error
from .locks import locked


class Held(OutputError):
    """Another run holds the folder."""


@contextlib.contextmanager
def one_run(folder: Path, output: str | None = None) -> Iterator[None]:
    """Keep other runs out of an output folder while the block runs. The lock is on the folder itself and leaves no file.

    Args:
        folder: exists.
        output: what the user calls it, if that is not its path.

    Raises:
        Held: another run holds it.
        OutputError: the folder cannot be opened.
    """
    try:
        descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError as error:
        raise output_error(folder, error) from error
    try:
        with contextlib.ExitStack() as stack:
            try:
                stack.enter_context(locked(descriptor, folder))
            except BlockingIOError as error:
                raise Held(
                    f"another run is writing to {output or folder}; wait until it ends, or choose another output: -o FOLDER"
                ) from error
            yield
    finally:
        os.close(descriptor)
