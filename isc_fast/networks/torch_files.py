"""What a file of weights looks like from outside, without torch."""

from __future__ import annotations

import zipfile
from pathlib import Path

from ..errors import CheckpointError
from ..files.reading import one_line

_TORCH_ZIP = b"PK\x03\x04"


def not_a_torch_file(head: bytes) -> str | None:
    """Say what a file is instead of one that ``torch.save`` wrote, judged by its first bytes; None when it may be one."""
    if head.startswith(_TORCH_ZIP) or (head[:1] == b"\x80" and head[1:2] in (b"\2", b"\3", b"\4", b"\5")):
        return None  # a zip file as torch writes it today, or the pickle it wrote before
    start = head.lstrip(b"\xef\xbb\xbf \t\r\n")[:256].lower()
    if not head:
        return "the file is empty"
    if start.startswith((b"<!doctype", b"<html", b"<head", b"<?xml", b"<!--")):
        return "it is a web page, perhaps an error or login page"
    if head[:1] == b"\x08" and (b"pytorch" in head[:64] or b"onnx" in head[:64]):
        return "it is an ONNX file"
    if head[8:9] == b"{" and int.from_bytes(head[:8], "little") < 1 << 32:
        return "it is a safetensors file"
    if all(32 <= byte < 127 or byte in b"\t\r\n" for byte in head[:64]):
        return f"it is text that starts with {head[:40].decode('ascii')!r}"
    return f"it starts with the bytes {head[:8].hex(' ')}"


def refuse_other_files(path: Path) -> None:
    """Refuse a file that ``torch.save`` did not write, judged by its first bytes.

    Raises:
        CheckpointError: it cannot be read, or is something else; the message says what.
    """
    try:
        with open(path, "rb") as stream:
            wrong = not_a_torch_file(stream.read(512))
    except OSError as error:
        raise CheckpointError(f"cannot read the checkpoint {path}: {error.strerror or error}") from error
    if wrong:
        raise CheckpointError(
            f"{path} is not a checkpoint: {wrong}; expected a file that torch.save wrote, such as isc_ft_v107.pth.tar"
        )


def damage_of(path: Path) -> str | None:
    """Say why a whole file is no file that ``torch.save`` wrote; None when it may be one.

    A zip file whose end is missing starts like a good one, so its directory is read too.
    """
    with open(path, "rb") as stream:
        head = stream.read(512)
        wrong = not_a_torch_file(head)
        if wrong:
            return f"what arrived are no weights: {wrong}"
        if head.startswith(_TORCH_ZIP):
            try:
                with zipfile.ZipFile(stream):
                    pass
            except Exception as error:  # a damaged directory can raise nearly any error
                return f"what arrived is damaged ({one_line(error)})"
    return None
