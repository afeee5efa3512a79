"""``python -m isc_fast`` is ``isc-fast``. An interrupt while the program is still being imported ends it without a traceback."""

# Not signal, which imports enum: an interrupt in these milliseconds would print a traceback.
import _signal as signal  # type: ignore[import-not-found]
import os
import sys


def _leave(*_: object) -> None:
    os._exit(130)


def main() -> int:
    """Run the command line; returns the exit status."""
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, _leave)  # until the verb begins: see isc_fast.cli.process.Interrupts
    from .cli.main import main as command_line

    return command_line()


if __name__ == "__main__":
    sys.exit(main())
