"""``python -m isc_fast.training`` does the same as ``isc-fast train``. torchrun needs this form:

torchrun --nproc-per-node=8 -m isc_fast.training --stage v86 --data DISC21 --init … -o runs/v86
"""

from __future__ import annotations

import sys

from ..cli.main import main

if __name__ == "__main__":
    sys.exit(main(["train", *sys.argv[1:]]))
