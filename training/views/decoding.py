"""Photos decoded on a device: JPEGs by the device, and everything that it does not take by the package's own rules."""

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
    """Decode files by the rules of `isc_fast.decoders.rules`: nvJPEG on a GPU, libjpeg-turbo on a processor.

    A file goes to the device only if its header shows a whole grey or YCbCr JPEG. Pillow decodes any other, and any that the
    device refuses, and the rest of the batch is not touched by it. Decoders differ by a few grey levels, most where colours
    change: each doubles the resolution of the colours in its own way.

    Args:
        files: contents; the same content is decoded once.
        device: on which the photos will be.

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
    with suppress(ImageProblem), problems(), open_photo(file) as stream:
        header = open_image(stream)
        plain = is_jpeg(header) and header.mode in ("L", "RGB") and header.info.get("adobe_transform") != 0
        # A device fills up what is missing of a truncated file, and the rules refuse it.
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
        photo = load_rgb(file)
    except ImageProblem:
        return None
    return torch.from_numpy(np.array(photo)).to(device).permute(2, 0, 1)
