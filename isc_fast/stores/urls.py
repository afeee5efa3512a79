"""Addresses of objects: ``s3://bucket/key``, and what a listing writes behind them.

The path of a photo in a bucket is its address, then ``#`` and size, time and tag of the object when it was listed:
``s3://bucket/photos/a.jpg#1a2b,18a…,5f…``. So the next run sees without asking which photos are others by now. An address that
a list names has ``#`` and nothing behind it: nobody has looked yet.
"""

from __future__ import annotations

import os
import posixpath
import re
import urllib.parse
from dataclasses import dataclass

from ..errors import InputError

BUCKETS = {"s3": "S3", "gs": "Google Cloud Storage", "az": "Azure Blob Storage"}
"""What a scheme stands for, where there are buckets, which can be listed."""
WEB = ("https", "http")
SCHEMES = (*BUCKETS, *WEB)

_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*)://", re.ASCII)
_FOLDED = re.compile(rf"({'|'.join(SCHEMES)}):/(?!/)")
_MEANT = {
    "s3a": "s3",
    "s3n": "s3",
    "gcs": "gs",
    "azure": "az",
    "abfs": "az",
    "abfss": "az",
    "adl": "az",
    "htps": "https",
}


@dataclass(frozen=True, slots=True)
class Meta:
    """What a store says of an object.

    Attributes:
        key: its name in the bucket, or its path on the server.
        size: in bytes.
        modified_ns: when it was changed last, in nanoseconds since 1970; 0 where the server does not say.
        tag: of its content, made of the store's ETag; 0 where there is none.
        kind: its media type, such as ``image/jpeg``; "" where it is not known.
    """

    key: str
    size: int
    modified_ns: int
    tag: int
    kind: str = ""

    @property
    def stamp(self) -> tuple[int, int]:
        """What tells the object from another one that took its name: its size, and its tag or else its time."""
        return self.size, self.tag or self.modified_ns


def is_url(name: str) -> bool:
    """Whether a name is an address that this package reads, or the path of a photo there."""
    # Hardly any name is one, and listing a photo asks several times.
    return "://" in name and name.partition("://")[0] in SCHEMES


def read_name(name: str) -> str:
    """An input as it is meant: the path of a ``file://`` address; an address with its scheme in lower case; any other name as is.

    Raises:
        InputError: the scheme is none that is read, or the address has in it what must not be written into files: a password, or
            a query, which may be a signature.
    """
    found = _SCHEME.match(name)
    if found is None or os.path.lexists(name):
        return name
    scheme, rest = found[1].lower(), name[found.end() :]
    if scheme == "file":
        host, slash, path = rest.partition("/")
        if host not in ("", "localhost") or not slash:
            raise InputError(f"{name} names a file of another machine; expected file:///PATH, or the path alone")
        return "/" + urllib.parse.unquote(path)
    if scheme not in SCHEMES:
        known = ", ".join(f"{one}://" for one in SCHEMES)
        meant = f"; did you mean {_MEANT[scheme]}://?" if scheme in _MEANT else ""
        raise InputError(f"there is no scheme {found[1]}://; expected a path, file:// or one of {known}{meant}")
    host = rest.partition("/")[0]
    if not host:
        raise InputError(
            f"{scheme}:// names no {'server' if scheme in WEB else 'bucket'}; expected {scheme}://NAME/KEY"
        )
    if "@" in host:
        raise InputError(
            f"an address of {scheme}://…@{host.rpartition('@')[2]} has a password in it, which would be written into files; "
            "give it without, and credentials through the environment"
        )
    if scheme in WEB and ("?" in rest or "#" in rest):
        raise InputError(
            f"an address of {scheme}://{host} has a query (?…), which may be a signature and would be written into files; give "
            "the object as s3://, gs:// or az:// with credentials in the environment, or download it"
        )
    return f"{scheme}://{rest}"


def split(url: str) -> tuple[str, str]:
    """The bucket or server of an address, ``s3://bucket``, and the key in it, without slashes at either end."""
    scheme, _, rest = url.partition("://")
    host, _, key = rest.partition("/")
    key = key.strip("/")
    return f"{scheme}://{host}", urllib.parse.unquote(key) if scheme in WEB else key


def join(base: str, key: str) -> str:
    """The address of a key; the other way round of `split`."""
    return f"{base}/{urllib.parse.quote(key) if base.partition('://')[0] in WEB else key}"


def beside(folder: str, name: str) -> str:
    """The name that a list in a folder, or under an address, means by a name.

    Raises:
        InputError: as `read_name`.
    """
    name = read_name(name)
    if is_url(name) or not is_url(folder):
        return name if is_url(name) else os.path.join(folder, name)
    if name.startswith("/"):
        return name
    base, key = split(folder)
    return join(base, posixpath.normpath(posixpath.join("/", key, name)).lstrip("/"))


def path_of(base: str, meta: Meta) -> str:
    """The path of a photo that was listed."""
    return f"{join(base, meta.key)}#{meta.size:x},{meta.modified_ns:x},{meta.tag:x}"


def unseen(name: str) -> str:
    """The path of a photo in the file system, or at an address that nobody has looked at."""
    return f"{name}#" if is_url(name) else name


def without_stamp(path: str) -> str:
    """The address in the path of a photo; any other path as it is."""
    return path.rpartition("#")[0] if is_url(path) and "#" in path else path


def meta_of(path: str) -> Meta | None:
    """What the path of a photo says of its object; None where nobody has looked."""
    url, _, numbers = path.rpartition("#")
    try:
        size, modified_ns, tag = (int(number, 16) for number in numbers.split(","))
    except ValueError:
        return None
    return Meta(split(url)[1], size, modified_ns, tag)


def fold(url: str) -> str:
    """An address as it stands in the path of a photo in a container, with no slash twice: ``s3:/bucket/x.tar``."""
    return url.replace("://", ":/", 1)


def unfold(name: str) -> str:
    """The address that was folded; any other name as it is."""
    return _FOLDED.sub(r"\1://", name, count=1) if _FOLDED.match(name) else name
