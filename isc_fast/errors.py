"""Every error isc-fast raises on purpose, and the check for optional packages.

    IscFastError
    ├── InputError            an image source, list file or option that cannot be used
    ├── FormatError           a descriptor, matches or truth file that is not what it should be
    │   └── DamageError       … because its bytes are not those that were written
    ├── MismatchError         two files that are each fine but must not be used together
    ├── EngineError           an engine that cannot be loaded or run
    ├── CheckpointError       training weights that cannot be read safely or do not fit
    ├── TrainingError         a training run that cannot continue
    ├── ParityError           an exported engine that does not agree with the network it came from
    ├── DownloadError         published weights that could not be fetched
    ├── StoreError            a bucket or a server that cannot be reached, or refuses
    ├── OutputError           a result that cannot be written (disk full, no permission, in use)
    └── MissingExtraError     an optional package that is not installed

The command line prints the message of any of them as one line, ``error: …``, and exits with status 1. A message names
what was found, what was expected, and what to do next.
"""

from __future__ import annotations

import importlib
import re
from types import ModuleType

_LINE_BREAKS = re.compile("[\n\r\v\f\x1c-\x1e\x85\u2028\u2029]")
"""What `str.splitlines` splits at; names of files and ids may hold it."""


class IscFastError(Exception):
    """Base of every error that isc-fast raises on purpose. Its text is one line."""

    def __str__(self) -> str:
        return _LINE_BREAKS.sub(lambda found: found[0].encode("unicode_escape").decode("ascii"), super().__str__())


class InputError(IscFastError):
    """An image source, list file or option that cannot be used."""


class FormatError(IscFastError):
    """A descriptor, matches or ground-truth file that is not what it should be."""


class DamageError(FormatError):
    """A file whose bytes are not those that were written, or no longer all there.

    Args:
        message: for the user.
        place: where the damage is, in words, for a message that says something else of the file.
    """

    def __init__(self, message: str, place: str = "") -> None:
        super().__init__(message)
        self.place = place or message


class MismatchError(IscFastError):
    """Two files that are each fine but must not be used together."""


class EngineError(IscFastError):
    """An engine file that cannot be loaded or run."""


class CheckpointError(IscFastError):
    """Training weights that cannot be read safely, or that do not fit the network."""


class TrainingError(IscFastError):
    """A training run that cannot continue, because its loss or a weight is NaN or infinite."""


class ParityError(IscFastError):
    """An exported engine whose descriptors differ from the network's."""


class DownloadError(IscFastError):
    """Published weights that could not be fetched."""


class StoreError(IscFastError):
    """A bucket or a server that cannot be reached, or refuses. What was done until then is kept, and the same command goes on."""


class OutputError(IscFastError):
    """A result that cannot be written."""


class MissingExtraError(IscFastError):
    """An optional package that is not installed."""


def require(module: str, extra: str) -> ModuleType:
    """Import an optional package, or raise an error that names the command which installs it.

    Args:
        module: dotted name of the module, e.g. ``"onnxruntime"``.
        extra: the extra of isc-fast that installs it, e.g. ``"cpu"``.

    Raises:
        MissingExtraError: the package is not installed, or is installed and broken.
    """
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        missing = (error.name or module).partition(".")[0]
        raise MissingExtraError(
            f"this needs {missing}, which is not installed; run: pip install 'isc-fast[{extra}]'"
        ) from error
    except (ImportError, OSError) as error:  # torch raises OSError when a library of CUDA is missing
        raise MissingExtraError(
            f"{module.partition('.')[0]} is installed but does not import ({error}); "
            f"run: pip install --force-reinstall 'isc-fast[{extra}]'"
        ) from error
