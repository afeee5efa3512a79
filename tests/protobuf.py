"""Fields of protocol buffers as bytes, for files that tests make by hand."""

from __future__ import annotations


def varint(number: int) -> bytes:
    """A number above or equal to 0."""
    out = bytearray()
    while number > 127:
        out.append(number & 127 | 128)
        number >>= 7
    return bytes([*out, number])


def block(number: int, content: bytes) -> bytes:
    """A field that has a length."""
    return varint(number << 3 | 2) + varint(len(content)) + content
