"""What went wrong at a store, in words: which faults pass, which are one object's, and which end a run.

The texts of the libraries are never shown: they hold addresses, headers and key ids.
"""

from __future__ import annotations

import os
import re
import urllib.parse
from dataclasses import dataclass

from ..errors import InputError, StoreError
from .urls import BUCKETS, WEB

_STATUS = re.compile(r"status code: (\d{3})|status: (\d{3})")
_CODE = re.compile(r"<Code>(\w+)</Code>")
_REGION = re.compile(r"<Region>([\w-]+)</Region>|expecting '([\w-]+)'")
_URL = re.compile(r"https?://[^\s,]+")
_METADATA = re.compile(r"http://(169\.254\.|[^/\s]+/latest/api/token|metadata\.google\.internal)|No credentials")
"""What is asked where there are no credentials: the machine, if it is one of the service's own."""
_PATH = re.compile(r'[Pp]ath "([^"]*)"')
_AGAIN = (408, 409, 425, 429)
"""Statuses below 500 that say "not now"."""

_CREDENTIALS = {
    "s3": "set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or AWS_PROFILE; for a public bucket AWS_SKIP_SIGNATURE=true",
    "gs": "set GOOGLE_APPLICATION_CREDENTIALS, or run: gcloud auth application-default login; for a public bucket "
    "GOOGLE_SKIP_SIGNATURE=true",
    "az": "set AZURE_STORAGE_ACCOUNT_NAME and AZURE_STORAGE_ACCOUNT_KEY; for a public container AZURE_SKIP_SIGNATURE=true",
}
_UNUSABLE = {
    "Account must be specified": "no storage account is named",
    "Invalid Access Key": "the account's key is not Base64",
    "service account": "the file of the service account is not there, or is none",
}
"""What the libraries say of credentials that they cannot even begin with, and our words for it."""
_EMULATOR = "http://127.0.0.1:10000"
"""Where Azure's tools look for Azurite."""
_OF_CREDENTIALS = {
    "InvalidAccessKeyId": "does not know the access key",
    "SignatureDoesNotMatch": "refuses the signature, so the secret key is wrong",
    "AuthenticationFailed": "refuses the signature, so the secret key is wrong",
    "InvalidToken": "refuses the session token",
    "InvalidClientTokenId": "does not know the access key",
    "ExpiredToken": "says that the credentials have expired",
    "RequestTimeTooSkewed": "says that this machine's clock is wrong",
}


class NoObject(InputError):
    """One object cannot be had, and its store says so: it does not exist, or lies in an archive.

    Args:
        url: its address.
        reason: one line for the ledger of failures, without the address.
    """

    def __init__(self, url: str, reason: str) -> None:
        super().__init__(f"cannot read {url}: {reason}")
        self.reason = reason


class CutError(Exception):
    """The body of an answer ended before its end. The name is for this package's own use: users see its reason."""


@dataclass(frozen=True)
class Trouble:
    """A fault of one call.

    Attributes:
        error: what users meet where the fault stays.
        passes: whether it may pass, so that the call is worth repeating.
    """

    error: Exception
    passes: bool


def trouble_of(error: Exception, base: str, url: str, doing: str = "read") -> Trouble:
    """What a library's error means.

    Args:
        error: of obstore, or a `CutError`.
        base: the bucket or server.
        url: what was asked for.
        doing: what was to be done with it, as a verb.
    """
    text = str(error)
    if isinstance(error, CutError):
        return Trouble(NoObject(url, "its content was cut short at each try"), True)
    code = (_CODE.search(text.partition("status code:")[2]) or [None, ""])[1] or ""
    status = next((int(one) for found in [_STATUS.search(text)] if found for one in found.groups() if one), 0)
    if type(error).__name__ in ("InvalidPathError", "ValueError"):
        key = (_PATH.search(text) or [None, url.removeprefix(base).strip("/")])[1]
        unusable = InputError(
            f"{base} holds an object named {key!r}, which has an empty folder, '.' or '..' in its name, and cannot be asked for; "
            "rename it, or give a prefix without it"
        )
        return Trouble(unusable, False)
    final = _final(text, code, status, base, url, doing)
    if final is not None:
        return Trouble(final, False)
    if isinstance(error, FileNotFoundError):
        return Trouble(NoObject(url, "there is no such object"), False)
    if type(error).__name__ in ("PermissionDeniedError", "UnauthenticatedError", "PermissionError"):
        return Trouble(_denied(code, status, base, url, doing), False)
    key = url.removeprefix(base).strip("/")
    words = _words(_URL.sub("", text).replace(f'"{key}"', ""), status)  # a name may hold any word
    return Trouble(
        StoreError(
            f"cannot reach {place_of(base)}: {words}; check the address and the network, and run the same command again, which "
            "goes on where it was"
        ),
        True,
    )


def _final(text: str, code: str, status: int, base: str, url: str, doing: str) -> Exception | None:
    scheme = base.partition("://")[0]
    if code == "NoSuchBucket" or code == "ContainerNotFound" or (status == 404 and "list request" in text):
        return StoreError(f"there is no bucket {base} at {server_of(base)}; check its name{_endpoint_hint(scheme)}")
    for told, words in _UNUSABLE.items():
        if told in text and not status:
            return StoreError(f"the credentials for {base} cannot be used: {words}; {_CREDENTIALS.get(scheme, '')}")
    if code in ("InvalidObjectState", "BlobArchived", "BlobBeingRehydrated"):
        return NoObject(url, "the object lies in an archive tier, and has to be restored first")
    region = _REGION.search(text)
    if code in ("PermanentRedirect", "AuthorizationHeaderMalformed", "IllegalLocationConstraintException") or (
        "incorrectly configured region" in text
    ):
        name = next(filter(None, region.groups()), None) if region else None
        advice = f"set AWS_REGION={name}" if name else "set AWS_REGION to its region"
        return StoreError(f"the bucket {base} lies in another region; {advice}, and run the same command again")
    if _METADATA.search(text):
        return StoreError(f"there are no credentials for {base}; {_CREDENTIALS.get(scheme, _CREDENTIALS['s3'])}")
    if scheme in WEB and 400 <= status < 500 and status not in _AGAIN:
        return NoObject(url, f"the server answers {status}")
    if status in (401, 403):
        return _denied(code, status, base, url, doing)
    if status == 416:
        return NoObject(url, "the object is shorter than it was when it was listed")
    if status == 404:
        return NoObject(url, "there is no such object")
    if 300 <= status < 500 and status not in _AGAIN:
        return StoreError(f"{place_of(base)} answers {status} {code}".rstrip() + f" to {url}; check the address")
    return None


def _denied(code: str, status: int, base: str, url: str, doing: str) -> StoreError:
    scheme = base.partition("://")[0]
    said = _OF_CREDENTIALS.get(code)
    advice = _CREDENTIALS.get(scheme, "check the address")
    if said:
        return StoreError(f"{place_of(base)} {said}; {advice}, and run the same command again")
    instead = "or leave the object out" if doing == "read" else "or give another output"
    return StoreError(
        f"{place_of(base)} does not let these credentials {doing} {url} ({status or 403} {code or 'Forbidden'}); {advice}; "
        f"{instead}"
    )


def _words(text: str, status: int) -> str:
    if status:
        return f"it answers {status}"
    if "kind: Timeout" in text or "TimedOut" in text:
        return "no answer in time"
    if "dns" in text.lower() or "lookup" in text:
        return "its name is not known"
    if "kind: Connect" in text:
        return "no connection"
    if "invalid peer certificate" in text or "certificate" in text.lower():
        return "its certificate is not trusted"
    return "its answers are cut short or none"


def place_of(base: str) -> str:
    """A bucket or server, and where it is, in words."""
    scheme = base.partition("://")[0]
    return base if scheme in WEB else f"{base} at {server_of(base)}"


def server_of(base: str) -> str:
    """The server of a bucket: the endpoint that the environment names, without what may be secret in it."""
    scheme = base.partition("://")[0]
    given = endpoint_of(scheme)
    if given is None:
        return BUCKETS.get(scheme, base)
    parts = urllib.parse.urlsplit(given)
    return f"{parts.scheme}://{(parts.netloc or parts.path).rpartition('@')[2]}"


_ENDPOINTS = {
    "s3": ("AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL", "AWS_ENDPOINT"),
    "gs": ("GOOGLE_BASE_URL",),
    "az": ("AZURE_STORAGE_ENDPOINT", "AZURE_ENDPOINT"),
}


def endpoint_of(scheme: str) -> str | None:
    """The address that the environment names for buckets of a scheme; None for the service's own."""
    given = next(filter(None, map(os.environ.get, _ENDPOINTS.get(scheme, ()))), None)
    if scheme == "az" and os.environ.get("AZURE_STORAGE_USE_EMULATOR", "").lower() in ("1", "true"):
        return os.environ.get("AZURITE_BLOB_STORAGE_URL") or _EMULATOR
    return given


def _endpoint_hint(scheme: str) -> str:
    if scheme == "s3":
        return ", the region (AWS_REGION) and the endpoint (AWS_ENDPOINT_URL)"
    return " and the account (AZURE_STORAGE_ACCOUNT_NAME)" if scheme == "az" else ""
