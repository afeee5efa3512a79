"""JPEGs reduced to what describes pixels. Their segments alone say whether they are plain: nothing is decoded."""

from __future__ import annotations

import re
import struct

# The sampling of luminance, where chroma has 1 × 1: 4:4:4, 4:2:2, 4:4:0, 4:2:0, 4:1:1.
_SAMPLINGS = ((1, 1), (2, 1), (1, 2), (2, 2), (4, 1))
_SOI, _EOI, _SOS = b"\xff\xd8", 0xD9, 0xDA
_BASELINE, _FRAMES = (0xC0, 0xC1), (0xC0, 0xC1, 0xC2)
_TABLES = (0xDB, 0xC4, 0xDD)
_DROPPED = (
    *range(0xE0, 0xF0),
    0xFE,
)  # data of applications, and comments; the code looks at two kinds before it drops them
_END_OF_SCAN = re.compile(rb"\xff[^\x00\xd0-\xd7\xff]")  # 3.3 GB/s, 0.12 ms for a photo of 400 kB


def _exif(turn: int) -> bytes:
    """An APP1 segment with nothing but the orientation."""
    block = b"Exif\0\0II*\0\x08\0\0\0\x01\0" + struct.pack("<HHIHH", 0x0112, 3, 1, turn, 0) + b"\0\0\0\0"
    return b"\xff\xe1" + struct.pack(">H", len(block) + 2) + block


def _plain_frame(frame: bytes, size: tuple[int, int]) -> bool:
    """Whether a frame header says 8 bits, this width and height, and grey or YCbCr in a usual sampling."""
    if len(frame) < 6 or frame[0] != 8 or struct.unpack(">HH", frame[1:5]) != size[::-1]:
        return False
    count = frame[5]
    if count not in (1, 3) or len(frame) != 6 + 3 * count:
        return False
    parts = [frame[6 + 3 * i : 9 + 3 * i] for i in range(count)]
    samplings = [(part[1] >> 4, part[1] & 15) for part in parts]
    if count == 1:
        return True
    return samplings[0] in _SAMPLINGS and samplings[1:] == [(1, 1)] * 2 and bytes(p[0] for p in parts) != b"RGB"


def plain_jpeg(data: bytes, size: tuple[int, int], turn: int) -> bytes | None:
    """Reduce a JPEG to what describes pixels, for a decoder that may read the rest in its own way.

    Args:
        data: of the file.
        size: the width and height that its header must say.
        turn: the EXIF orientation, 1 to 8, of the result, whatever the file says.

    Returns:
        a JPEG without comments, profiles, thumbnails, further images and garbage at its end. None where it is not plain (other
        than grey or YCbCr of 8 bits in Huffman coding, strangely sampled or in several baseline scans) or not whole.
    """
    if not data.startswith(_SOI):
        return None
    view = memoryview(data)
    kept: list[bytes | memoryview] = [_SOI, b"" if turn == 1 else _exif(turn)]
    at, frame, count, scans = 2, 0, 0, 0
    while at + 2 <= len(data):
        if data[at] != 0xFF:
            return None
        marker = data[at + 1]
        if marker == 0xFF:  # these bytes may fill the space before a marker
            at += 1
            continue
        if marker == _EOI:
            kept.append(b"\xff\xd9")
            return b"".join(kept) if scans else None
        end = at + 2 + int.from_bytes(data[at + 2 : at + 4], "big")
        if end < at + 4 or end > len(data):
            return None
        body = view[at + 4 : end]
        keep = True
        if marker in _FRAMES:
            if frame or not _plain_frame(bytes(body), size):
                return None
            frame, count = marker, body[5]
            if count == 1:  # its sampling is relative to itself and means nothing; Pillow writes 2 × 1 for one
                kept.append(bytes([*view[at : at + 11], 0x11, body[8]]))
                keep = False
        elif marker == _SOS:
            if not frame or not body or (frame in _BASELINE and body[0] != count):
                return None
            found = _END_OF_SCAN.search(data, end)
            if not found:
                return None
            scans, end = scans + 1, found.start()
        elif marker == 0xEE and bytes(body[:5]) == b"Adobe":
            if len(body) < 12 or (count != 1 and body[11] == 0):  # its three channels are R, G and B
                return None
        elif marker in _DROPPED:
            keep = marker == 0xE0 and bytes(body[:5]) == b"JFIF\0"
        elif marker not in _TABLES:  # arithmetic coding, lossless, hierarchical, or no marker at all
            return None
        if keep:
            kept.append(view[at:end])
        at = end
    return None
