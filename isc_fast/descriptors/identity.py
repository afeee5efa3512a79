"""What tells a set of descriptors from every other one, ids included, mostly without reading it."""

from __future__ import annotations

import contextlib
import hashlib
import os

from ..errors import FormatError
from ..files.sums import digest_of
from .manifest import parts_home, read_manifest
from .store import Descriptors

_IDS_AT_ONCE = 4096


def identity_of(path: str | os.PathLike[str], descriptors: Descriptors) -> str:
    """SHA-256, in hexadecimal, that two sets share only if they hold the same rows under the same ids.

    A result in parts is known by its manifest, and a file with checksums by the digest of these. Others are gone through.

    Args:
        path: where they are.
        descriptors: opened from there.
    """
    home = parts_home(path)
    if home is not None:
        return read_manifest(home).id
    if os.path.isfile(path):
        with contextlib.suppress(FormatError):
            return digest_of(path)
    digest = hashlib.sha256(descriptors.content_id().encode())
    for start in range(0, len(descriptors), _IDS_AT_ONCE):
        some = descriptors.ids[start : start + _IDS_AT_ONCE]
        digest.update("\0".join([*some, ""]).encode("utf-8", "surrogatepass"))
    return digest.hexdigest()
