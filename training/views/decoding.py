"""Decodes photos on a device. The device decodes JPEGs, and the package's own rules decode everything else."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress

import numpy as np
import torch
from torchvision.io import ImageReadMode, decode_jpeg

from ...decoders.opening import ImageProblem, is_jpeg, open_image, open_photo, orientation, problems
from ...decoders.rules import load_rgb

_END = b"\xff\xd9"


def decode_on_device(files: Sequence[bytes], device: torch.device | str) -> list[torch.Tensor | None]:
    """Decode files by the rules of `isc_fast.decoders.rules`, with nvJPEG on a GPU and libjpeg-turbo on a CPU.

    The device decodes a file only if it is a complete grey or YCbCr JPEG. Pillow decodes any other file, and any file that
    the device refuses; this does not affect the rest of the batch. The decoders differ by a few grey levels, mostly where
    colours change, because each doubles the resolution of the colours in its own way.

    Args:
        files: the contents of the files. Equal contents are decoded once.
        device: the device for the photos.

    Returns:
        for each file, a photo as uint8 ``(3, h, w)`` RGB, upright, or None if Pillow cannot decode it either.
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
    """Return the EXIF orientation of a JPEG that a device may decode, or None for any other file."""
    with suppress(ImageProblem), problems(), open_photo(file) as stream:
        header = open_image(stream)
        plain = is_jpeg(header) and header.mode in ("L", "RGB") and header.info.get("adobe_transform") != 0
        # A device would fill up the missing end of a truncated file, but the rules refuse such a file.
        return orientation(header) if plain and _END in file[-4096:] else None
    return None


def _decode(files: Sequence[bytes], device: torch.device | str) -> list[torch.Tensor | None]:
    if not files:
        return []
    data = [torch.frombuffer(bytearray(file), dtype=torch.uint8) for file in files]
    try:
        return list(decode_jpeg(data, mode=ImageReadMode.RGB, device=device))
    except torch.OutOfMemoryError:
        raise
    except RuntimeError:  # torchvision does not say which of the files it cannot decode
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
        photo = load_rgb(file)
    except ImageProblem:
        return None
    return torch.from_numpy(np.array(photo)).to(device).permute(2, 0, 1)
