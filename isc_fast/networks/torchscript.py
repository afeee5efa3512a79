"""Reads the tensors of a TorchScript file by their names. Its program is not looked at.

``torch.jit.load`` runs the program that such a file holds. What the file says of its tensors is a pickle of module objects, which
is read here by an unpickler that makes plain containers, calls five functions of this module and knows nothing else.
"""

from __future__ import annotations

import io
import math
import pickle
import sys
import zipfile
from collections import OrderedDict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch

from ..errors import CheckpointError
from ..files.reading import one_line

_MOST_BYTES = 64 << 20  # of the pickle, which names some hundred tensors
_DTYPES = {
    "DoubleStorage": torch.float64,
    "FloatStorage": torch.float32,
    "HalfStorage": torch.float16,
    "BFloat16Storage": torch.bfloat16,
    "LongStorage": torch.int64,
    "IntStorage": torch.int32,
    "ShortStorage": torch.int16,
    "CharStorage": torch.int8,
    "ByteStorage": torch.uint8,
    "BoolStorage": torch.bool,
}


class _Module:
    """Stands for an object of the program: what it holds, by names."""

    def __init__(self) -> None:
        self.held: dict[str, Any] = {}

    def __setstate__(self, state: Any) -> None:
        if not isinstance(state, dict):
            raise pickle.UnpicklingError("an object holds something else than named values")
        self.held = {name: value for name, value in state.items() if isinstance(name, str)}


def _as_it_is(value: Any, *_: Any) -> Any:
    """What TorchScript says of the type of a list does not matter here."""
    return value


def _tensor(storage: Any, offset: Any, size: Any, stride: Any, *_: Any) -> torch.Tensor:
    """A tensor on a storage, which must hold all of its numbers."""
    if not isinstance(storage, torch.Tensor):
        raise pickle.UnpicklingError("a tensor without a storage")
    numbers = [offset, *size, *stride]
    if len(size) != len(stride) or not all(type(number) is int and number >= 0 for number in numbers):
        raise pickle.UnpicklingError("a tensor of no possible shape")
    last = offset + sum((length - 1) * step for length, step in zip(size, stride, strict=True))
    if math.prod(size) and last >= len(storage):
        raise pickle.UnpicklingError("a tensor that is larger than its storage")
    return storage.as_strided(tuple(size), tuple(stride), offset)


_FUNCTIONS: dict[tuple[str, str], Any] = {
    ("collections", "OrderedDict"): OrderedDict,
    ("torch._utils", "_rebuild_tensor_v2"): _tensor,
    ("torch._utils", "_rebuild_parameter"): _as_it_is,
    ("torch.jit._pickle", "restore_type_tag"): _as_it_is,
    **{("torch.jit._pickle", f"build_{kind}list"): _as_it_is for kind in ("int", "double", "bool", "tensor")},
}


class _Reader(pickle.Unpickler):
    """See the module's text."""

    def __init__(self, pickled: bytes, archive: zipfile.ZipFile, root: str) -> None:
        super().__init__(io.BytesIO(pickled))
        self._archive, self._root = archive, root
        self._storages: dict[str, torch.Tensor] = {}

    def find_class(self, module: str, name: str) -> Any:
        if module == "__torch__" or module.startswith("__torch__."):
            return _Module
        if module == "torch" and name in _DTYPES:
            return _DTYPES[name]
        if (module, name) in _FUNCTIONS:
            return _FUNCTIONS[module, name]
        raise pickle.UnpicklingError(f"it wants to run {module}.{name}")

    def persistent_load(self, pid: Any) -> torch.Tensor:
        if not (isinstance(pid, tuple) and len(pid) == 5 and pid[0] == "storage" and isinstance(pid[1], torch.dtype)):
            raise pickle.UnpicklingError("a storage of an unknown kind")
        _, dtype, key, _, count = pid
        if key not in self._storages:
            self._storages[key] = self._storage(dtype, str(key), int(count))
        return self._storages[key]

    def _storage(self, dtype: torch.dtype, key: str, count: int) -> torch.Tensor:
        entry = self._archive.getinfo(f"{self._root}/data/{key}")
        # torch packs no tensor, so a file never holds more than it is long.
        if entry.compress_type != zipfile.ZIP_STORED or entry.file_size != count * dtype.itemsize:
            raise pickle.UnpicklingError(f"the storage {key} has another size than it says")
        return (
            torch.frombuffer(bytearray(self._archive.read(entry)), dtype=dtype)
            if count
            else torch.empty(0, dtype=dtype)
        )


def _root_of(archive: zipfile.ZipFile) -> str | None:
    """The folder of a TorchScript archive; None where the archive is something else."""
    names = archive.namelist()
    roots = {name.partition("/")[0] for name in names if name.endswith("/data.pkl")}
    root = roots.pop() if len(roots) == 1 else None
    return root if root and any(name.startswith(f"{root}/code/") for name in names) else None


def is_torchscript(path: Path) -> bool:
    """Whether a file is a TorchScript archive. A file that cannot be read is none."""
    try:
        with zipfile.ZipFile(path) as archive:
            return _root_of(archive) is not None
    except Exception:  # a damaged directory can raise nearly any error
        return False


def _tensors(whole: _Module) -> Iterator[tuple[str, torch.Tensor]]:
    """All tensors in an object and the objects that it holds, each with its path."""
    waiting: list[tuple[str, _Module]] = [("", whole)]
    seen = {id(whole)}
    while waiting:
        prefix, module = waiting.pop()
        for name, value in module.held.items():
            if isinstance(value, torch.Tensor):
                yield prefix + name, value
            elif isinstance(value, _Module) and id(value) not in seen:
                seen.add(id(value))
                waiting.append((f"{prefix}{name}.", value))


def read_tensors(path: Path) -> dict[str, torch.Tensor]:
    """The tensors of a TorchScript file by their names, as ``state_dict`` would give them. Nothing in the file is executed.

    Raises:
        CheckpointError: the file cannot be read, is damaged, wants to run something, or names no tensor.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            root = _root_of(archive)
            entry = archive.getinfo(f"{root}/data.pkl")
            if entry.file_size > _MOST_BYTES:
                raise pickle.UnpicklingError("the list of its tensors is too long")
            if (
                f"{root}/byteorder" in archive.namelist()
                and archive.read(f"{root}/byteorder") != sys.byteorder.encode()
            ):
                raise pickle.UnpicklingError("its numbers have the other byte order")
            whole = _Reader(archive.read(entry), archive, str(root)).load()
        found = dict(_tensors(whole)) if isinstance(whole, _Module) else {}
    except OSError as error:
        raise CheckpointError(f"cannot read the checkpoint {path}: {error.strerror or error}") from error
    except Exception as error:  # a damaged file can raise nearly any error
        raise CheckpointError(
            f"{path} is a TorchScript file whose tensors cannot be read ({one_line(error)}), and nothing in it was executed; "
            "give the network's weights in another form, or get the file again"
        ) from error
    if not found:
        raise CheckpointError(
            f"{path} is a TorchScript file that names no tensors, as one that was frozen; give the network's weights in another "
            "form"
        )
    return found
