"""Folders of images, and single images."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Iterator, Sequence

from ..errors import InputError
from ..stores.urls import is_url
from .base import Entry, Kind
from .choice import Choice, Sieve
from .sniffing import is_image_content

IMAGE_SUFFIXES = frozenset(
    """
    .jpg .jpeg .jpe .jfif .jif .jfi .pjpeg .pjp .mpo .png .apng .webp .gif .bmp .dib .tif .tiff .avif .avifs
    .jp2 .j2k .j2c .jpc .jpf .jpx .ppm .pgm .pbm .pnm .tga .icb .vda .vst
    .heic .heif .heics .heifs .hif .jxl
    .dng .cr2 .cr3 .crw .nef .nrw .arw .sr2 .srf .raf .orf .rw2 .rwl .pef .srw .3fr .fff .iiq .erf .mef .mos .mrw .dcr .kdc .x3f
    """.split()
)
"""The names that a folder is searched for. The content decides how a file is decoded, not its name. HEIF, JPEG XL and the raw
files of cameras are taken whether their libraries are installed or not, so that a folder gives the same ids everywhere."""

UNREAD_SUFFIXES = frozenset(
    ".psd .psb .ai .eps .svg .svgz .exr .hdr .pfm .dds .ico .icns .cur .pcx .sgi .xcf .kra .jxr .wdp .hdp .qoi .fits .dcm".split()
)
"""Names of pictures that isc-fast does not read."""


def is_image_name(path: str) -> bool:
    """Whether a name is an image's."""
    return os.path.splitext(path)[1].lower() in IMAGE_SUFFIXES


def _is_folder(entry: os.DirEntry[str]) -> bool:
    """Whether to look into an entry. One that may be a folder out of reach counts too, so that it is not missed silently."""
    try:
        if entry.is_dir() or not entry.is_symlink():
            return entry.is_dir()
        return not os.path.splitext(entry.name)[1] and not os.path.exists(entry.path)
    except OSError:  # a link in a circle, or into a folder that may not be entered
        return not is_image_name(entry.name)


def _order_of_links(name: str) -> tuple[list[bytes], bytes]:
    """The order of links to one folder: links in later folders come first, and within a folder the first name.

    The folder is listed under the first of them. The order has no merit but that it never changes: ids depend on it.
    """
    *folders, last = os.fsencode(name).split(b"/")[:-1]
    return [bytes(255 - byte for byte in folder) + b"\xff" for folder in folders], last


def _walk(root: str, sieve: Sieve) -> Iterator[Entry]:
    """Yield name relative to the root and path of every file below it, and ``name/`` of each folder that cannot be listed.

    What a pattern leaves out has the path "" and the pattern. Folders that it leaves out are not looked into.

    The order means nothing, and memory holds the names of folders, not of files. No folder is listed twice, so that links in
    a circle end and links across do not multiply. Links come last, so that a folder that lies below the root is listed under
    its own name.
    """
    seen: set[tuple[int, int]] = set()
    folders = [("", root)]  # the last is the next to look into
    links = list[tuple[str, str]]()
    behind_links = deque[tuple[str, str]]()
    while folders or behind_links:
        name, path = folders.pop() if folders else behind_links.popleft()
        below = list[tuple[str, str]]()
        try:
            status = os.stat(path)
            if (status.st_dev, status.st_ino) not in seen:
                seen.add((status.st_dev, status.st_ino))
                with os.scandir(path) as entries:
                    for entry in entries:
                        inner, is_folder = name + entry.name, _is_folder(entry)
                        pattern = sieve.excluded(inner)
                        if pattern is not None:
                            yield inner, "", pattern
                        elif is_folder:
                            (links if entry.is_symlink() else below).append(
                                (inner + "/", os.path.join(path, entry.name))
                            )
                        else:
                            yield inner, os.path.join(path, entry.name), ""
        except OSError as error:
            if not name:
                raise InputError(f"cannot list the folder {root}: {error.strerror or error}") from error
            yield name, path, ""
        below.sort(key=lambda folder: os.fsencode(folder[0]), reverse=True)
        folders += below
        if not folders:
            links.sort(key=lambda link: _order_of_links(link[0]))
            behind_links += links
            links.clear()


def _images_below(root: str, choice: Choice) -> Iterator[Entry | None]:
    sieve, sniff = Sieve(choice), choice.sniff
    for name, path, pattern in _walk(root, sieve):
        if pattern or name.endswith("/"):
            yield name, path, pattern
        elif sieve.included(name) and (is_image_name(name) or (sniff and is_image_content(path))):
            yield name, path, ""
        else:
            yield name, "", ""


def _one_image(path: str, _choice: Choice) -> Iterator[Entry | None]:
    yield os.path.basename(path), path, ""


def _is_folder_name(path: str) -> bool:
    return not is_url(path) and os.path.isdir(path)


def _is_image_file(path: str) -> bool:
    return not is_url(path) and os.path.lexists(path) and is_image_name(path)


def names_of_images(inputs: Sequence[str]) -> dict[str, str]:
    """Names for image files that are given one by one and share a file name: their paths below the folder that holds them all.

    An input that is given twice, under one path or several, gets no name of its own: it is refused for its id.
    """
    by_name = dict[str, list[str]]()
    for path in dict.fromkeys(inputs):
        if _is_image_file(path) and not os.path.isdir(path):
            by_name.setdefault(os.path.basename(path), []).append(path)
    names = dict[str, str]()
    for name, paths in by_name.items():
        places = {path: os.path.join(os.path.realpath(os.path.dirname(path)), name) for path in paths}
        if len(set(places.values())) < 2:
            continue
        above = os.path.commonpath([os.path.dirname(place) for place in places.values()])
        names |= {path: os.path.relpath(place, above) for path, place in places.items()}
    return names


FOLDER = Kind("a folder", _is_folder_name, _images_below, holds=True)
IMAGE = Kind("an image", _is_image_file, _one_image)
