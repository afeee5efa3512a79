"""``isc-fast verify``: check that a descriptor file is whole and sound."""

from __future__ import annotations

import json
from argparse import ArgumentParser, Namespace
from dataclasses import asdict

from .flags import add_json

HELP = "check that a descriptor file, an index or an unfinished extraction is whole and sound"
EXAMPLE = "isc-fast verify refs.h5"


def add(parser: ArgumentParser) -> None:
    """Add the flags."""
    parser.add_argument(
        "file", metavar="FILE", help="descriptors of any format, a folder of parts, an index, or OUTPUT.parts"
    )
    add_json(parser)


def run(arguments: Namespace) -> int:
    """Verify, and print each finding; the status is 1 where there is a problem."""
    from ..runs.checks.verification import verify_file

    found = verify_file(arguments.file)
    if arguments.json:
        findings = [asdict(finding) for finding in found.findings]
        print(json.dumps({"path": found.path, "sound": found.sound, "findings": findings}))
    else:
        for finding in found.findings:
            print(f"{finding.grade:<8} {finding.what:<10} {finding.words}")
        print(f"{found.path}: {'sound' if found.sound else 'not sound'}")
    return 0 if found.sound else 1
