"""What a ``.pt2`` package says of itself, read and written without torch; nothing in the package is executed.

Beside torch's own files a package holds, under ``extra/``, the engine's specification and what it was compiled for. Both
are plain JSON.
"""

from __future__ import annotations

import json
import zipfile
from dataclasses import asdict, dataclass, fields
from pathlib import Path

from ..errors import EngineError
from ..files.reading import one_line, parse_json
from ..machine.cores import processor_flags
from .header import parse_spec
from .spec import METADATA_KEY, EngineSpec

MADE_FOR_KEY = "isc_fast.made_for"
GRAPH_KEY = "isc_fast.graph"
"""Key in the metadata that torch compiles into the package; its value is `graph_name`."""

_EXTRA = "extra/"
_LARGEST_ENTRY_BYTES = 1_000_000
_VECTOR_FLAGS = ("avx", "amx", "fma", "f16c", "bmi", "sse4", "gfni", "vaes", "vpclmul", "movbe", "asimd", "sve", "bf16")


@dataclass(frozen=True)
class MadeFor:
    """What a package was compiled for, and so can run on.

    Attributes:
        device: ``"cpu"`` or ``"cuda"``.
        torch: version that compiled it, such as ``"2.14.1+cu130"``.
        machine: kind of processor, such as ``"x86_64"``.
        instructions: the processor's instructions that the compiler could use, in the system's words.
        cuda: version of CUDA that torch was built with; empty on the processor.
        gpu: name of the GPU; empty on the processor.
        capability: compute capability of the GPU, such as ``"9.0"``; empty on the processor.
        max_batch: images in one call at most.
    """

    device: str
    torch: str
    machine: str
    instructions: tuple[str, ...]
    cuda: str
    gpu: str
    capability: str
    max_batch: int

    def to_json(self) -> str:
        """One line of JSON with sorted keys."""
        return json.dumps(asdict(self), sort_keys=True)


def vector_instructions() -> tuple[str, ...]:
    """Return the instructions that this processor has beyond the oldest machines of its kind."""
    return tuple(sorted(flag for flag in processor_flags() if flag.startswith(_VECTOR_FLAGS)))


def graph_name(spec: EngineSpec) -> str:
    """Return the text that is compiled into the package, so that a specification cannot promise another input."""
    return f"uint8 {spec.height}x{spec.width}x3 to float32 {spec.dim}"


def read_package(path: Path) -> tuple[EngineSpec, MadeFor]:
    """Read the specification in a ``.pt2`` engine, and what it was compiled for; nothing in the file is executed.

    Raises:
        EngineError: the file is not a package, is damaged, was not made by isc-fast, or wants another preprocessing.
    """
    try:
        with zipfile.ZipFile(path) as package:
            found = {key: _extra(package, key) for key in (METADATA_KEY, MADE_FOR_KEY)}
    except OSError as error:
        raise EngineError(f"cannot read {path}: {error.strerror or error}") from error
    except Exception as error:  # a damaged directory or entry can raise nearly any error
        raise EngineError(
            f"{path} is not a .pt2 package, or it is damaged ({one_line(error)}); export it again"
        ) from error
    spec_text, made_for_text = found[METADATA_KEY], found[MADE_FOR_KEY]
    if spec_text is None or made_for_text is None:
        raise EngineError(
            f"{path} is a .pt2 package without an isc-fast specification, and nothing in it was executed; make the engine "
            "with isc-fast export"
        )
    return parse_spec(spec_text, path), _parse_made_for(made_for_text, path)


def _extra(package: zipfile.ZipFile, key: str) -> str | None:
    """Return one of isc-fast's entries or None; torch may give the folder around everything any name."""
    entries = [
        entry
        for entry in package.infolist()
        if entry.filename.partition("/")[2] == _EXTRA + key and entry.file_size <= _LARGEST_ENTRY_BYTES
    ]
    return package.read(entries[0]).decode() if len(entries) == 1 else None


def _parse_made_for(text: str, path: Path) -> MadeFor:
    names = [entry.name for entry in fields(MadeFor)]
    try:
        values = parse_json(text)
        made = MadeFor(**{name: values[name] for name in names})
        if made.device not in ("cpu", "cuda") or not made.max_batch >= 1:
            raise ValueError(f"device {made.device!r}, batch {made.max_batch!r}")
    except (ValueError, KeyError, TypeError) as error:
        raise EngineError(f"what {path} says it was compiled for is damaged ({error}); export it again") from error
    return made


def write_package(compiled: Path, spec: EngineSpec, made_for: MadeFor, target: Path) -> None:
    """Copy what torch compiled and put the specification and what it was compiled for into the copy.

    The C++ sources stay behind: nothing needs them once they are compiled, and they name folders of this machine.
    """
    with zipfile.ZipFile(compiled) as source, zipfile.ZipFile(target, "w") as package:
        entries = [entry for entry in source.infolist() if not entry.filename.endswith(".cpp")]
        content = [(entry.filename.partition("/")[2], source.read(entry)) for entry in entries]
        content += [(_EXTRA + METADATA_KEY, spec.to_json().encode())]
        content += [(_EXTRA + MADE_FOR_KEY, made_for.to_json().encode())]
        for name, data in content:
            # Stored without compression, as torch does it, because its reader maps the file.
            package.writestr(zipfile.ZipInfo(f"engine/{name}"), data, zipfile.ZIP_STORED)
