"""Reads and writes checkpoints in the published format.

Reading executes nothing that is in the file, and checks every key. Writing is atomic.
"""

from __future__ import annotations

import argparse
import os
import re
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from ..errors import CheckpointError, OutputError
from ..files.atomic import replacing
from ..files.reading import file_sha256, one_line
from .digests import digest_file, kept_digest
from .model import DescribingNet, DescriptorNet
from .torch_files import refuse_other_files

STUDENT_OF = "student_of"
"""The option of a run under which a checkpoint holds, as JSON, whose student the network is; see
`isc_fast.engines.spec.EngineSpec.teacher`."""

_WRAPPER = "module."  # DistributedDataParallel puts this in front of every name
_SHOWN = 5
_FLOATS = (torch.float64, torch.float32, torch.float16, torch.bfloat16)
_DTYPES = frozenset((*_FLOATS, torch.int64, torch.int32, torch.int16, torch.int8, torch.uint8, torch.bool))


@dataclass(frozen=True)
class Checkpoint:
    """The content of a checkpoint file.

    Attributes:
        path: the path of the file.
        arch: the backbone's timm name.
        state_dict: the network's tensors, on the CPU, with names that lack the ``module.`` of distributed training.
        input_size: the side of the square input in pixels, or None if the file does not say.
        gem_p: the power of the pooling at evaluation, or None if the file does not say. The published code keeps another
            one for training (``gem_p``) beside it (``gem_eval_p``).
        epoch: the number of finished epochs, or None if the file does not say.
        sha256: the SHA-256 of the file, in hexadecimal.
        args: the options of the training run that the file holds.
        optimizer: the optimizer's state, or None if the file holds none.
    """

    path: Path
    arch: str
    state_dict: Mapping[str, torch.Tensor]
    input_size: int | None
    gem_p: float | None
    epoch: int | None
    sha256: str
    args: Mapping[str, Any]
    optimizer: Any = None


def _few(names: Sequence[str]) -> str:
    more = f", … ({len(names)} in all)" if len(names) > _SHOWN else ""
    return ", ".join(names[:_SHOWN]) + more


def _first_sentence(error: Exception) -> str:
    """Return what torch says is wrong, without its advice, which would not be ours."""
    return re.split(r"(?<=[.!])\s", one_line(error))[0]


def _refused_globals(path: Path, error: Exception) -> list[str]:
    """Return the names that the pickle was not allowed to import. The list is empty if the error has another cause."""
    try:
        with torch.serialization.safe_globals([argparse.Namespace]):
            wanted = torch.serialization.get_unsafe_globals_in_checkpoint(path)
        if wanted:
            return sorted(wanted)
    except Exception:  # the file has the old format or is damaged, so only the error's message can hold the names
        pass
    found = re.findall(r"(?:GLOBAL|global:?)\s+(?:GLOBAL\s+)?([\w.]+\.[\w.]+)", str(error))
    return sorted(set(found))


def checked_digest(path: Path) -> str:
    """The SHA-256 of a file of weights, compared with the one that is kept beside it.

    Raises:
        CheckpointError: the file cannot be read, or is not the one whose digest was kept.
    """
    try:
        sha256 = file_sha256(path)
    except OSError as error:
        raise CheckpointError(f"cannot read the checkpoint {path}: {error.strerror or error}") from error
    expected = kept_digest(path)
    if expected not in (None, sha256):
        raise CheckpointError(
            f"{path} was changed: its SHA-256 is {sha256}, and {digest_file(path).name} beside it says {expected}; copy or "
            "download it again, or delete that file if the change was meant"
        )
    return sha256


def read_safely(path: Path) -> tuple[Any, str]:
    """Read a file that ``torch.save`` wrote, without executing anything in it.

    Returns:
        the content of the file and its SHA-256.

    Raises:
        CheckpointError: the file cannot be read, is not from ``torch.save``, is damaged, or holds more than plain data.
    """
    refuse_other_files(path)
    sha256 = checked_digest(path)
    try:
        with warnings.catch_warnings(), torch.serialization.safe_globals([argparse.Namespace]):
            warnings.simplefilter("ignore")
            return torch.load(path, map_location="cpu", weights_only=True), sha256
    except Exception as error:  # a damaged file can raise nearly any error
        refused = _refused_globals(path, error)
        if refused:
            raise CheckpointError(
                f"{path} was refused and nothing in it was executed: it wants to run {_few(refused)}, and a checkpoint "
                "needs tensors, plain values and argparse.Namespace only; get the weights from a source you trust"
            ) from error
        raise CheckpointError(
            f"{path} is damaged, cut short or not a checkpoint ({_first_sentence(error)}); copy or download it again"
        ) from error


def _is_plain_tensor(value: Any) -> bool:
    """Return whether this is a dense tensor of usual numbers whose bytes are all in the file.

    Numbers of 8 bits and fewer with a point cannot even be compared. A tensor with a stride of zero could claim terabytes.
    """
    return (
        torch.is_tensor(value)
        and value.dtype in _DTYPES
        and value.layout == torch.strided
        and value.device.type == "cpu"
        and not value.is_quantized
        and value.numel() * value.element_size() <= value.untyped_storage().nbytes()
    )


def named_tensors(path: Path, found: Any) -> dict[str, torch.Tensor]:
    """Check a ``state_dict``, and return its tensors by names without the ``module.`` of distributed training.

    Args:
        path: the file that it comes from, for messages.
        found: what stands in the place of the ``state_dict``.

    Raises:
        CheckpointError: it is not a ``state_dict``, or it holds other things than plain tensors, or values that are not
            finite.
    """
    if not isinstance(found, Mapping) or not found:
        raise CheckpointError(f"the state_dict of {path} is {type(found).__name__}; expected names and tensors")
    wrong = [str(key) for key, value in found.items() if not isinstance(key, str) or not _is_plain_tensor(value)]
    if wrong:
        raise CheckpointError(
            f"the state_dict of {path} holds entries that are not plain tensors of usual numbers with a name: {_few(wrong)}; "
            "get the weights from a source you trust"
        )
    bad = [key for key, value in found.items() if not bool(torch.isfinite(value).all())]
    if bad:
        raise CheckpointError(
            f"{path} holds values that are not finite, in {_few(bad)}; the training run diverged or the file is "
            "damaged: take an earlier checkpoint"
        )
    wrapped = all(key.startswith(_WRAPPER) for key in found)
    return {key.removeprefix(_WRAPPER) if wrapped else key: value for key, value in found.items()}


def load_checkpoint(path: str | os.PathLike[str]) -> Checkpoint:
    """Read a checkpoint in the published format. No code in the file is executed.

    Raises:
        CheckpointError: the file cannot be read, is not a checkpoint, is damaged, holds more than plain data, lacks ``arch``
            or ``state_dict``, or holds values that are not finite.
    """
    file = Path(path)
    return as_checkpoint(file, *read_safely(file))


def as_checkpoint(file: Path, content: Any, sha256: str) -> Checkpoint:
    """The checkpoint in the content of a file; the arguments are what `read_safely` takes and gives.

    Raises:
        CheckpointError: see `load_checkpoint`.
    """
    if not isinstance(content, dict):
        raise CheckpointError(f"{file} holds a {type(content).__name__}; expected a dict with arch and state_dict")
    missing = [key for key in ("arch", "state_dict") if key not in content]
    if missing:
        bare = content and all(torch.is_tensor(value) for value in content.values())
        holds = "bare tensors without them" if bare else _few([str(key) for key in content]) or "nothing"
        raise CheckpointError(
            f"{file} lacks {' and '.join(missing)}; it holds {holds}; expected the published format: a dict with "
            "epoch, arch, state_dict and args"
        )
    arch = content["arch"]
    if not isinstance(arch, str) or not arch:
        raise CheckpointError(f"the arch of {file} is {arch!r}; expected the timm name of the backbone")
    args = content.get("args")
    if isinstance(args, argparse.Namespace):
        args = vars(args)
    if not isinstance(args, Mapping | None):
        raise CheckpointError(f"the args of {file} are {type(args).__name__}; expected argparse.Namespace or a dict")
    args = dict(args or {})
    size = args.get("input_size")
    if size is not None and (not isinstance(size, int) or isinstance(size, bool) or size < 1):
        raise CheckpointError(f"args.input_size of {file} is {size!r}; expected pixels, such as 512")
    power = "gem_p" if args.get("gem_eval_p") is None else "gem_eval_p"
    gem_p = args.get(power)
    if gem_p is not None and (not isinstance(gem_p, int | float) or isinstance(gem_p, bool) or not gem_p > 0):
        raise CheckpointError(f"args.{power} of {file} is {gem_p!r}; expected a number above 0, such as 1.0")
    epoch = content.get("epoch")
    return Checkpoint(
        path=file,
        arch=arch,
        state_dict=named_tensors(file, content["state_dict"]),
        input_size=size,
        gem_p=float(gem_p) if gem_p is not None else None,
        epoch=epoch if isinstance(epoch, int) else None,
        sha256=sha256,
        args=args,
        optimizer=content.get("optimizer"),
    )


def load_strictly(net: DescribingNet, found: Mapping[str, torch.Tensor], path: Path, holds: str | None = None) -> None:
    """Load tensors into a network. Both must have the same names and shapes.

    Args:
        net: the network. It changes in place.
        found: the tensors, by the network's names.
        path: the file that they come from, for the message.
        holds: the architecture that the file says it is of, if it says so.

    Raises:
        CheckpointError: a tensor is missing, is left over or has another shape.
    """
    expected = net.state_dict()
    missing = [key for key in expected if key not in found]
    left_over = [key for key in found if key not in expected]
    shapes = [
        f"{key} {tuple(found[key].shape)} instead of {tuple(expected[key].shape)}"
        for key in expected
        if key in found and found[key].shape != expected[key].shape
    ]
    lists = (("missing", missing), ("unexpected", left_over), ("of another shape", shapes))
    problems = [f"{len(names)} {what}: {_few(names)}" for what, names in lists if names]
    if problems:
        own = "" if holds in (None, net.arch) else f"; it holds a {holds}"
        raise CheckpointError(
            f"{path} does not fit {net.arch} ({len(expected)} tensors): {'; '.join(problems)}{own}; "
            "is it a checkpoint of this network?"
        )
    net.load_state_dict(dict(found), strict=True)


def load_weights(net: DescriptorNet, checkpoint: Checkpoint) -> None:
    """Load a checkpoint's weights into a network. Both must have the same tensors.

    Raises:
        CheckpointError: a tensor is missing, is left over or has another shape.
    """
    load_strictly(net, checkpoint.state_dict, checkpoint.path, checkpoint.arch)


def build_network(checkpoint: Checkpoint, *, gem_p: float = 1.0) -> DescriptorNet:
    """Make the network of a checkpoint, with its weights, in evaluation mode.

    Args:
        checkpoint: the checkpoint. The shape of its ``fc.weight`` gives the length of a descriptor.
        gem_p: the power of generalised-mean pooling. 1.0 is average pooling.

    Raises:
        CheckpointError: timm does not know the architecture, or a tensor is missing, is left over or has another shape.
    """
    head = checkpoint.state_dict.get("fc.weight")
    net = DescriptorNet(checkpoint.arch, head.shape[0] if head is not None and head.ndim == 2 else 256, gem_p)
    load_weights(net, checkpoint)
    return net.eval()


def _plain(name: str, value: Any) -> Any:
    """Convert a value to plain data, so that the file can be read without executing anything."""
    if value is None or isinstance(value, bool | int | float | str):
        return value
    if isinstance(value, os.PathLike):
        return os.fspath(value)
    if isinstance(value, list | tuple):
        return [_plain(name, item) for item in value]
    raise CheckpointError(f"the option {name} is {type(value).__name__}; a checkpoint keeps plain values only")


def save_checkpoint(
    path: str | os.PathLike[str],
    net: torch.nn.Module,
    *,
    arch: str,
    input_size: int,
    epoch: int,
    optimizer: torch.optim.Optimizer | None = None,
    args: Mapping[str, Any] | None = None,
) -> None:
    """Write a checkpoint in the published format, which the reference solution reads too.

    Args:
        path: the file to write.
        net: a `DescriptorNet`, which may be wrapped for distributed training.
        arch: the backbone's timm name.
        input_size: the side of the square input, in pixels.
        epoch: the number of finished epochs.
        optimizer: the optimizer whose state is saved too, or None.
        args: more options of the run, which are plain values and paths.

    Raises:
        CheckpointError: an option is more than plain data.
        OutputError: the file cannot be written. An older file is untouched.
    """
    tensors = {_WRAPPER + key.removeprefix(_WRAPPER): value.detach().cpu() for key, value in net.state_dict().items()}
    options = {name: _plain(name, value) for name, value in (args or {}).items()}
    content = {
        "epoch": int(epoch),
        "arch": arch,
        "state_dict": tensors,
        "optimizer": optimizer.state_dict() if optimizer is not None else None,
        "args": argparse.Namespace(**{**options, "arch": arch, "input_size": int(input_size)}),
    }
    save_atomically(path, content)


def rewrite_checkpoint(source: Path, path: Path, args: Mapping[str, Any]) -> None:
    """Write the network of a checkpoint again, with further options of its run and without the optimizer's state.

    Raises:
        CheckpointError: the checkpoint cannot be read, or an option is more than plain data.
        OutputError: the file cannot be written. An older file is untouched.
    """
    found = load_checkpoint(source)
    if found.input_size is None:
        raise CheckpointError(f"{source} does not say the size of its input; name a checkpoint that isc-fast trained")
    net = build_network(found)
    save_checkpoint(
        path, net, arch=found.arch, input_size=found.input_size, epoch=found.epoch or 0, args={**found.args, **args}
    )


def save_atomically(path: str | os.PathLike[str], content: Any) -> None:
    """Write a file with ``torch.save``. The file appears whole or not at all.

    Raises:
        OutputError: the file cannot be written. An older file is untouched.
    """
    with replacing(path) as temporary:
        try:
            with open(temporary, "wb") as stream:
                torch.save(content, stream)
        except RuntimeError as error:  # torch's own writer does not raise OSError when the disk is full
            raise OutputError(f"cannot write {os.fspath(path)}: {_first_sentence(error)}") from error
