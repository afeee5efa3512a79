"""JPEG files decoded on a device, and everything that a device does not take decoded by the package's own rules."""

from __future__ import annotations

import io
from collections.abc import Sequence

import numpy as np
import torch
from PIL import Image
from torchvision.io import ImageReadMode, decode_jpeg

from ...decoders.rules import MAX_PIXELS, ImageProblem, orientation, read_rgb

_END = b"\xff\xd9"


def decode_on_device(files: Sequence[bytes], device: torch.device | str) -> list[torch.Tensor | None]:
    """Decode files by the rules of `isc_fast.decoders.rules`: nvJPEG on a GPU, libjpeg-turbo on a processor.

    Only a file that its header shows to be a whole grey or YCbCr JPEG goes to the device; any other, and any that the
    device refuses, is decoded by Pillow alone, and the rest of the batch is not touched by it. Decoders differ by a few
    grey levels, most where colours change: each has its own way to double the chroma's resolution.

    Args:
        files: contents; the same content is decoded once.
        device: where the photos shall be.

    Returns:
        for each file uint8 ``(3, h, w)`` RGB, upright; None where Pillow can't decode it either.
    """
    turns = {file: orientation for file in dict.fromkeys(files) if (orientation := _orientation(file)) is not None}
    photos: dict[bytes, torch.Tensor | None] = {}
    for (file, turn), photo in zip(turns.items(), _decode(list(turns), device), strict=True):
        if photo is not None:
            photos[file] = _turn(photo, turn)
    for file in files:
        if file not in photos:
            photos[file] = _by_the_rules(file, device)
    return [photos[file] for file in files]


def _orientation(file: bytes) -> int | None:
    """The EXIF orientation of a JPEG that a device may decode; None for any other file."""
    try:
        header = Image.open(io.BytesIO(file), formats=("JPEG",))
    except Exception:  # Pillow's plugins raise nearly anything on damaged data; the rules say what it is
        return None
    width, height = header.size
    whole = _END in file[-4096:]  # a device fills up what is missing of a truncated file, the rules refuse it
    if (
        header.mode not in ("L", "RGB")
        or header.info.get("adobe_transform") == 0
        or not whole
        or width * height > MAX_PIXELS
    ):
        return None
    return orientation(header)


def _decode(files: Sequence[bytes], device: torch.device | str) -> list[torch.Tensor | None]:
    if not files:
        return []
    data = [torch.frombuffer(bytearray(file), dtype=torch.uint8) for file in files]
    try:
        return list(decode_jpeg(data, mode=ImageReadMode.RGB, device=device))
    except torch.OutOfMemoryError:
        raise
    except RuntimeError:  # one of them, and it is not said which
        return [None] if len(files) == 1 else [_decode([file], device)[0] for file in files]


def _turn(photo: torch.Tensor, orientation: int) -> torch.Tensor:
    match orientation:
        case 2:
            return photo.flip(2)
        case 3:
            return photo.flip(1, 2)
        case 4:
            return photo.flip(1)
        case 5:
            return photo.transpose(1, 2)
        case 6:
            return photo.rot90(-1, (1, 2))
        case 7:
            return photo.transpose(1, 2).flip(1, 2)
        case 8:
            return photo.rot90(1, (1, 2))
        case _:
            return photo


def _by_the_rules(file: bytes, device: torch.device | str) -> torch.Tensor | None:
    try:
        photo = read_rgb(io.BytesIO(file))
    except ImageProblem:
        return None
    return torch.from_numpy(np.array(photo)).to(device).permute(2, 0, 1)
