"""Credentials of S3 in the files of AWS's tools, where the environment has none: obstore reads the environment alone."""

from __future__ import annotations

import configparser
import os
from pathlib import Path

from ..errors import StoreError

_IN_ENVIRONMENT = (
    "AWS_ACCESS_KEY_ID",
    "AWS_WEB_IDENTITY_TOKEN_FILE",
    "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI",
    "AWS_CONTAINER_CREDENTIALS_FULL_URI",
    "AWS_SKIP_SIGNATURE",
)
_SECRETS = {
    "aws_access_key_id": "access_key_id",
    "aws_secret_access_key": "secret_access_key",
    "aws_session_token": "session_token",
}


def profile_options() -> dict[str, str]:
    """Options of a store from ``~/.aws/credentials`` and ``~/.aws/config``: of the profile AWS_PROFILE, or ``default``.

    What the environment says goes before the files.

    Raises:
        StoreError: AWS_PROFILE names a profile that is not there, or whose keys another program has to fetch.
    """
    name = os.environ.get("AWS_PROFILE")
    found = {
        **_section("AWS_CONFIG_FILE", "config", name),
        **_section("AWS_SHARED_CREDENTIALS_FILE", "credentials", name),
    }
    options = {}
    if "region" in found and not (os.environ.get("AWS_REGION") or os.environ.get("AWS_DEFAULT_REGION")):
        options["region"] = found["region"]
    if "endpoint_url" in found and not any(
        map(os.environ.get, ("AWS_ENDPOINT_URL", "AWS_ENDPOINT", "AWS_ENDPOINT_URL_S3"))
    ):
        options["endpoint"] = found["endpoint_url"]
    if any(map(os.environ.get, _IN_ENVIRONMENT)):
        return options
    keys = {ours: found[theirs] for theirs, ours in _SECRETS.items() if theirs in found}
    if name and not found:
        raise StoreError(f"AWS_PROFILE names the profile {name}, which is not in ~/.aws/credentials or ~/.aws/config")
    if name and "access_key_id" not in keys:
        raise StoreError(
            f"the profile {name} holds no keys of its own; get some first: "
            f'eval "$(aws configure export-credentials --profile {name} --format env)"'
        )
    return {**options, **keys}


def _section(variable: str, file: str, name: str | None) -> dict[str, str]:
    """What a file says of a profile; nothing where it cannot be read."""
    path = Path(os.environ.get(variable) or Path("~/.aws").expanduser() / file).expanduser()
    parser = configparser.RawConfigParser()
    try:
        parser.read(path, "utf-8")
    except (configparser.Error, UnicodeDecodeError):
        return {}
    wanted = name or "default"
    sections = (wanted, f"profile {wanted}") if file == "config" else (wanted,)
    return next((dict(parser[one]) for one in sections if parser.has_section(one)), {})
