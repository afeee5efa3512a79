"""What a file is by its first bytes, for files whose names do not say it."""

from __future__ import annotations

from ..files.reading import open_regular

HEAD_BYTES = 16
"""What is looked at of a file."""
_BEGINS = (
    b"\xff\xd8\xff",  # JPEG
    b"\x89PNG\r\n\x1a\n",
    b"GIF87a",
    b"GIF89a",
    b"II*\0",  # TIFF, and most raw files of cameras
    b"MM\0*",
    b"II+\0",
    b"MM\0+",
    b"IIRO",
    b"IIU\0",
    b"FUJIFILMCCD-RAW",
    b"\0\0\0\x0cjP  \r\n\x87\n",  # JPEG 2000
    b"\xff\x4f\xff\x51",
    b"\xff\x0a",  # JPEG XL
    b"\0\0\0\x0cJXL \r\n\x87\n",
)
_BRANDS = (b"avif", b"avis", b"heic", b"heix", b"hevc", b"hevx", b"heim", b"heis", b"mif1", b"msf1", b"crx ")


def is_image_content(file: str) -> bool:
    """Whether a file begins as an image does. Targa, which has no mark, and PPM, whose mark is two letters, are not found so.

    A file that cannot be read is none.
    """
    try:
        with open_regular(file) as stream:
            head = stream.read(HEAD_BYTES)
    except (OSError, ValueError):
        return False
    return is_image_head(head)


def is_image_head(head: bytes) -> bool:
    """Whether the first `HEAD_BYTES` of a file are an image's."""
    if head.startswith(b"BM"):
        return head[6:10] == bytes(4)  # two reserved words are zero; text that begins so has none
    if head.startswith(b"RIFF"):
        return head[8:12] == b"WEBP"
    return head.startswith(_BEGINS) or (head[4:8] == b"ftyp" and head[8:12] in _BRANDS)
