"""The published weights: which there are, where they come from, and where they are kept once they are here."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from ..errors import DownloadError
from ..files.atomic import make_folder, output_error, sync_folder
from ..files.locks import locked
from ..files.reading import file_sha256
from .digests import digest_file, keep_digest, kept_digest
from .download import DownloadCallback as DownloadCallback
from .download import download

RELEASE_URL = "https://github.com/lyakaap/ISC21-Descriptor-Track-1st/releases/download/v1.0.1/"
SSCD_URL = "https://dl.fbaipublicfiles.com/sscd-copy-detection/"


@dataclass(frozen=True)
class Release:
    """Published weights.

    Attributes:
        file: name of the file below the address.
        sha256: its SHA-256 in hexadecimal; None where the publisher names none. Then the first download's is kept.
        url: address of the folder in which its publisher has it.
    """

    file: str
    sha256: str | None = None
    url: str = RELEASE_URL


RELEASES: dict[str, Release] = {
    "isc_ft_v107": Release("isc_ft_v107.pth.tar"),
    "isc_selfsup_v98": Release("isc_selfsup_v98.pth.tar"),
    "sscd_disc_mixup": Release("sscd_disc_mixup.torchvision.pt", url=SSCD_URL),
    "sscd_disc_large": Release("sscd_disc_large.classy.pt", url=SSCD_URL),
}
"""The published weights by name. Their authors publish no digests."""


def cache_folder() -> Path:
    """Where fetched weights are kept: ``ISC_FAST_CACHE``, or ``isc-fast`` in the user's cache folder."""
    own = os.environ.get("ISC_FAST_CACHE")
    if own:
        return Path(own)
    shared = os.environ.get("XDG_CACHE_HOME")
    return (Path(shared) if shared else Path.home() / ".cache") / "isc-fast"


def release_url(name: str) -> str:
    """The address of published weights; ``ISC_FAST_RELEASE_URL`` names a mirror that has all of them in one folder."""
    release = RELEASES[name]
    base = os.environ.get("ISC_FAST_RELEASE_URL") or release.url
    return base.rstrip("/") + "/" + release.file


@contextlib.contextmanager
def _locked(path: Path) -> Iterator[None]:
    """Hold a lock file; another process that fetches the same weights waits here."""
    with open(path, "ab") as stream, locked(stream.fileno(), path, wait=True):
        yield


def _check(file: Path, final: Path, release: Release) -> None:
    """Compare a file with the release's digest, or with the first download's; keep its own where there is neither.

    Args:
        file: what is compared: the finished file, or the part of a new download.
        final: where the finished file stands or will stand; the kept digest is beside it.
        release: of the file.

    Raises:
        DownloadError: it is another file; the message names both digests.
    """
    found, expected = file_sha256(file), release.sha256 or kept_digest(final)
    if found == expected:
        return
    if expected is None:
        keep_digest(final, found)
        return
    source = "the pinned one" if release.sha256 else f"that of the first download, in {digest_file(final)}"
    if file == final:
        raise DownloadError(
            f"{final} was changed after it was downloaded: its SHA-256 is {found}, expected {expected} ({source}); delete it "
            "and run the same command again"
        )
    meant = "" if release.sha256 else "; if the publisher meant to replace it, delete that file"
    raise DownloadError(f"another file arrived: its SHA-256 is {found}, expected {expected} ({source}){meant}")


def fetch_weights(
    name: str, *, cache: str | os.PathLike[str] | None = None, progress: DownloadCallback | None = None
) -> Path:
    """Fetch published weights into the cache. The first call downloads them and resumes where an earlier try broke off.

    Their SHA-256 is compared with the pinned one, or with that of the first download, which is kept beside the file. A file
    that is in the cache already is compared too, and the network is not used.

    Args:
        name: one of `RELEASES`.
        cache: folder; by default `cache_folder()`.
        progress: called with the bytes that are here and the bytes in all.

    Raises:
        DownloadError: there are no such weights, they cannot be fetched, or they are another file than expected; the message
            says what to do.
        OutputError: the cache cannot be written.
    """
    if name not in RELEASES:
        raise DownloadError(f"there are no published weights {name!r}; choose one of {', '.join(RELEASES)}")
    release = RELEASES[name]
    folder = make_folder(Path(cache) if cache is not None else cache_folder())
    final = folder / release.file
    if not final.is_file():
        _fetch(release_url(name), final, release, progress)
    else:
        _check(final, final, release)
    return final


def _fetch(url: str, final: Path, release: Release, progress: DownloadCallback | None) -> None:
    """Download a file that is not in the cache, while other processes that want it wait."""
    part, note = final.with_name(final.name + ".part"), final.with_name(final.name + ".part.json")
    try:
        with _locked(final.with_name(final.name + ".lock")):
            if final.is_file():  # another process fetched it while this one waited
                return
            download(url, part, note, progress)
            try:
                _check(part, final, release)
            except DownloadError:  # a part that is kept would be refused again without being fetched again
                part.unlink()
                note.unlink(missing_ok=True)
                raise
            os.replace(part, final)
            note.unlink(missing_ok=True)
            sync_folder(final.parent)
    except DownloadError as error:
        raise DownloadError(
            f"cannot fetch {url}: {error}; run the same command again, or download the file by hand and pass its path "
            "to --ckpt, or set ISC_FAST_RELEASE_URL to a mirror"
        ) from error
    except OSError as error:
        raise output_error(final, error) from error
